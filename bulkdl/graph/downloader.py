"""
The library's front door: settings in, summary out. It opens what a run needs, in the order in which
it can be refused, and closes it again whatever happens.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Self

import structlog

from bulkdl.concurrency import Channel, ConcurrencyLimiter, Executors
from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.destinations.local.state_directory import STATE_FOLDER
from bulkdl.errors import ConfigError, DestinationError, DownloaderStateError, first_leaf_exception
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.download_output import OutputFetcher
from bulkdl.graph.enumeration import Enumeration
from bulkdl.graph.enumeration_results import EnumerationHandler, PlanHandler, RunHandler
from bulkdl.graph.ledger_view import EmptyLedgerView, LedgerView, PlanLedgerView, RunLedgerView
from bulkdl.graph.operations import Operations
from bulkdl.graph.pools import Pools, RunStopped
from bulkdl.graph.recorder import Listener, Recorder
from bulkdl.graph.run import Run, enumerate_all
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.graph.sizes import open_file_limit, pool_limits, run_sizes
from bulkdl.http.rate_limit import RateLimiter
from bulkdl.ledger import queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.locked import open_locked_ledger
from bulkdl.log import get_logger
from bulkdl.models import Kind, Result
from bulkdl.printable import json_text
from bulkdl.report.plan import Plan, PlanBuilder
from bulkdl.report.run_report import run_report
from bulkdl.report.summary import Summary, SummaryBuilder
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet, Settings, load_credentials
from bulkdl.settings.bandwidth_schedule import BandwidthSchedule
from bulkdl.sources.up42_jobs.clients import ApiClients, SessionOptions
from bulkdl.sources.up42_jobs.endpoints import endpoint_label
from bulkdl.telemetry.events import STORAGE, NullReporter, QueuesOpened, Reporter, RunFinished, RunStarted
from bulkdl.telemetry.http_tracing import trace_requests
from bulkdl.transfer.context import Limits, TransferContext

log = get_logger(__name__)


_RESULTS_WAITING = 64


class Downloader:
    """
    Downloads every selected output that is missing.

    Use it as an async context manager. Leaving the block cancels what is still running, waits for its
    end and closes all connections. A Downloader can run several times, one run after the other.

    Args:
        settings: Source, destination and limits; ``output`` is required.
        credentials: Default: the credentials of the environment and of the settings.
        reporter: Receives the events of a run.

    Attributes:
        summary: Of the last run; None while a run is active and after a run that was cancelled.

    Raises:
        ConfigError: The output directory or the credentials are missing.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        credentials: CredentialSet | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        output = settings.require_output()
        self.summary: Summary | None = None
        self._settings = settings
        self._book = credentials if credentials is not None else load_credentials(settings)
        self._reporter = reporter or NullReporter()
        executors = Executors(settings.disk_threads, settings.inspection_threads)
        self._sink = LocalDestination(output, settings.durability, executors)
        self._bandwidth = RateLimiter(0, 1)
        self._accounts = _api_clients(self._settings, self._book, self._reporter)
        self._operations: Operations | None = None

    async def __aenter__(self) -> Self:
        if self._operations is not None:
            raise DownloaderStateError("the Downloader is already open; open it once, or make another one")
        self._operations = Operations(asyncio.get_running_loop())
        try:
            self._accounts = _api_clients(self._settings, self._book, self._reporter)
            await self._accounts.__aenter__()
        except BaseException:
            self._operations = None
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._opened("__aexit__()").close()
        finally:
            self._operations = None
            await self._accounts.__aexit__(kind, error, trace)
            self._sink.close()

    def _opened(self, call: str) -> Operations:
        if self._operations is None:
            raise DownloaderStateError(
                f"{call}: the Downloader is not open; call it inside `async with Downloader(...)`"
            )
        return self._operations

    def stop(self, cause: ExitCode = ExitCode.INTERRUPTED) -> None:
        """
        End the active run: the first call drains, the second call aborts.

        It can be called from any thread and takes effect in the event loop. Without an active run, the
        next run is drained when it starts. Runs after that are not affected.

        Args:
            cause: Becomes the exit code of the summary (130 and 143 stand for signals). It is never 0:
                a run that was stopped must not set a watermark for later runs.

        Raises:
            DownloaderStateError: The Downloader is not open.
        """
        self._opened("stop()").stop(cause)

    async def run(self, selection: Selection | None = None) -> Summary:
        """
        Download what is missing of *selection* (default: the selection of the settings).

        A failed output is not an exception; it is listed in the summary.

        Raises:
            ConfigError: The output directory or the selection cannot be used.
            OutputLockedError: Another run holds the output directory.
            DownloaderStateError: The Downloader is not open, or was closed during the run.
            LedgerError: The ledger cannot be used.
            DestinationError: The disk is full or fails.
        """
        operations = self._opened("run()")
        self.summary = None
        run = operations.start(lambda stop: self._execute(selection, None, stop), name="run")
        return await operations.result_of(run)

    @asynccontextmanager
    async def stream(self, selection: Selection | None = None) -> AsyncIterator[AsyncIterator[Result]]:
        """
        Run, and iterate over the results, each after it has been recorded.

        ``async with downloader.stream() as results: async for result in results: ...``. After the last
        result, ``summary`` is set. Leaving the block before the last result cancels the run, waits for
        its end and releases the output directory.

        Raises:
            BulkdlError: As ``run`` (ConfigError, OutputLockedError, LedgerError, DestinationError). The
                iteration raises it, or leaving the block does if the caller did not iterate to the end.
        """
        operations = self._opened("stream()")
        channel: Channel[Result] = Channel(_RESULTS_WAITING)
        self.summary = None
        run = operations.start(lambda stop: self._execute(selection, channel.put, stop), name="run")
        run.add_done_callback(lambda _run: channel.close())
        try:
            yield _results(channel, operations, run)
        finally:
            await operations.cancel(run)
        if not run.cancelled():
            run.result()

    async def plan(self, selection: Selection | None = None) -> Plan:
        """
        List what a run would download. Nothing is written.

        After ``stop``, the plan contains what has been found so far.

        Raises:
            ConfigError, DownloaderStateError, LedgerError, DestinationError: As ``run``.
        """
        operations = self._opened("plan()")
        return await operations.result_of(
            operations.start(lambda stop: self._plan(selection, stop), name="plan")
        )

    async def _plan(self, selection: Selection | None, stop: ShutdownController) -> Plan:
        selection = self._checked(selection)
        builder = self._summary_builder(selection, "plan")
        async with AsyncExitStack() as stack:
            ledger_view: LedgerView = EmptyLedgerView()
            path = self._sink.state.ledger_path
            if await asyncio.to_thread(path.exists):
                ledger = await Ledger.open(path, read_only=True)
                stack.push_async_callback(ledger.close)
                selection = await _since_last_run(selection, ledger)
                ledger_view = PlanLedgerView(ledger)
            plan = PlanBuilder(builder)
            handler = PlanHandler(plan, self._settings.path_templates)
            enumeration = self._enumeration(selection, ledger_view, handler)
            await _unless_stopped(enumerate_all(enumeration, self._settings.list_concurrency), stop)
        return plan.build(stopped_by=stop.cause)

    def _checked(self, selection: Selection | None) -> Selection:
        selection = selection if selection is not None else Selection.of(self._settings)
        if not (selection.project_ids or self._accounts.project_ids or _all_have_project(selection)):
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

    async def _execute(
        self, selection: Selection | None, listener: Listener | None, stop: ShutdownController
    ) -> Summary:
        selection = self._checked(selection)
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        builder = self._summary_builder(selection, run_id)
        with structlog.contextvars.bound_contextvars(run_id=run_id):
            async with open_locked_ledger(self._sink, run_id, on_lost=stop.abort, sleep=stop.sleep) as ledger:
                log.info("run.started", output=str(self._sink.root))
                self._reporter.report(RunStarted(run_id, datetime.now(UTC)))
                selection = await _since_last_run(selection, ledger)
                await self._run_pipeline(selection, ledger, builder, run_id, listener, stop)
                self.summary = builder.build(stopped_by=stop.cause)
                await self._finish_run(ledger, self.summary, selection)
        return self.summary

    async def _run_pipeline(
        self,
        selection: Selection,
        ledger: Ledger,
        builder: SummaryBuilder,
        run_id: str,
        listener: Listener | None,
        stop: ShutdownController,
    ) -> None:
        settings = self._settings
        recorder = Recorder(ledger, run_id, builder, self._reporter, listener, locate=self._sink.locate)
        permits = {kind: ConcurrencyLimiter(size.start) for kind, size in pool_limits(settings).items()}
        context = self._transfer_context(permits[Kind.ARCHIVE])
        output_fetcher = OutputFetcher(settings, self._accounts, self._sink, ledger, context)
        pools = Pools(settings, output_fetcher, recorder, self._reporter, stop, permits)
        enumeration = self._enumeration(selection, RunLedgerView(ledger, run_id), RunHandler(pools, recorder))
        depths = {str(kind): queue.__len__ for kind, queue in pools.queues.items()}
        self._reporter.report(QueuesOpened({"jobs": enumeration.pending.__len__, **depths}))
        run = Run(settings, enumeration, pools, recorder, self._reporter, stop)
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
        except* DestinationError as failures:
            failure = first_leaf_exception(failures)
            assert isinstance(failure, DestinationError)  # noqa: S101 - except* has just said so
            recorder.record_problem(failure.reason, f"output directory {self._sink.root}", failure.detail)

    async def _finish_run(self, ledger: Ledger, summary: Summary, selection: Selection) -> None:
        """Leave the report of the run; a full disk must not hide its result."""
        report = run_report(summary, selection, self._settings)
        document = json_text(report, indent=1)
        try:
            await ledger.write(
                partial(
                    queries.finish_run,
                    run_id=summary.run_id,
                    exit_code=int(summary.exit_code),
                    summary=document,
                )
            )
            await self._sink.publish({f"{STATE_FOLDER}/runs/{summary.run_id}.json": document.encode()})
        except DestinationError as failure:
            log.warning("report.failed", reason=failure.reason.value, detail=failure.detail)
        log.info(
            "run.finished",
            exit_code=int(summary.exit_code),
            duration_s=round(summary.duration_s, 3),
            downloaded_bytes=summary.downloaded_bytes,
        )
        self._reporter.report(RunFinished(summary.finished_at, int(summary.exit_code)))

    def _transfer_context(self, permits: ConcurrencyLimiter) -> TransferContext:
        settings = self._settings
        limits = Limits(
            speed_limit_bytes_per_s=settings.speed_limit,
            speed_time_s=settings.speed_time,
            max_bytes={
                Kind.ARCHIVE: settings.archive_max_size,
                Kind.QUICKLOOK: settings.quicklook_max_size,
                Kind.GEOJSON: settings.geojson_max_size,
            },
            segment_min_size_bytes=settings.segment_min_size,
            connections=settings.connections,
            segment_if_slower_than_bytes_per_s=settings.segment_if_slower_than,
        )
        return TransferContext(limits, self._accounts.policy, self._bandwidth, permits)

    def _enumeration(
        self, selection: Selection, ledger_view: LedgerView, handler: EnumerationHandler
    ) -> Enumeration:
        return Enumeration(
            selection=selection,
            path_templates=self._settings.path_templates,
            clients=self._accounts,
            destination=self._sink,
            ledger_view=ledger_view,
            handler=handler,
            reporter=self._reporter,
            recheck_absent_s=self._settings.recheck_absent_for,
        )


def _api_clients(settings: Settings, credentials: CredentialSet, reporter: Reporter) -> ApiClients:
    sizes = run_sizes(settings, open_file_limit())
    return ApiClients(
        settings,
        credentials,
        SessionOptions(
            sizes.api_connections, partial(trace_requests, reporter=reporter, label=endpoint_label)
        ),
        SessionOptions(
            sizes.storage_connections,
            partial(trace_requests, reporter=reporter, label=lambda _method, _url: STORAGE),
        ),
    )


async def _results(
    channel: Channel[Result], operations: Operations, run: asyncio.Task[Any]
) -> AsyncIterator[Result]:
    async for result in channel:
        yield result
    await operations.result_of(run)


async def _unless_stopped(work: Coroutine[Any, Any, None], stop: ShutdownController) -> None:
    """Do *work* until it ends or the first request to stop."""
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work, name="enumeration")
        stopping = group.create_task(stop.draining.wait(), name="stop")
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        stopping.cancel()


async def _since_last_run(selection: Selection, ledger: Ledger) -> Selection:
    if selection.since_last_s is None:
        return selection
    watermark_at = await ledger.read(partial(queries.find_watermark, scope=selection.scope))
    log.info("watermark.read", watermark_at=watermark_at.isoformat() if watermark_at else None)
    return selection.with_watermark(watermark_at)


def _all_have_project(selection: Selection) -> bool:
    return bool(selection.jobs) and all(ref.project_id for ref in selection.jobs)


async def _apply_bandwidth_schedule(pace: RateLimiter, schedule: BandwidthSchedule) -> None:
    """Have the limit of the hour in force."""
    while True:
        now = datetime.now().astimezone()
        pace.set_rate(schedule.limit_at(now))
        await asyncio.sleep(schedule.next_change_s(now))
