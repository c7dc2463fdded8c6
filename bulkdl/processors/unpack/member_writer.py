"""
Write the data of one member and compute its checksums.

A large member is written in a second thread while the first one decompresses. Decompression, checksums and
writes release the interpreter lock, so that a member takes the time of its slowest part, not of all parts.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import google_crc32c

from bulkdl import syscalls
from bulkdl.concurrency import check_stop

BLOCK_BYTES = 256 << 10
# A smaller member takes less time than the start of a thread.
MIN_BACKGROUND_BYTES = 4 << 20
# Early writeback keeps the disk busy during the decompression and shortens the sync at the end.
_WRITEBACK_BYTES = 4 << 20
_MAX_QUEUED_BLOCKS = 8


class MemberWriter:
    """
    Writes blocks to the open file *handle*.

    Args:
        count: Called with the size of each written block.

    Attributes:
        size_bytes: The size of the written blocks.
        crc32c: Their checksum.
    """

    def __init__(self, handle: int, count: Callable[[int], None]) -> None:
        self.size_bytes = 0
        self.crc32c = 0
        self._sha256 = hashlib.sha256()
        self._handle = handle
        self._count = count
        self._started_bytes = 0

    @property
    def sha256(self) -> str:
        """Their SHA-256, in hexadecimal."""
        return self._sha256.hexdigest()

    def write(self, block: bytes) -> None:
        """Write *block* and add it to the checksums."""
        self.crc32c = google_crc32c.extend(self.crc32c, block)
        self._sha256.update(block)
        _write_all(self._handle, block)
        self.size_bytes += len(block)
        self._count(len(block))
        if self.size_bytes - self._started_bytes >= _WRITEBACK_BYTES:
            syscalls.start_writeback(self._handle, self._started_bytes, self.size_bytes - self._started_bytes)
            self._started_bytes = self.size_bytes


class BackgroundWriter:
    """
    Writes blocks with *writer* in a thread, a bounded number of blocks behind the caller.

    Use it as a context manager: leaving the block waits for the thread and raises its exception.

    Args:
        stop: If it is set, the thread writes nothing more, and the caller gets ReadStopped.
    """

    def __init__(self, writer: MemberWriter, stop: threading.Event) -> None:
        self._writer = writer
        self._stop = stop
        self._queue: queue.Queue[bytes] = queue.Queue(_MAX_QUEUED_BLOCKS)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="bulkdl-unpack-writer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._discard_queue()
        self._queue.put(b"")
        self._thread.join()
        if error is None:
            self._raise_error()

    def write(self, block: bytes) -> None:
        """Queue *block*; wait while the queue is full. Raises the exception of an earlier block."""
        self._raise_error()
        self._queue.put(block)

    def _discard_queue(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while block := self._queue.get():
            if self._error is not None:
                continue  # the queue is emptied, so that the caller does not wait for ever
            try:
                check_stop(self._stop)
                self._writer.write(block)
            except Exception as error:  # noqa: BLE001 - raised in the thread of the caller
                self._error = error


def _write_all(handle: int, block: bytes) -> None:
    written = os.write(handle, block)
    while written < len(block):
        written += os.write(handle, memoryview(block)[written:])
