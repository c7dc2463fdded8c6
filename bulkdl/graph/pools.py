"""
The pools: fixed workers, one lane for each kind, that bring what is missing.

An error in one output ends that output. Only what nobody can get past (a full disk) ends the run.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Mapping
from typing import Any

import structlog

from bulkdl.concurrency import Channel, ConcurrencyLimiter
from bulkdl.errors import BulkdlError
from bulkdl.failure_policy import FAILURE_POLICIES, RetryAction
from bulkdl.graph.autoscale import (
    ConcurrencyController,
    ThroughputMeter,
    adapt_concurrency,
)
from bulkdl.graph.download_output import FailureByObject, OutputFetcher
from bulkdl.graph.flight import ActiveTransfer, can_finish_within
from bulkdl.graph.recorder import Recorder
from bulkdl.graph.reservations import OutputReservations
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.graph.sizes import pool_limits
from bulkdl.graph.transfer_monitor import TransferBudget, TransferMonitor
from bulkdl.log import get_logger
from bulkdl.models import Kind, Outcome, Reason, Result
from bulkdl.settings import Settings
from bulkdl.sources.up42_jobs.planning import MissingOutput, SameObjectGroup
from bulkdl.telemetry.events import Reporter, TransferStarted

log = get_logger(__name__)


# What an output that has ended counts for in the rate of its pool. An archive's is in bytes, and an archive
# costs requests, however small it is.
_COMPLETION_WEIGHT = {Kind.ARCHIVE: 1 << 20, Kind.QUICKLOOK: 1, Kind.GEOJSON: 1}


class RunStopped(Exception):
    """An output failed in a way that every other one would."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.detail)
        self.result = result


class Pools:
    """
    Attributes:
        lanes: What is to be fetched, by kind.
    """

    def __init__(
        self,
        settings: Settings,
        output_fetcher: OutputFetcher,
        recorder: Recorder,
        reporter: Reporter,
        stop: ShutdownController,
        permits: Mapping[Kind, ConcurrencyLimiter],
    ) -> None:
        self.sizes = pool_limits(settings)
        self.queues: dict[Kind, Channel[SameObjectGroup]] = {
            kind: Channel(max(64, 4 * size.workers)) for kind, size in self.sizes.items()
        }
        self._permits = permits
        self._meters = {kind: ThroughputMeter() for kind in Kind}
        self._budget = TransferBudget(settings.max_transfer, stop)
        self._output_fetcher = output_fetcher
        self._recorder = recorder
        self._reporter = reporter
        self._stop = stop
        self._active: dict[asyncio.Task[Any], ActiveTransfer] = {}
        self.reservations = OutputReservations()

    async def put(self, group: SameObjectGroup) -> None:
        """
        Put *bundle*, whose outputs are reserved, into its queue, waiting for room.

        If the run is stopped before there is room, its outputs are recorded as cancelled.
        """
        try:
            await self.queues[group[0].output.kind].put(group)
        except BaseException:
            for wanted in group:
                self._recorder.record_cancelled(wanted.output)
            raise

    def cancel_slow_transfers(self, grace_s: float) -> None:
        """Cancel the workers whose transfers will not end within *grace_s*; each once: it is cleaning up."""
        now_s = time.monotonic()
        for worker, flight in list(self._active.items()):
            if not worker.cancelling() and not can_finish_within(flight, now_s, grace_s):
                worker.cancel()

    async def adapt(self, kind: Kind) -> None:
        """Have as many at work as pays; ends only when cancelled."""
        meter, size = self._meters[kind], self.sizes[kind]
        climb = ConcurrencyController(size.min_permits, size.max_permits, size.start)
        with structlog.contextvars.bound_contextvars(kind=kind.value):
            await adapt_concurrency(climb, self._permits[kind], meter)

    async def work(self, kind: Kind) -> None:
        """Worker: bring one bundle after another, with a permit that it keeps while there are more."""
        queue, permits = self.queues[kind], self._permits[kind]
        while await queue.wait_ready():
            await permits.acquire()
            try:
                while not permits.is_over_limit and (group := queue.get_nowait()) is not None:
                    await self._fetch_group(group)
                    self.reservations.release(missing.output for missing in group)
            finally:
                permits.release()

    async def _fetch_group(self, group: SameObjectGroup) -> None:
        """When a budget is used up, a bundle that was begun goes on: what follows in it costs a link."""
        failed: FailureByObject = {}
        goes_on = False
        for number, wanted in enumerate(group, start=1):
            output = wanted.output
            if self._stop.requested or (self._stop.draining.is_set() and not goes_on):
                self._recorder.record_cancelled(output)
                continue
            with structlog.contextvars.bound_contextvars(
                project_id=output.project_id,
                job_id=output.job_id,
                task_id=output.task_id,
                kind=output.kind.value,
            ):
                try:
                    await self._fetch_one(wanted, failed)
                except BaseException:  # the run is being stopped: every reserved output must end
                    for following in group[number:]:
                        self._recorder.record_cancelled(following.output)
                    raise
            goes_on = True

    async def _fetch_one(self, wanted: MissingOutput, failed: FailureByObject) -> None:
        output = wanted.output
        worker = asyncio.current_task()
        assert worker is not None  # noqa: S101 - workers are tasks
        flight = self._active[worker] = ActiveTransfer(output, time.monotonic())
        self._reporter.report(TransferStarted(output))
        try:
            result = await self._fetch_isolated(wanted, failed, flight)
            result = await self._recorder.record(result)
        except BaseException:  # cancelled, or the result could not be recorded
            self._recorder.record_cancelled(output, downloaded_bytes=flight.downloaded_bytes)
            raise
        finally:
            del self._active[worker]
        self._meters[output.kind].add(_COMPLETION_WEIGHT[output.kind])
        await self._recorder.deliver(result)
        await self._output_fetcher.release_part(result)
        if (
            result.outcome is Outcome.FAILED
            and FAILURE_POLICIES[result.reason].action is RetryAction.STOP_RUN
        ):
            raise RunStopped(result)

    async def _fetch_isolated(
        self, wanted: MissingOutput, failed: FailureByObject, flight: ActiveTransfer
    ) -> Result:
        """A bug that one output brings to light must not take the others down with it."""
        output = wanted.output
        try:
            return await self._output_fetcher.fetch(
                wanted,
                failed,
                TransferMonitor(output, flight, self._meters[output.kind], self._budget, self._reporter),
            )
        except BulkdlError:
            raise
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                log.exception("transfer.crashed")
                return Result(output, Outcome.FAILED, Reason.INTERNAL, detail=type(error).__name__)
            return Result(output, Outcome.FAILED, Reason.TOO_MANY_OPEN_FILES, detail=str(error.strerror))
        except Exception as error:  # whatever a bug may raise
            log.exception("transfer.crashed")
            return Result(output, Outcome.FAILED, Reason.INTERNAL, detail=type(error).__name__)
