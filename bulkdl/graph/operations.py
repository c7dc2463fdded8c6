"""
Manage the runs and plans of one open Downloader. Each operation is a task with its own shutdown controller.

A separate task guarantees the clean-up of an operation. A caller that waits for it may be cancelled several
times. The operation is cancelled once, and the caller waits until its clean-up is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bulkdl.errors import DownloaderStateError, first_leaf_exception
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.shutdown import ShutdownController

T = TypeVar("T")


class Operations:
    """The active operations of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._active: dict[asyncio.Task[Any], ShutdownController] = {}
        self._next = ShutdownController()
        self._is_closed = False

    def start(
        self, work: Callable[[ShutdownController], Coroutine[Any, Any, T]], *, name: str
    ) -> asyncio.Task[T]:
        """
        Start *work* in a task. An earlier request to stop without an active operation applies to it.

        Raises:
            DownloaderStateError: The caller is in another event loop.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise DownloaderStateError(f"{name}(): the Downloader was opened in another event loop")
        stop, self._next = self._next, ShutdownController()
        task = self._loop.create_task(_with_plain_errors(work, stop), name=name)
        self._active[task] = stop
        task.add_done_callback(self._active.pop)
        return task

    async def result_of(self, task: asyncio.Task[T]) -> T:
        """
        Wait for the end of *task* and return its result; a cancelled caller cancels it.

        Raises:
            DownloaderStateError: ``close`` cancelled the task.
        """
        await _wait_for_end(task)
        if task.cancelled() and self._is_closed:
            raise DownloaderStateError("the Downloader was closed while it was running")
        return task.result()

    async def cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancel *task* unless it has ended, and wait for its end."""
        task.cancel()
        await _wait_for_end(task)
        _retrieve_exception(task)

    def stop(self, cause: ExitCode) -> None:
        """
        Request the end of the active operations, or of the next one if none is active.

        Safe to call from any thread and from a signal handler.
        """
        try:
            self._loop.call_soon_threadsafe(self._request_stop, cause)
        except RuntimeError as error:
            raise DownloaderStateError("stop(): the event loop of the Downloader is closed") from error

    def _request_stop(self, cause: ExitCode) -> None:
        for stop in tuple(self._active.values()) or (self._next,):
            stop.request(cause)

    async def close(self) -> None:
        """Cancel every active operation and wait for the end of each."""
        self._is_closed = True
        active = list(self._active)
        for task in active:
            task.cancel()
        for task in active:
            await _wait_for_end(task)


async def _with_plain_errors(
    work: Callable[[ShutdownController], Coroutine[Any, Any, T]], stop: ShutdownController
) -> T:
    """Raise the first error of a group in place of the group: callers catch plain exceptions."""
    try:
        return await work(stop)
    except BaseExceptionGroup as errors:
        raise first_leaf_exception(errors) from None


async def _wait_for_end(task: asyncio.Task[Any]) -> None:
    """Wait for *task*. A cancelled caller cancels it once, and still waits for its end."""
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            if cancellation is None:
                task.cancel()
            cancellation = error
    if cancellation is not None:
        _retrieve_exception(task)
        raise cancellation


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Retrieve the exception of *task*, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()
