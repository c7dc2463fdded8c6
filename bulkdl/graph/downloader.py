"""
The library's front door: settings in, summary out. It opens what a run needs, in the order in which
it can be refused, and closes it again whatever happens.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Self

import structlog

from bulkdl.errors import ConfigError, SinkFailure, first_of
from bulkdl.graph.accounts import Accounts
from bulkdl.graph.bringing import Bringer
from bulkdl.graph.channel import Channel
from bulkdl.graph.enumeration import Enumeration
from bulkdl.graph.holding import held
from bulkdl.graph.notes import Notes
from bulkdl.graph.outlets import Outlets, outlets_of
from bulkdl.graph.pools import Pools, RunStopped
from bulkdl.graph.record import Listener, Recorder
from bulkdl.graph.run import Run, enumerate_all
from bulkdl.graph.sizes import sizes_of
from bulkdl.graph.stop import Stop
from bulkdl.http.pace import Pace
from bulkdl.ledger import queries
from bulkdl.ledger.ledger import LEDGER_NAME, Ledger
from bulkdl.log import get_logger
from bulkdl.model import Kind, Result
from bulkdl.reactions import Exit
from bulkdl.report.plan import Plan, PlanBuilder
from bulkdl.report.run_report import run_report
from bulkdl.report.summary import Summary, SummaryBuilder
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet, Settings, load_credentials
from bulkdl.settings.bandwidth_schedule import BandwidthSchedule
from bulkdl.sink.local import LocalSink
from bulkdl.telemetry.events import LanesOpened, NullReporter, Reporter, RunFinished, RunStarted
from bulkdl.transfer.fetch import Fetcher
from bulkdl.transfer.means import Limits, Means
from bulkdl.transfer.permits import Permits

log = get_logger(__name__)


_OUTCOMES_WAITING = 64


class Downloader:
    """
    Fetches every selected output that is not there yet.

    Args:
        settings: Where from, where to, how; ``output`` must be set.
        credentials: By default those of the environment and of the settings.
        reporter: Takes the events of a run as they happen.

    Raises:
        ConfigError: There is no output directory, or there are no credentials.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        credentials: CredentialSet | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        if settings.output is None:
            raise ConfigError("--output", "is missing: name the directory that the outputs go to")
        self.summary: Summary | None = None
        self._settings = settings
        self._book = credentials if credentials is not None else load_credentials(settings)
        self._reporter = reporter or NullReporter()
        self._sink = LocalSink(settings.output, settings.durability)
        self._bandwidth = Pace(0, 1)
        self._stack = AsyncExitStack()
        self._accounts: Accounts
        self._stop: Stop

    async def __aenter__(self) -> Self:
        self._stop = Stop()
        self._accounts = await self._stack.enter_async_context(
            Accounts(self._settings, self._book, self._reporter)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def stop(self, cause: Exit = Exit.INTERRUPTED) -> None:
        """
        End the run: the first call drains, the second aborts.

        Args:
            cause: Becomes the exit code of the summary (130 and 143 are those of signals). It is
                never 0: what was left out must be no watermark for the runs after it.
        """
        self._stop.request(cause)

    async def run(self, selection: Selection | None = None) -> Summary:
        """
        Fetch what is missing of *selection* (by default: what the settings select).

        A failed output is no exception; the summary tells of it.

        Raises:
            ConfigError: The output directory or the selection cannot be used.
            DirectoryHeld: Another run is at work there.
            LedgerError: The ledger cannot be used.
        """
        return await self._execute(selection, None)

    async def outcomes(self, selection: Selection | None = None) -> AsyncIterator[Result]:
        """
        Run, and give out each result once it is recorded; ``summary`` is there afterwards.

        Leaving the iteration early stops the run.
        """
        channel: Channel[Result] = Channel(_OUTCOMES_WAITING)

        async def execute() -> None:
            try:
                await self._execute(selection, channel.put)
            finally:
                channel.close()

        run = asyncio.create_task(execute(), name="run")
        try:
            async for result in channel:
                yield result
            await run
        finally:
            run.cancel()
            await asyncio.wait([run])

    async def plan(self, selection: Selection | None = None) -> Plan:
        """
        Enumerate as a run would, and say what it would fetch. Nothing is written anywhere.

        Stopped, it says what it has found so far.
        """
        selection = self._checked(selection)
        builder = self._summary_builder(selection, "plan")
        async with AsyncExitStack() as stack:
            ledger = None
            path = self._sink.state / LEDGER_NAME
            if await asyncio.to_thread(path.exists):
                ledger = await Ledger.open(path, read_only=True)
                stack.push_async_callback(ledger.close)
                selection = await _since_last_run(selection, ledger)
            plan = PlanBuilder(builder)
            outlets = outlets_of(plan, self._settings.path_templates)
            notes = Notes(ledger, written=False)
            enumeration = self._enumeration(selection, notes, builder, outlets)
            await self._unless_stopped(enumerate_all(enumeration, self._settings.list_concurrency))
        return plan.build(stopped_by=self._stop.cause)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Do *work*, to its end or until the first request to stop."""
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work, name="plan")
            stopping = group.create_task(self._stop.draining.wait(), name="stop")
            await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            working.cancel()
            stopping.cancel()

    def _checked(self, selection: Selection | None) -> Selection:
        selection = selection if selection is not None else Selection.of(self._settings)
        if not (selection.project_ids or self._accounts.project_ids or _all_placed(selection)):
            raise ConfigError(
                "--project", "is missing: name a project, or set UP42_PROJECT_ID, or add [[projects]] tables"
            )
        if selection.jobs or selection.project_ids:
            return selection
        # By name: a project that joins the config later is no part of this one's watermark.
        return replace(selection, project_ids=self._accounts.project_ids)

    def _summary_builder(self, selection: Selection, run_id: str) -> SummaryBuilder:
        builder = SummaryBuilder(run_id, datetime.now(UTC))
        for project_id in selection.project_ids or self._accounts.project_ids:
            builder.add_project(project_id)
        return builder

    async def _execute(self, selection: Selection | None, listener: Listener | None) -> Summary:
        selection = self._checked(selection)
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        builder = self._summary_builder(selection, run_id)
        with structlog.contextvars.bound_contextvars(run_id=run_id):
            async with held(self._sink, run_id, lost=self._stop.abort, sleep=self._stop.sleep) as ledger:
                log.info("run.started", output=str(self._sink.root))
                self._reporter.report(RunStarted(run_id, datetime.now(UTC)))
                selection = await _since_last_run(selection, ledger)
                await self._go(selection, ledger, builder, run_id, listener)
                self.summary = builder.build(stopped_by=self._stop.cause)
                await self._conclude(ledger, self.summary, selection)
        return self.summary

    async def _go(
        self,
        selection: Selection,
        ledger: Ledger,
        builder: SummaryBuilder,
        run_id: str,
        listener: Listener | None,
    ) -> None:
        settings = self._settings
        recorder = Recorder(ledger, run_id, builder, self._reporter, listener, locate=self._sink.locate)
        permits = {kind: Permits(size.start) for kind, size in sizes_of(settings).items()}
        fetcher = self._fetcher(permits[Kind.ARCHIVE])
        bringer = Bringer(settings, self._accounts, self._sink, ledger, fetcher)
        pools = Pools(settings, bringer, recorder, self._reporter, self._stop, permits)
        outlets = Outlets(pools.put, recorder.settled, recorder.ended, recorder.problem)
        enumeration = self._enumeration(selection, Notes(ledger), builder, outlets)
        depths = {str(kind): lane.__len__ for kind, lane in pools.lanes.items()}
        self._reporter.report(LanesOpened({"jobs": enumeration.pending.__len__, **depths}))
        run = Run(settings, enumeration, pools, recorder, self._reporter, self._stop)
        try:
            await ledger.write(partial(queries.start_run, run_id=run_id, scope=selection.scope))
            async with asyncio.TaskGroup() as group:
                schedule_task = group.create_task(
                    _apply_bandwidth_schedule(self._bandwidth, settings.bwlimit)
                )
                await run.execute()
                schedule_task.cancel()
        except* RunStopped:
            log.warning("run.stopped")  # the result that stopped it is recorded already
        except* SinkFailure as failures:
            failure = first_of(failures)
            assert isinstance(failure, SinkFailure)  # noqa: S101 - except* has just said so
            recorder.problem(failure.reason, f"output directory {self._sink.root}", failure.detail)

    async def _conclude(self, ledger: Ledger, summary: Summary, selection: Selection) -> None:
        """Leave the report of the run; a full disk must not hide its result."""
        report = run_report(summary, selection, self._settings)
        document = json.dumps(report, indent=1, ensure_ascii=False)
        try:
            await ledger.write(
                partial(
                    queries.finish_run,
                    run_id=summary.run_id,
                    exit_code=int(summary.exit_code),
                    summary=document,
                )
            )
            await self._sink.publish({f".bulkdl/runs/{summary.run_id}.json": document.encode()})
        except SinkFailure as failure:
            log.warning("report.failed", reason=failure.reason.value, detail=failure.detail)
        log.info(
            "run.finished",
            exit_code=int(summary.exit_code),
            duration_s=round(summary.duration_s, 3),
            moved_bytes=summary.moved_bytes,
        )
        self._reporter.report(RunFinished(summary.finished_at, int(summary.exit_code)))

    def _fetcher(self, permits: Permits) -> Fetcher:
        settings = self._settings
        limits = Limits(
            speed_limit_bytes_per_s=settings.speed_limit,
            speed_time_s=settings.speed_time,
            ceilings={
                Kind.ARCHIVE: settings.archive_max_size,
                Kind.QUICKLOOK: settings.quicklook_max_size,
                Kind.GEOJSON: settings.geojson_max_size,
            },
            segment_bytes=settings.segment_min_size,
            connections=settings.connections,
            segment_below_bytes_per_s=settings.segment_if_slower_than,
        )
        return Fetcher(Means(limits, self._accounts.policy, self._bandwidth, permits))

    def _enumeration(
        self, selection: Selection, notes: Notes, builder: SummaryBuilder, outlets: Outlets
    ) -> Enumeration:
        return Enumeration(
            selection=selection,
            names=self._settings.path_templates,
            accounts=self._accounts,
            sink=self._sink,
            notes=notes,
            counts=builder.jobs,
            outlets=outlets,
            reporter=self._reporter,
        )


async def _since_last_run(selection: Selection, ledger: Ledger) -> Selection:
    if selection.since_last_s is None:
        return selection
    watermark_at = await ledger.read(partial(queries.watermark_at, scope=selection.scope))
    log.info("watermark.read", watermark_at=watermark_at.isoformat() if watermark_at else None)
    return selection.since_run_at(watermark_at)


def _all_placed(selection: Selection) -> bool:
    return bool(selection.jobs) and all(ref.project_id for ref in selection.jobs)


async def _apply_bandwidth_schedule(pace: Pace, schedule: BandwidthSchedule) -> None:
    """Have the limit of the hour in force."""
    while True:
        now = datetime.now().astimezone()
        pace.set_rate(schedule.limit_at(now))
        await asyncio.sleep(schedule.next_change_s(now))
