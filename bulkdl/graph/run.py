"""
One run: its stages are connected by bounded channels and run in one TaskGroup.

    find ─► pending ─► list ─► queues (one for each kind) ─► pools ─► recorder

A stage that ends closes the channels that it fed, so the run ends when all channels are empty. Draining
cancels the enumeration, empties the queues, and cancels the transfers that cannot finish within the shutdown
timeout. A cancelled transfer can be resumed. When the timeout expires, or the run is aborted, all transfers
are cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from bulkdl.concurrency import Channel, ChannelClosed
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.enumeration import Enumeration
from bulkdl.graph.pools import Pools
from bulkdl.graph.run_context import RunContext
from bulkdl.log import get_logger
from bulkdl.telemetry.events import EnumerationFinished

log = get_logger(__name__)

Worker = Callable[[], Coroutine[Any, Any, None]]

_RECHECK_S = 1.0


class Run:
    """The stages of one run."""

    def __init__(
        self,
        context: RunContext,
        enumerations: Sequence[Enumeration],
        pools: Pools,
        *,
        list_concurrency: int,
        shutdown_timeout_s: float,
        max_duration_s: float,
    ) -> None:
        self._enumerations = enumerations
        self._pools = pools
        self._summary = context.recorder.summary
        self._reporter = context.reporter
        self._shutdown = context.shutdown
        self._list_concurrency = list_concurrency
        self._shutdown_timeout_s = shutdown_timeout_s
        self._max_duration_s = max_duration_s
        self._enumeration_cancelled = False

    async def execute(self) -> None:
        """Run all stages until they are done, or the run is stopped."""
        try:
            await self._run_stages()
        finally:
            self._pools.cancel_queued()
        if not self._enumeration_cancelled and not self._summary.cancelled:
            self._shutdown.clear_cause_if_complete()

    async def _run_stages(self) -> None:
        async with asyncio.TaskGroup() as group:
            enumeration = group.create_task(
                enumerate_all(self._enumerations, self._list_concurrency, self._end_enumeration),
                name="enumeration",
            )
            downloads = group.create_task(self._download(), name="downloads")
            supervisors = [group.create_task(self._supervise(enumeration, downloads), name="stop")]
            supervisors += [
                group.create_task(self._pools.adapt(kind), name=f"adapt-{kind}")
                for kind, limits in self._pools.limits.items()
                if limits.is_adaptive
            ]
            await asyncio.wait([downloads])
            for task in supervisors:
                task.cancel()

    def _end_enumeration(self) -> None:
        self._reporter.report(EnumerationFinished())
        for queue in self._pools.queues.values():
            queue.close()

    async def _download(self) -> None:
        async with asyncio.TaskGroup() as group:
            for kind, limits in self._pools.limits.items():
                for number in range(limits.workers):
                    group.create_task(self._pools.work(kind), name=f"{kind}-{number}")

    async def _supervise(self, enumeration: asyncio.Task[None], downloads: asyncio.Task[None]) -> None:
        """Wait for the request to stop or the maximum duration; then drain the run."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._max_duration_s or None):
                await self._shutdown.draining.wait()
        self._shutdown.drain(ExitCode.MAX_DURATION)
        log.warning("run.draining", shutdown_timeout_s=self._shutdown_timeout_s)
        self._enumeration_cancelled = enumeration.cancel()
        self._pools.cancel_queued()
        try:
            async with asyncio.timeout(self._shutdown_timeout_s):
                await self._cancel_slow_until_aborted()
        except TimeoutError:
            log.warning("run.shutdown_timeout", shutdown_timeout_s=self._shutdown_timeout_s)
        downloads.cancel()

    async def _cancel_slow_until_aborted(self) -> None:
        """Cancel, again and again, the transfers that became too slow; return when the run is aborted."""
        while not self._shutdown.aborting.is_set():
            self._pools.cancel_slow_transfers(self._shutdown_timeout_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(_RECHECK_S):
                    await self._shutdown.aborting.wait()


async def enumerate_all(
    enumerations: Sequence[Enumeration], concurrency: int, on_end: Callable[[], None] | None = None
) -> None:
    """
    Run both stages of the enumerations of all sources.

    Args:
        concurrency: Number of workers of each stage of a source.
        on_end: Called after the last output has been passed on.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for enumeration in enumerations:
                find = [enumeration.find_containers] * concurrency
                group.create_task(_run_stage("find", find, [enumeration.pending]))
                group.create_task(_run_stage("list", [enumeration.list_containers] * concurrency, []))
    except* ChannelClosed:
        pass  # the run is being drained
    finally:
        if on_end is not None:
            on_end()


async def _run_stage(name: str, workers: Sequence[Worker], channels: Sequence[Channel[Any]]) -> None:
    """Run *workers* to their end, then close the *channels* that they fed."""
    try:
        async with asyncio.TaskGroup() as group:
            for number, worker in enumerate(workers):
                group.create_task(worker(), name=f"{name}-{number}")
    finally:
        for channel in channels:
            channel.close()
