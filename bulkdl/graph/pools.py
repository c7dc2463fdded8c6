"""
The pools: fixed workers, one lane for each kind, that bring what is missing.

An error in one output ends that output. Only what nobody can get past (a full disk) ends the run.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from bulkdl.errors import BulkdlError
from bulkdl.graph.adapt import TROUBLE, Climb, Meter, keep_adapting
from bulkdl.graph.bringing import Bringer, FailedObjects
from bulkdl.graph.channel import Channel
from bulkdl.graph.flight import Flight, may_end
from bulkdl.graph.planning import Bundle, Wanted
from bulkdl.graph.record import Recorder
from bulkdl.graph.sizes import sizes_of
from bulkdl.graph.stop import Stop
from bulkdl.log import get_logger
from bulkdl.model import Kind, Outcome, Output, Reason, Result
from bulkdl.reactions import REACTIONS, Exit, Step
from bulkdl.settings import Settings
from bulkdl.telemetry.events import Reporter, RetryScheduled, TransferAdvanced, TransferStarted
from bulkdl.transfer.permits import Permits

log = get_logger(__name__)


# What an output that has ended counts for in the rate of its pool. An archive's is in bytes, and an archive
# costs requests, however small it is.
_WORTH = {Kind.ARCHIVE: 1 << 20, Kind.QUICKLOOK: 1, Kind.GEOJSON: 1}


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
        bringer: Bringer,
        recorder: Recorder,
        reporter: Reporter,
        stop: Stop,
        permits: Mapping[Kind, Permits],
    ) -> None:
        self.sizes = sizes_of(settings)
        self.lanes: dict[Kind, Channel[Bundle]] = {
            kind: Channel(max(64, 4 * size.workers)) for kind, size in self.sizes.items()
        }
        self._permits = permits
        self._meters = {kind: Meter() for kind in Kind}
        self._max_transfer = settings.max_transfer
        self._bringer = bringer
        self._recorder = recorder
        self._reporter = reporter
        self._stop = stop
        self._moved_bytes = 0
        self._flights: dict[asyncio.Task[Any], Flight] = {}
        self._under_way: set[Output] = set()

    def reserve(self, missing: Sequence[Wanted]) -> tuple[Wanted, ...]:
        """
        Return those of *missing* that are not in progress, and note them as in progress.

        A job that was listed twice has outputs that are in progress already: two workers on one partial
        file would spoil it.
        """
        new = tuple(wanted for wanted in missing if wanted.output not in self._under_way)
        self._under_way.update(wanted.output for wanted in new)
        return new

    async def put(self, bundle: Bundle) -> None:
        """
        Put *bundle*, whose outputs are reserved, into its queue, waiting for room.

        If the run is stopped before there is room, its outputs are recorded as cancelled.
        """
        try:
            await self.lanes[bundle[0].output.kind].put(bundle)
        except BaseException:
            for wanted in bundle:
                self._recorder.cancelled(wanted.output)
            raise

    def stop_slow(self, grace_s: float) -> None:
        """Cancel the workers whose transfers will not end within *grace_s*; each once: it is cleaning up."""
        now_s = time.monotonic()
        for worker, flight in list(self._flights.items()):
            if not worker.cancelling() and not may_end(flight, now_s, grace_s):
                worker.cancel()

    async def adapt(self, kind: Kind) -> None:
        """Have as many at work as pays; ends only when cancelled."""
        meter, size = self._meters[kind], self.sizes[kind]
        climb = Climb(size.least, size.most, size.start)
        with structlog.contextvars.bound_contextvars(kind=kind.value):
            await keep_adapting(climb, self._permits[kind], meter)

    async def work(self, kind: Kind) -> None:
        """Worker: bring one bundle after another, with a permit that it keeps while there are more."""
        lane, permits = self.lanes[kind], self._permits[kind]
        while await lane.ready():
            await permits.acquire()
            try:
                while not permits.too_many and (bundle := lane.take()) is not None:
                    await self._bring_all(bundle)
                    self._under_way.difference_update(wanted.output for wanted in bundle)
            finally:
                permits.release()

    async def _bring_all(self, bundle: Bundle) -> None:
        """When a budget is used up, a bundle that was begun goes on: what follows in it costs a link."""
        failed: FailedObjects = {}
        goes_on = False
        for wanted in bundle:
            output = wanted.output
            if self._stop.requested or (self._stop.draining.is_set() and not goes_on):
                self._recorder.cancelled(output)
                continue
            with structlog.contextvars.bound_contextvars(
                project_id=output.project_id,
                job_id=output.job_id,
                task_id=output.task_id,
                kind=output.kind.value,
            ):
                await self._bring(wanted, failed)
            goes_on = True

    async def _bring(self, wanted: Wanted, failed: FailedObjects) -> None:
        output = wanted.output
        worker = asyncio.current_task()
        assert worker is not None  # noqa: S101 - workers are tasks
        flight = self._flights[worker] = Flight(output, time.monotonic())
        self._reporter.report(TransferStarted(output))
        try:
            result = await self._guarded(wanted, failed, flight)
            result = await self._recorder.ended(result)
        except BaseException:  # cancelled, or its end could not be recorded: it is told either way
            self._recorder.cancelled(output, moved_bytes=flight.moved_bytes)
            raise
        finally:
            del self._flights[worker]
        self._meters[output.kind].add(_WORTH[output.kind])
        await self._bringer.recorded(result)
        if result.outcome is Outcome.FAILED and REACTIONS[result.reason].step is Step.STOP_RUN:
            raise RunStopped(result)

    async def _guarded(self, wanted: Wanted, failed: FailedObjects, flight: Flight) -> Result:
        """A bug that one output brings to light must not take the others down with it."""
        output = wanted.output
        try:
            return await self._bringer.bring(
                wanted,
                failed,
                progress=partial(self._advanced, output, flight),
                retry_scheduled=partial(self._retry_scheduled, output, flight),
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

    def _advanced(
        self, output: Output, flight: Flight, at_bytes: int, total_bytes: int | None, moved_bytes: int
    ) -> None:
        flight.waiting = False
        meter = self._meters[output.kind]
        if output.kind is Kind.ARCHIVE:
            meter.add(moved_bytes)
        if not flight.moved_bytes:
            meter.note_latency(time.monotonic() - flight.started_s)
        flight.at_bytes, flight.total_bytes = at_bytes, total_bytes
        flight.moved_bytes += moved_bytes
        self._moved_bytes += moved_bytes
        if self._max_transfer and self._moved_bytes >= self._max_transfer:
            self._stop.drain(Exit.MAX_TRANSFER)
        self._reporter.report(TransferAdvanced(output, at_bytes, total_bytes, moved_bytes))

    def _retry_scheduled(self, output: Output, flight: Flight, reason: Reason, delay_s: float) -> None:
        flight.waiting = delay_s > 0
        if reason in TROUBLE:
            self._meters[output.kind].note_trouble()
        self._reporter.report(RetryScheduled(output, reason, delay_s))
