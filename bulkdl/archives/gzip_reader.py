"""
Decompress a gzip stream to its very end, with ``isal`` if it is installed and else with ``zlib``.

``gzip.GzipFile`` is not used: it is slower, and it cannot decompress with another library. Both libraries
verify the checksum and the length of each gzip member.
"""

from __future__ import annotations

import importlib
import io
import zlib
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import BinaryIO, Protocol

from bulkdl.archives.errors import DamagedArchiveError

GZIP_WBITS = 31
RAW_DEFLATE_WBITS = -15
_INPUT_BYTES = 64 << 10
_BUFFER_BYTES = 64 << 10


class Decompressor(Protocol):
    """The interface that ``zlib`` and ``isal`` share."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class InflateLibrary:
    """
    A library that decompresses deflate and gzip.

    Attributes:
        name: ``zlib`` or ``isal``.
        error: The exception for damaged data.
    """

    def __init__(self, name: str, module: ModuleType) -> None:
        self.name = name
        self.error: type[Exception] = module.error
        self._new: Callable[[int], Decompressor] = module.decompressobj

    def new_decompressor(self, wbits: int) -> Decompressor:
        return self._new(wbits)


def _load_libraries() -> dict[str, InflateLibrary]:
    libraries = {"zlib": InflateLibrary("zlib", zlib)}
    with suppress(ImportError):  # isal is in the extra "fast"
        libraries["isal"] = InflateLibrary("isal", importlib.import_module("isal.isal_zlib"))
    return libraries


INFLATE_LIBRARIES = _load_libraries()
"""The installed libraries by name. The last of them is the fastest."""


def fastest_library() -> InflateLibrary:
    return list(INFLATE_LIBRARIES.values())[-1]


class _GzipStream(io.RawIOBase):
    """The decompressed bytes of all gzip members in *raw*, one after another."""

    def __init__(self, raw: BinaryIO, library: InflateLibrary) -> None:
        super().__init__()
        self._raw = raw
        self._library = library
        self._input = b""
        self._current = library.new_decompressor(GZIP_WBITS)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while True:
            if self._current.eof and not self._begin_next_member():
                return 0
            data = self._input or self._raw.read(_INPUT_BYTES)
            try:
                block = self._current.decompress(data, len(buffer))
            except self._library.error as error:
                raise DamagedArchiveError(f"invalid gzip data: {error}") from None
            self._input = self._current.unused_data if self._current.eof else self._current.unconsumed_tail
            if block:
                buffer[: len(block)] = block
                return len(block)
            if not data and not self._current.eof:
                raise DamagedArchiveError("unexpected end of the gzip stream")

    def _begin_next_member(self) -> bool:
        """Skip zero bytes, which tape drives append, and return whether another gzip member follows."""
        self._input = self._input.lstrip(b"\0")
        while not self._input:
            block = self._raw.read(_INPUT_BYTES)
            if not block:
                return False
            self._input = block.lstrip(b"\0")
        self._current = self._library.new_decompressor(GZIP_WBITS)
        return True


def open_gzip(raw: BinaryIO, library: InflateLibrary | None = None) -> io.BufferedReader:
    """
    Return a reader of the decompressed bytes of *raw*.

    Reads raise ``DamagedArchiveError`` for a truncated stream, a wrong checksum, and data behind the end
    that is neither a gzip member nor zero bytes.
    """
    return io.BufferedReader(_GzipStream(raw, library or fastest_library()), _BUFFER_BYTES)
