"""
Replace stdout and stderr by streams that do not raise, so that a run does not depend on its output streams.

Examples are a closed pipe, a full disk, a closed descriptor, and an encoding without the needed characters.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

_DESCRIPTORS = (0, 1, 2)


class TolerantRaw(io.RawIOBase):
    """
    A writable descriptor that discards all data after the first error.

    Attributes:
        error: The first error, or None.
    """

    def __init__(self, descriptor: int, error: OSError | None = None) -> None:
        super().__init__()
        self.error = error
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return self.error is None and os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        size = len(memoryview(data).cast("B"))
        while self.error is None:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # another process has made the shared terminal non-blocking
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.error = error
        return size


def guard_streams() -> None:
    """Replace stdout and stderr by tolerant streams. Call this function once, when the process starts."""
    closed = _replace_closed_descriptors()
    sys.stdout = _tolerant(sys.stdout, 1, closed)
    sys.stderr = _tolerant(sys.stderr, 2, closed)


def output_error() -> OSError | None:
    """Return the error of the first failed write to stdout, or None."""
    buffer = getattr(sys.stdout, "buffer", None)
    raw = getattr(buffer, "raw", None)
    return raw.error if isinstance(raw, TolerantRaw) else None


def _replace_closed_descriptors() -> dict[int, OSError]:
    """Connect closed standard descriptors to the null device, so that no other file gets their numbers."""
    closed = {}
    for descriptor in _DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError as error:
            closed[descriptor] = error
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
    return closed


def _tolerant(stream: Any, descriptor: int, closed: dict[int, OSError]) -> io.TextIOWrapper:
    raw = TolerantRaw(descriptor, closed.get(descriptor))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=descriptor == 2 or raw.isatty(),
    )
