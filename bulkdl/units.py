"""
Format sizes, rates and durations. All other modules use these functions.

Sizes are multiples of 1024, as in the settings: ``500G`` in a flag and ``500.0 GiB`` in a summary are the
same number of bytes.
"""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
_LARGEST_EXACT = 1000  # below this, a number with one decimal has at most five characters


def format_size(size_bytes: float) -> str:
    """Format a size: ``0 B``, ``512 B``, ``1.5 GiB``."""
    size = float(size_bytes)
    if abs(size) < _LARGEST_EXACT:
        return f"{size:.0f} B"
    power = 0
    while power == 0 or (abs(size) >= _LARGEST_EXACT and power < len(_UNITS)):
        size, power = size / _STEP, power + 1
    return f"{size:.1f} {_UNITS[power - 1]}"


def format_rate(bytes_per_s: float) -> str:
    """Format a transfer rate: ``12.3 MiB/s``."""
    return f"{format_size(bytes_per_s)}/s"


def format_clock(seconds: float, *, decimals: int = 1) -> str:
    """Format a duration: ``1.5 s`` below a minute, then ``M:SS`` or ``H:MM:SS``."""
    if seconds < 59.95 and round(seconds, decimals) < 60:
        return f"{seconds:.{decimals}f} s"
    minutes, remainder = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{remainder:02}" if hours else f"{minutes}:{remainder:02}"
