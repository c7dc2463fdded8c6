"""
Provide the synchronisation primitives of the tasks and the thread pools for blocking work.

Each purpose has its own thread pool, so that slow work of one kind does not delay another. The default
executor of the event loop is left to name resolution, which aiohttp runs there.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")

DISK_THREADS = 16
INSPECTION_THREADS = 2
PROCESSING_THREADS = 2
# A compressed block of this size can unpack to a thousand times as much before the next check.
_READ_BYTES = 64 << 10


class WaitQueue:
    """
    Coroutines that wait for a condition. A notification wakes one of them.

    ``asyncio.Condition`` wakes with a lock that each waiter acquires again. Before Python 3.13, a waiter that
    is cancelled just after it was woken loses the notification. This class passes it to the next waiter.
    """

    def __init__(self) -> None:
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait_for(self, is_ready: Callable[[], object]) -> None:
        """Return once *is_ready* returns a true value; call it immediately and after each notification."""
        while not is_ready():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if not waiter.cancelled():
                    self.notify()
                with suppress(ValueError):
                    self._waiters.remove(waiter)
                raise

    def notify(self, count: int = 1) -> None:
        """Wake the *count* coroutines that have waited longest, so that they check their condition again."""
        while count > 0 and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():  # a done waiter is cancelled but has not removed itself yet
                waiter.set_result(None)
                count -= 1

    def notify_all(self) -> None:
        self.notify(len(self._waiters))


class ChannelClosed(Exception):
    """The channel is closed and accepts no more items."""


class Channel(Generic[T]):
    """
    A bounded first-in, first-out queue between two stages that can be closed.

    ``asyncio.Queue`` can be shut down only since Python 3.13. This class has what the stages need of it.

    Args:
        capacity: Maximum number of items in the channel.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._takers = WaitQueue()
        self._putters = WaitQueue()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> None:
        """
        Add *item*; wait while the channel is full.

        Raises:
            ChannelClosed: The channel is closed.
        """
        await self._putters.wait_for(lambda: self._closed or len(self._items) < self._capacity)
        if self._closed:
            raise ChannelClosed
        self._items.append(item)
        self._takers.notify()

    def offer(self, item: T) -> bool:
        """Add *item* if the channel is open and has a free place; return whether it was added."""
        if self._closed or len(self._items) >= self._capacity:
            return False
        self._items.append(item)
        self._takers.notify()
        return True

    async def wait_ready(self) -> bool:
        """
        Wait until the channel has an item, and return True; return False once it is closed and empty.

        The caller must take an item after True, because the notification is consumed.
        """
        await self._takers.wait_for(lambda: self._closed or self._items)
        return bool(self._items)

    def get_nowait(self) -> T | None:
        """Return the next item, or None if another task has taken it since ``wait_ready``."""
        return self._next() if self._items else None

    def _next(self) -> T:
        self._putters.notify()
        return self._items.popleft()

    def __aiter__(self) -> Channel[T]:
        return self

    async def __anext__(self) -> T:
        """Return the next item; end the iteration when the channel is closed and empty."""
        if not await self.wait_ready():
            raise StopAsyncIteration
        return self._next()

    def close(self) -> None:
        """Reject further items. Items in the channel can still be taken."""
        self._closed = True
        self._takers.notify_all()
        self._putters.notify_all()

    def close_and_drain(self) -> list[T]:
        """Close the channel; remove and return its items."""
        drained = list(self._items)
        self._items.clear()
        self.close()
        return drained


class ReadStopped(Exception):
    """A read in a thread was stopped, because the task that waits for it was cancelled."""


class Executors:
    """
    The thread pools of one run. A pool is created on first use.

    Args:
        disk_threads: Threads for short disk operations: block writes, syncs, renames.
        inspection_threads: Threads for reading archives again, and as many for other files.
        processing_threads: Threads of the processors.
    """

    def __init__(
        self,
        disk_threads: int = DISK_THREADS,
        inspection_threads: int = INSPECTION_THREADS,
        processing_threads: int = PROCESSING_THREADS,
    ) -> None:
        self._threads = {
            "disk": disk_threads,
            "flush": 1,
            "archives": inspection_threads,
            "files": inspection_threads,
            "processing": processing_threads,
        }
        self._pools: dict[str, ThreadPoolExecutor] = {}

    @property
    def disk(self) -> Executor:
        """Short disk operations."""
        return self._pool("disk")

    @property
    def flush(self) -> Executor:
        """Syncs before a ledger transaction, which must not wait behind the writes of other outputs."""
        return self._pool("flush")

    @property
    def archives(self) -> Executor:
        """Reading of whole archives, which can take hours."""
        return self._pool("archives")

    @property
    def files(self) -> Executor:
        """Reading of quicklooks and GeoJSON, which must not wait for archives."""
        return self._pool("files")

    @property
    def processing(self) -> Executor:
        """Work of the processors, which must not delay downloads."""
        return self._pool("processing")

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
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        stop.set()
        future.cancel()
        running = asyncio.wrap_future(future)
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


async def shield_until_done(work: Coroutine[Any, Any, None]) -> None:
    """
    Await *work*, a short critical section, to its end even if the caller is cancelled once or several times.

    A cancelled caller gets ``CancelledError``, not an error of *work*.
    """
    running = asyncio.ensure_future(work)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # the cancellation outranks it
        raise


class ConcurrencyLimiter:
    """
    A limit on concurrent work, which can change during the work.

    A worker holds a permit for its output. Additional connections of a large archive take spare permits.
    These are available only while no worker waits for a permit.

    Attributes:
        limit: Permits that may be in use. A lower limit revokes none: holders check ``is_over_limit``.
        in_use: Permits in use.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self._waiting_workers = 0
        self._workers = WaitQueue()
        self._spares = WaitQueue()

    @property
    def is_over_limit(self) -> bool:
        """Whether more permits are in use than the limit allows."""
        return self.in_use > self.limit

    async def acquire(self) -> None:
        """Wait for a permit for an output, and take it."""
        self._waiting_workers += 1
        try:
            await self._workers.wait_for(lambda: self.in_use < self.limit)
            self.in_use += 1
        finally:
            self._waiting_workers -= 1
            self._notify()

    async def acquire_spare(self) -> None:
        """Wait for a permit for which no worker waits, and take it."""
        await self._spares.wait_for(lambda: self.in_use < self.limit and not self._waiting_workers)
        self.in_use += 1

    def release(self) -> None:
        """Return a permit."""
        self.in_use -= 1
        self._notify()

    def release_if_over_limit(self) -> bool:
        """Return a spare permit if too many are in use; return whether it was released."""
        if not self.is_over_limit:
            return False
        self.release()
        return True

    def resize(self, limit: int) -> None:
        """Change the limit."""
        self.limit = limit
        self._notify()

    def _notify(self) -> None:
        free = self.limit - self.in_use
        self._workers.notify(free)
        if not self._waiting_workers:
            self._spares.notify(free)
