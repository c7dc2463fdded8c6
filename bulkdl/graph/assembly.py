"""Builds the stages of a run or a plan from the settings, and executes a run."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Self

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.errors import DestinationError, first_leaf_exception
from bulkdl.graph.enumeration import Enumeration, EnumerationContext
from bulkdl.graph.enumeration_results import EnumerationHandler, PlanHandler, RunHandler
from bulkdl.graph.ledger_view import LedgerView, RunLedgerView
from bulkdl.graph.pool_limits import RunLimits, compute_run_limits, get_open_file_limit
from bulkdl.graph.pools import OutputDownloader, Pools, RunStopped
from bulkdl.graph.processing import Processing
from bulkdl.graph.run import Run
from bulkdl.graph.run_context import RunContext
from bulkdl.graph.run_reports import store_report
from bulkdl.http.rate_limit import RateLimiter
from bulkdl.ledger import queries
from bulkdl.log import get_logger
from bulkdl.report.plan import PlanBuilder
from bulkdl.report.summary import Summary
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet, Settings
from bulkdl.settings.bandwidth_schedule import BandwidthSchedule
from bulkdl.sources.interfaces import Source, SourceContext, SourceType
from bulkdl.sources.registry import source_layout
from bulkdl.sources.sessions import SessionOptions, Sessions
from bulkdl.state.storage import Storage
from bulkdl.telemetry.events import STORAGE, QueuesOpened, Reporter
from bulkdl.telemetry.http_tracing import trace_requests
from bulkdl.transfer.context import Limits, TransferContext

log = get_logger(__name__)


class RunAssembly:
    """
    Builds and executes the runs of one open Downloader. The rate limits apply to all of its runs together.

    An async context manager, which opens the sessions and the source.
    """

    def __init__(
        self,
        settings: Settings,
        source_type: SourceType,
        credentials: CredentialSet,
        storage: Storage,
        reporter: Reporter,
        processing: Processing | None = None,
    ) -> None:
        self._spec = source_type.spec
        limits = compute_run_limits(settings, get_open_file_limit(), self._spec.kinds)
        self._sessions = _new_sessions(settings, source_type, limits, reporter)
        self._source_context = SourceContext(settings, credentials, self._sessions)
        self._source_type = source_type
        self._make_key = source_layout(source_type, settings).make_key
        self._source: Source | None = None
        self._stack = AsyncExitStack()
        self._limits = limits.pools
        self._settings = settings
        self._storage = storage
        self._reporter = reporter
        self._processing = processing
        self._bandwidth = RateLimiter(0, 1)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._sessions)
            self._source = await stack.enter_async_context(self._source_type.open(self._source_context))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    @property
    def source(self) -> Source:
        """The open source."""
        if self._source is None:
            raise RuntimeError("the source is not open; use the assembly inside `async with`")
        return self._source

    def build_plan_enumeration(
        self, selection: Selection, ledger_view: LedgerView, plan: PlanBuilder
    ) -> Enumeration:
        """Build an enumeration that adds the missing outputs to *plan*."""
        return self._build_enumeration(selection, ledger_view, PlanHandler(plan, self._make_key))

    async def execute(self, context: RunContext) -> None:
        """
        Execute the run of *context* until it is complete or stopped.

        A failure of the destination ends the run and is recorded as a problem.
        """
        run = self._build_run(context)
        try:
            await context.ledger.write(
                partial(
                    queries.start_run,
                    run_id=context.run_id,
                    scope=context.selection.watermark_scope,
                    source=self._source_type.name,
                    destination=self._storage.destination.location,
                )
            )
            async with asyncio.TaskGroup() as group:
                schedule = group.create_task(
                    _apply_bandwidth_schedule(self._bandwidth, self._settings.bwlimit)
                )
                await self._execute_stages(run, context)
                schedule.cancel()
        except* RunStopped:
            log.warning("run.stopped")  # the result that stopped the run is recorded
        except* DestinationError as failures:
            failure = first_leaf_exception(failures)
            assert isinstance(failure, DestinationError)  # noqa: S101 - except* has checked the type
            context.recorder.record_problem(
                failure.reason, f"output directory {self._storage.destination.location}", failure.detail
            )

    async def _execute_stages(self, run: Run, context: RunContext) -> None:
        """Execute the downloads and, if there are processors, the stage behind them."""
        if self._processing is None:
            await run.execute()
            return
        stage = self._processing.new_stage(context, context.selection, self._settings)
        context.recorder.subscribe(stage.enqueue)
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.execute(), name="processing")
            await run.execute()
            stage.end_input()

    async def store_report(self, context: RunContext, summary: Summary) -> None:
        """Store the report of the run; see ``run_reports.store_report``."""
        await store_report(context, context.selection, self._settings, summary)

    def _build_run(self, context: RunContext) -> Run:
        settings = self._settings
        limits = self._limits
        limiters = {kind: ConcurrencyLimiter(limit.start) for kind, limit in limits.items()}
        transfer_limits = _transfer_limits(settings)
        transfers = {
            kind: TransferContext(transfer_limits, self._sessions.retry_policy, self._bandwidth, limiter)
            for kind, limiter in limiters.items()
        }
        output_downloader = OutputDownloader(context, transfers, self._make_key)
        pools = Pools(context, limits, limiters, output_downloader, settings.max_transfer)
        enumeration = self._build_enumeration(
            context.selection,
            RunLedgerView(context.ledger, context.run_id),
            RunHandler(pools, context.recorder),
        )
        depths = {kind: queue.__len__ for kind, queue in pools.queues.items()}
        self._reporter.report(QueuesOpened({"jobs": enumeration.pending.__len__, **depths}))
        return Run(
            context,
            enumeration,
            pools,
            list_concurrency=settings.list_concurrency,
            shutdown_timeout_s=settings.shutdown_timeout,
            max_duration_s=settings.max_duration,
        )

    def _build_enumeration(
        self, selection: Selection, ledger_view: LedgerView, handler: EnumerationHandler
    ) -> Enumeration:
        context = EnumerationContext(
            selection=selection,
            spec=self._spec,
            source=self.source,
            storage=self._storage,
            ledger_view=ledger_view,
            handler=handler,
            reporter=self._reporter,
            recheck_absent_s=self._settings.recheck_absent_for,
        )
        return Enumeration(context)


def _new_sessions(
    settings: Settings, source_type: SourceType, limits: RunLimits, reporter: Reporter
) -> Sessions:
    trace = partial(trace_requests, reporter=reporter)
    api = SessionOptions(limits.api_connections, partial(trace, label=source_type.endpoint_label))
    storage = SessionOptions(limits.storage_connections, partial(trace, label=lambda _method, _url: STORAGE))
    return Sessions(settings, api, storage)


def _transfer_limits(settings: Settings) -> Limits:
    return Limits(
        speed_limit_bytes_per_s=settings.speed_limit,
        speed_time_s=settings.speed_time,
        max_bytes={kind: table.max_size for kind, table in settings.kinds.items()},
        segment_min_size_bytes=settings.segment_min_size,
        connections=settings.connections,
        segment_if_slower_than_bytes_per_s=settings.segment_if_slower_than,
    )


async def _apply_bandwidth_schedule(bandwidth: RateLimiter, schedule: BandwidthSchedule) -> None:
    """Set the rate of *bandwidth* to the limit of the current time until cancelled."""
    while True:
        now = datetime.now().astimezone()
        bandwidth.set_rate(schedule.limit_at(now))
        await asyncio.sleep(schedule.next_change_s(now))
