"""Raise the limit of open files of this process."""

from __future__ import annotations

from contextlib import suppress


def raise_open_file_limit() -> None:
    """Raise the soft limit of open files to the hard limit, on systems with such limits."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    with suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
