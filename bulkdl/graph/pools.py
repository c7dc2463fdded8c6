"""
The pools: fixed workers, one lane for each kind, that bring what is missing.

An error in one output ends that output. Only what nobody can get past (a full disk) ends the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import structlog

from bulkdl.errors import BulkdlError, Failure
from bulkdl.graph import planning
from bulkdl.graph.accounts import Accounts
from bulkdl.graph.adapt import TROUBLE, Climb, Meter, keep_adapting
from bulkdl.graph.channel import Channel
from bulkdl.graph.flight import Flight, may_end
from bulkdl.graph.planning import Bundle, Wanted
from bulkdl.graph.record import Recorder
from bulkdl.graph.sizes import sizes_of
from bulkdl.graph.stop import Stop
from bulkdl.ledger import queries
from bulkdl.ledger.ledger import Ledger
from bulkdl.model import Kind, Outcome, Output, Reason, Receipt, Result
from bulkdl.reactions import REACTIONS, Exit, Step
from bulkdl.settings import Settings
from bulkdl.sink.local import LocalSink
from bulkdl.telemetry.events import Reporter, RetryScheduled, TransferAdvanced, TransferStarted
from bulkdl.transfer.fetch import Fetcher, ended_by
from bulkdl.transfer.origins import ApiOrigin, SignedOrigin
from bulkdl.transfer.permits import Permits

log = structlog.get_logger(__name__)


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
        accounts: Accounts,
        sink: LocalSink,
        ledger: Ledger,
        fetcher: Fetcher,
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
        self._settings = settings
        self._accounts = accounts
        self._sink = sink
        self._ledger = ledger
        self._fetcher = fetcher
        self._recorder = recorder
        self._reporter = reporter
        self._stop = stop
        self._moved_bytes = 0
        self._flights: dict[asyncio.Task[Any], Flight] = {}

    async def put(self, bundle: Bundle) -> None:
        """Put *bundle* into its lane, waiting for room."""
        await self.lanes[bundle[0].output.kind].put(bundle)

    def stop_slow(self, grace_s: float) -> None:
        """Cancel the workers whose transfers will not end within *grace_s*."""
        now_s = time.monotonic()
        for worker, flight in list(self._flights.items()):
            if not may_end(flight, now_s, grace_s):
                worker.cancel()

    async def adapt(self, kind: Kind) -> None:
        """Have as many at work as pays; ends only when cancelled."""
        meter, size = self._meters[kind], self.sizes[kind]
        climb = Climb(size.least, size.most, size.start)
        await keep_adapting(climb, self._permits[kind], meter)

    async def work(self, kind: Kind) -> None:
        """Worker: bring one bundle after another, each with a permit."""
        lane, permits = self.lanes[kind], self._permits[kind]
        while await lane.ready():
            await permits.acquire()
            try:
                bundle = await lane.take()
                if bundle is not None:
                    await self._bring_all(bundle)
            finally:
                permits.release()

    async def _bring_all(self, bundle: Bundle) -> None:
        for wanted in bundle:
            output = wanted.output
            if self._stop.draining.is_set():
                self._recorder.cancelled(output)
                continue
            with structlog.contextvars.bound_contextvars(
                project_id=output.project_id,
                job_id=output.job_id,
                task_id=output.task_id,
                kind=output.kind.value,
            ):
                await self._bring(wanted)

    async def _bring(self, wanted: Wanted) -> None:
        output = wanted.output
        worker = asyncio.current_task()
        assert worker is not None  # noqa: S101 - workers are tasks
        self._flights[worker] = Flight(output, time.monotonic())
        self._reporter.report(TransferStarted(output))
        try:
            result = await self._guarded(wanted)
            await self._recorder.ended(result)
        except BaseException:
            self._recorder.cancelled(output, moved_bytes=self._flights[worker].moved_bytes)
            raise
        finally:
            del self._flights[worker]
        if output.kind is not Kind.ARCHIVE:
            self._meters[output.kind].add(1)
        elif result.outcome is Outcome.COMPLETED:
            await self._sink.part(output).release()
        if result.outcome is Outcome.FAILED and REACTIONS[result.reason].step is Step.STOP_RUN:
            raise RunStopped(result)

    async def _guarded(self, wanted: Wanted) -> Result:
        """A bug that one output brings to light must not take the others down with it."""
        try:
            return await self._fetch(wanted)
        except (BulkdlError, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("transfer.crashed")
            return Result(wanted.output, Outcome.FAILED, Reason.INTERNAL, detail=type(error).__name__)

    async def _fetch(self, wanted: Wanted) -> Result:
        output = wanted.output
        client = self._accounts.client(output.project_id)
        origin: SignedOrigin | ApiOrigin
        if output.kind is Kind.ARCHIVE:
            origin = SignedOrigin(
                self._accounts.storage,
                partial(client.sign, output),
                self._accounts.cooldown,
                self._accounts.policy,
                headers_timeout_s=self._settings.headers_timeout_s,
            )
            try:
                await origin.prepare()
                linked = await self._link_twin(wanted, origin.source)
            except Failure as failure:
                return ended_by(output, failure)
            if linked is not None:
                return linked
        else:
            origin = ApiOrigin(partial(client.open, output))
        return await self._fetcher.fetch(
            output,
            origin,
            self._sink.part(output),
            planning.key_of(wanted, self._settings.names),
            progress=partial(self._advanced, output, self._flight()),
            retry_scheduled=partial(self._retry_scheduled, output, self._flight()),
        )

    async def _link_twin(self, wanted: Wanted, source: str | None) -> Result | None:
        """Link the same object of the same job, if it has been fetched and is still there."""
        if source is None:
            return None
        twin = await self._ledger.read(partial(queries.twin, output=wanted.output, source=source))
        if twin is None or self._sink.sizes([twin.key]).get(twin.key) != twin.size_bytes:
            return None
        suffix = next(each for each in (".tar.gz", ".tar", ".zip", ".bin", "") if twin.key.endswith(each))
        key = planning.key_of(wanted, self._settings.names)(suffix)
        await self._sink.link(twin.key, key)
        receipt = Receipt(key, twin.size_bytes, twin.digest, twin.validator, twin.source)
        return Result(wanted.output, Outcome.COMPLETED, Reason.LINKED, receipt)

    def _flight(self) -> Flight:
        worker = asyncio.current_task()
        assert worker is not None  # noqa: S101 - workers are tasks
        return self._flights[worker]

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
        if self._settings.max_transfer and self._moved_bytes >= self._settings.max_transfer:
            self._stop.drain(Exit.MAX_TRANSFER)
        self._reporter.report(TransferAdvanced(output, at_bytes, total_bytes, moved_bytes))

    def _retry_scheduled(self, output: Output, flight: Flight, reason: Reason, delay_s: float) -> None:
        flight.waiting = delay_s > 0
        if reason in TROUBLE:
            self._meters[output.kind].note_trouble()
        self._reporter.report(RetryScheduled(output, reason, delay_s))
