"""
The pools: fixed workers, one lane for each kind, that bring what is missing.

An error in one output ends that output. Only what nobody can get past (a full disk) ends the run.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from bulkdl.errors import BulkdlError, Failure
from bulkdl.graph import planning
from bulkdl.graph.accounts import Accounts
from bulkdl.graph.channel import Channel
from bulkdl.graph.planning import Bundle, Wanted
from bulkdl.graph.record import Recorder
from bulkdl.ledger import queries
from bulkdl.ledger.ledger import Ledger
from bulkdl.model import Kind, Outcome, Output, Reason, Receipt, Result
from bulkdl.reactions import REACTIONS, Step
from bulkdl.settings import Settings
from bulkdl.sink.local import LocalSink
from bulkdl.telemetry.events import Reporter, RetryScheduled, TransferAdvanced, TransferStarted
from bulkdl.transfer.fetch import Fetcher, ended_by
from bulkdl.transfer.origins import ApiOrigin, SignedOrigin

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
        draining: Nothing more is to be taken up.
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
    ) -> None:
        self.sizes = {
            Kind.ARCHIVE: settings.archives,
            Kind.QUICKLOOK: settings.quicklooks,
            Kind.GEOJSON: settings.geojson,
        }
        self.lanes: dict[Kind, Channel[Bundle]] = {
            kind: Channel(max(64, 4 * size)) for kind, size in self.sizes.items()
        }
        self.draining = False
        self._settings = settings
        self._accounts = accounts
        self._sink = sink
        self._ledger = ledger
        self._fetcher = fetcher
        self._recorder = recorder
        self._reporter = reporter

    async def put(self, bundle: Bundle) -> None:
        """Put *bundle* into its lane, waiting for room."""
        await self.lanes[bundle[0].output.kind].put(bundle)

    async def work(self, kind: Kind) -> None:
        """Worker: bring one bundle after another."""
        async for bundle in self.lanes[kind]:
            for wanted in bundle:
                output = wanted.output
                if self.draining:
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
        self._reporter.report(TransferStarted(wanted.output))
        try:
            result = await self._guarded(wanted)
            await self._recorder.ended(result)
        except BaseException:
            self._recorder.cancelled(wanted.output)
            raise
        if result.outcome is Outcome.COMPLETED and wanted.output.kind is Kind.ARCHIVE:
            await self._sink.part(wanted.output).release()
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
            progress=partial(self._advanced, output),
            retry_scheduled=partial(self._retry_scheduled, output),
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

    def _advanced(self, output: Output, at_bytes: int, total_bytes: int | None, moved_bytes: int) -> None:
        self._reporter.report(TransferAdvanced(output, at_bytes, total_bytes, moved_bytes))

    def _retry_scheduled(self, output: Output, reason: Reason, delay_s: float) -> None:
        self._reporter.report(RetryScheduled(output, reason, delay_s))
