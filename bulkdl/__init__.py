"""
Fetch every output of many UP42 jobs at once: resumable, verified, unattended.

``Downloader`` is the library; ``bulkdl --help`` is the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bulkdl.graph.downloader import Downloader
    from bulkdl.selection import Selection
    from bulkdl.settings import Settings

__version__ = "0.1.0"
__all__ = ["Downloader", "Selection", "Settings", "__version__"]


def __getattr__(name: str) -> Any:
    # LoadedSettings on first use: the values at the bottom of the house must not pull in its roof.
    if name == "Downloader":
        from bulkdl.graph.downloader import Downloader  # noqa: PLC0415

        return Downloader
    if name == "Selection":
        from bulkdl.selection import Selection  # noqa: PLC0415

        return Selection
    if name == "Settings":
        from bulkdl.settings import Settings  # noqa: PLC0415

        return Settings
    raise AttributeError(f"module 'bulkdl' has no attribute {name!r}")
