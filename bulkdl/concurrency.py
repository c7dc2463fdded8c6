"""
Thread pools for blocking work, one for each purpose, so that slow work of one kind does not delay another.

The default executor of the event loop is left to name resolution, which aiohttp runs there.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

DISK_THREADS = 16
INSPECTION_THREADS = 2
# A compressed block of this size can unpack to a thousand times as much before the next check.
_READ_BYTES = 64 << 10


class ReadStopped(Exception):
    """A read in a thread was stopped, because the task that waits for it was cancelled."""


class Executors:
    """
    The thread pools of one run. A pool is created on first use.

    Args:
        disk_threads: Threads for short disk operations: block writes, syncs, renames.
        inspection_threads: Threads for reading archives again, and as many for other files.
    """

    def __init__(
        self, disk_threads: int = DISK_THREADS, inspection_threads: int = INSPECTION_THREADS
    ) -> None:
        self._threads = {"disk": disk_threads, "archives": inspection_threads, "files": inspection_threads}
        self._pools: dict[str, ThreadPoolExecutor] = {}

    @property
    def disk(self) -> Executor:
        """Short disk operations."""
        return self._pool("disk")

    @property
    def archives(self) -> Executor:
        """Reading of whole archives, which can take hours."""
        return self._pool("archives")

    @property
    def files(self) -> Executor:
        """Reading of quicklooks and GeoJSON, which must not wait for archives."""
        return self._pool("files")

    def _pool(self, purpose: str) -> Executor:
        if purpose not in self._pools:
            self._pools[purpose] = ThreadPoolExecutor(self._threads[purpose], f"bulkdl-{purpose}")
        return self._pools[purpose]

    def close(self) -> None:
        """Drop what has not started and let idle threads end; the next use creates new pools."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        self._pools.clear()


async def run_in(executor: Executor, call: Callable[..., T], *args: object) -> T:
    """Await *call* in a thread of *executor*. Cancellation does not stop it."""
    work = partial(copy_context().run, call, *args)
    return await asyncio.get_running_loop().run_in_executor(executor, work)


async def run_stoppable(executor: Executor, call: Callable[..., T], *args: object) -> T:
    """
    Await ``call(stop, *args)`` in a thread of *executor*.

    Cancellation sets *stop*, a ``threading.Event``, and waits until *call* has returned. It must check the
    event often.
    """
    stop = threading.Event()
    future = executor.submit(copy_context().run, call, stop, *args)
    running = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        future.cancel()
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # the cancellation outranks it
        raise


def check_stop(stop: threading.Event) -> None:
    """
    Return unless *stop* is set.

    Raises:
        ReadStopped: It is set.
    """
    if stop.is_set():
        raise ReadStopped


class _StoppableStream(io.RawIOBase):
    """The bytes of *raw*, whose reads fail once *stop* is set."""

    def __init__(self, raw: io.FileIO | io.BytesIO, stop: threading.Event) -> None:
        super().__init__()
        self._raw = raw
        self._stop = stop

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def readinto(self, buffer: bytearray | memoryview) -> int | None:  # type: ignore[override]
        check_stop(self._stop)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def open_stoppable(content: Path | bytes, stop: threading.Event) -> io.BufferedReader:
    """Open a file, or bytes in memory, for reading; a read raises ReadStopped once *stop* is set."""
    raw = io.BytesIO(content) if isinstance(content, bytes) else io.FileIO(content, "rb")
    return io.BufferedReader(_StoppableStream(raw, stop), _READ_BYTES)
