"""
One run: the stages wired together by bounded channels, in one TaskGroup.

    find jobs ─► pending ─► list jobs ─► lanes (one a kind) ─► pools ─► recorder

A stage that ends closes the channels it fed, so the run ends by running dry. Draining cancels the
stages before the lanes, empties these, and cancels the workers that cannot end within the grace, each at
a byte from which it can go on; when the grace is over, or the run is aborted, so are the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from bulkdl.concurrency import Channel, ChannelClosed
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.enumeration import Enumeration
from bulkdl.graph.pools import Pools
from bulkdl.graph.recorder import Recorder
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.log import get_logger
from bulkdl.settings import Settings
from bulkdl.telemetry.events import EnumerationFinished, Reporter

log = get_logger(__name__)

Worker = Callable[[], Coroutine[Any, Any, None]]

_LOOK_AGAIN_S = 1.0


class Run:
    """The stages of one run."""

    def __init__(
        self,
        settings: Settings,
        enumeration: Enumeration,
        pools: Pools,
        recorder: Recorder,
        reporter: Reporter,
        stop: ShutdownController,
    ) -> None:
        self._enumeration = enumeration
        self._pools = pools
        self._recorder = recorder
        self._reporter = reporter
        self._stop = stop
        self._enumerators = settings.list_concurrency
        self._shutdown_timeout_s = settings.shutdown_timeout
        self._max_duration_s = settings.max_duration
        self._cut_short = False

    async def execute(self) -> None:
        """Run all stages until they are done, or the run is stopped."""
        try:
            await self._run_stages()
        finally:
            self._cancel_queued()
        if not self._cut_short and not self._recorder.summary.cancelled:
            self._stop.clear_cause_if_complete()

    async def _run_stages(self) -> None:
        async with asyncio.TaskGroup() as group:
            enumeration = group.create_task(
                enumerate_all(self._enumeration, self._enumerators, self._end_enumeration), name="enumeration"
            )
            downloads = group.create_task(self._download(), name="downloads")
            supervisors = [group.create_task(self._supervise(enumeration, downloads), name="stop")]
            supervisors += [
                group.create_task(self._pools.adapt(kind), name=f"adapt-{kind}")
                for kind, limits in self._pools.sizes.items()
                if limits.min_permits < limits.max_permits
            ]
            await asyncio.wait([downloads])
            for task in supervisors:
                task.cancel()

    async def _end_enumeration(self) -> None:
        self._reporter.report(EnumerationFinished())
        for queue in self._pools.queues.values():
            queue.close()

    def _cancel_queued(self) -> None:
        """Record the outputs in the queues as cancelled."""
        for queue in self._pools.queues.values():
            for group in queue.close_and_drain():
                for missing in group:
                    self._recorder.record_cancelled(missing.output)

    async def _download(self) -> None:
        async with asyncio.TaskGroup() as group:
            for kind, size in self._pools.sizes.items():
                for number in range(size.workers):
                    group.create_task(self._pools.work(kind), name=f"{kind}-{number}")

    async def _supervise(self, enumeration: asyncio.Task[None], downloads: asyncio.Task[None]) -> None:
        """Wait for the request to stop or the maximum duration; then drain the run."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._max_duration_s or None):
                await self._stop.draining.wait()
        self._stop.drain(ExitCode.MAX_DURATION)
        log.warning("run.draining", shutdown_timeout_s=self._shutdown_timeout_s)
        self._cut_short = enumeration.cancel()
        self._cancel_queued()
        try:
            async with asyncio.timeout(self._shutdown_timeout_s):
                await self._wait_for_in_flight()
        except TimeoutError:
            log.warning("run.shutdown_timeout", shutdown_timeout_s=self._shutdown_timeout_s)
        downloads.cancel()

    async def _wait_for_in_flight(self) -> None:
        """Stop what will not end, judged anew as it goes on; returns when the run is aborted."""
        while not self._stop.aborting.is_set():
            self._pools.cancel_slow_transfers(self._shutdown_timeout_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._stop.aborting.wait()


async def enumerate_all(
    enumeration: Enumeration, enumerators: int, finish: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Both stages of the enumeration; *finish* is called when the last output is handed over."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(stage("find", [enumeration.find_jobs] * enumerators, [enumeration.pending]))
            group.create_task(stage("list", [enumeration.list_jobs] * enumerators, []))
    except* ChannelClosed:
        pass  # the run is being drained
    finally:
        if finish is not None:
            await finish()


async def stage(name: str, workers: Sequence[Worker], feeds: Sequence[Channel[Any]]) -> None:
    """Run *workers* to their end, then close the channels that they fed."""
    try:
        async with asyncio.TaskGroup() as group:
            for number, worker in enumerate(workers):
                group.create_task(worker(), name=f"{name}-{number}")
    finally:
        for channel in feeds:
            channel.close()
