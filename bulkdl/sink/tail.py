"""A file on disk and the bytes that are still in memory behind it, read as one."""

from __future__ import annotations

import io
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast


class WithTail(io.RawIOBase):
    """A seekable, read-only stream of *path* (None: nothing) followed by *tail*."""

    def __init__(self, path: Path | None, tail: bytes) -> None:
        super().__init__()
        self._stream: BinaryIO = path.open("rb") if path is not None else io.BytesIO()
        self._file_bytes = self._stream.seek(0, io.SEEK_END)
        self._tail = tail
        self._at = 0

    def __enter__(self) -> BinaryIO:  # type: ignore[override] # a reader wants a BinaryIO
        return cast("BinaryIO", io.BufferedReader(self, 1 << 20))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file_bytes + len(self._tail)}
        self._at = max(0, base[whence] + offset)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._at < self._file_bytes:
            self._stream.seek(self._at)
            data = self._stream.read(min(len(buffer), self._file_bytes - self._at))
        else:
            start = self._at - self._file_bytes
            data = self._tail[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
