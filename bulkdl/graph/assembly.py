"""Builds the stages of a run or a plan from the settings, and executes a run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.errors import DestinationError, first_leaf_exception
from bulkdl.graph.enumeration import Enumeration, EnumerationContext
from bulkdl.graph.enumeration_results import EnumerationHandler, PlanHandler, RunHandler
from bulkdl.graph.ledger_view import LedgerView, RunLedgerView
from bulkdl.graph.pool_limits import compute_run_limits, get_open_file_limit
from bulkdl.graph.pools import OutputDownloader, Pools, RunStopped
from bulkdl.graph.run import Run
from bulkdl.graph.run_context import RunContext
from bulkdl.graph.run_reports import store_report
from bulkdl.graph.run_sources import RunSources
from bulkdl.http.rate_limit import RateLimiter
from bulkdl.ledger import queries
from bulkdl.log import get_logger
from bulkdl.report.plan import PlanBuilder
from bulkdl.report.summary import Summary
from bulkdl.selection import Selection, SelectionBySource
from bulkdl.settings import CredentialSet, Settings
from bulkdl.settings.bandwidth_schedule import BandwidthSchedule
from bulkdl.source_spec import source_spec
from bulkdl.sources.interfaces import SelectiveSource, SourceType
from bulkdl.state.storage import Storage
from bulkdl.telemetry.events import QueuesOpened, Reporter
from bulkdl.transfer.context import Limits, TransferContext

if TYPE_CHECKING:
    from bulkdl.graph.processing import Processing, ProcessingStage

log = get_logger(__name__)


class RunAssembly:
    """
    Builds and executes the runs of one open Downloader. The rate limits apply to all of its runs together.

    An async context manager, which opens the sessions and the sources.

    Attributes:
        sources: The sources of the runs.
    """

    def __init__(
        self,
        settings: Settings,
        source_types: Sequence[SourceType],
        credentials: CredentialSet,
        storage: Storage,
        reporter: Reporter,
        processing: Processing | None = None,
        *,
        upload_bandwidth: RateLimiter,
    ) -> None:
        specs = [source_type.spec for source_type in source_types]
        limits = compute_run_limits(settings, get_open_file_limit(), specs)
        self.sources = RunSources(settings, source_types, credentials, limits.connections, reporter)
        self._limits = limits.pools
        self._settings = settings
        self._storage = storage
        self._reporter = reporter
        self._processing = processing
        self._bandwidth = RateLimiter(0, 1)
        self._upload_bandwidth = upload_bandwidth

    async def __aenter__(self) -> Self:
        await self.sources.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.sources.__aexit__(kind, error, trace)

    def build_plan_enumerations(
        self, selections: SelectionBySource, ledger_view: LedgerView, plan: PlanBuilder
    ) -> list[Enumeration]:
        """Build the enumerations that add the missing outputs to *plan*: one for each source."""
        return [
            self._build_enumeration(
                selection,
                ledger_view,
                PlanHandler(plan, self.sources.make_keys[source], source),
            )
            for source, selection in selections.items()
        ]

    async def execute(self, context: RunContext) -> None:
        """
        Execute the run of *context* until it is complete or stopped.

        A failure of the destination ends the run and is recorded as a problem.
        """
        stage = self._build_processing(context)
        run = self._build_run(context, stage)
        try:
            await context.ledger.write(
                partial(
                    queries.start_run,
                    run_id=context.run_id,
                    scopes={
                        source: selection.watermark_scope for source, selection in context.selections.items()
                    },
                    destination=self._storage.destination.location,
                )
            )
            async with asyncio.TaskGroup() as group:
                schedule = group.create_task(
                    _apply_bandwidth_schedule(
                        (self._bandwidth, self._upload_bandwidth), self._settings.bwlimit
                    )
                )
                await self._execute_stages(run, stage)
                schedule.cancel()
        except* RunStopped:
            log.warning("run.stopped")  # the result that stopped the run is recorded
        except* DestinationError as failures:
            failure = first_leaf_exception(failures)
            assert isinstance(failure, DestinationError)  # noqa: S101 - except* has checked the type
            context.recorder.record_problem(
                failure.reason, f"output directory {self._storage.destination.location}", failure.detail
            )

    def _build_processing(self, context: RunContext) -> ProcessingStage | None:
        """Build the stage behind the downloads if there are processors."""
        if self._processing is None:
            return None
        stage = self._processing.new_stage(context, context.selections, self._settings)
        context.recorder.subscribe(stage.enqueue)
        return stage

    @staticmethod
    async def _execute_stages(run: Run, stage: ProcessingStage | None) -> None:
        if stage is None:
            await run.execute()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.execute(), name="processing")
            await run.execute()
            stage.end_input()

    async def store_report(self, context: RunContext, summary: Summary) -> tuple[Summary, str]:
        """Store the report of the run; return it and the summary. See ``run_reports.store_report``."""
        return await store_report(context, context.selections, self._settings, summary)

    def _build_run(self, context: RunContext, stage: ProcessingStage | None) -> Run:
        settings = self._settings
        limits = self._limits
        limiters = {kind: ConcurrencyLimiter(limit.start) for kind, limit in limits.items()}
        large_limiters = {
            kind: ConcurrencyLimiter(limit.large.start) for kind, limit in limits.items() if limit.large
        }
        transfer_limits = _transfer_limits(settings)
        transfers = {
            kind: TransferContext(
                transfer_limits,
                self.sources.retry_policy,
                self._bandwidth,
                limiter,
                inspector=stage.prepared if stage is not None else None,
            )
            for kind, limiter in (limiters | large_limiters).items()
        }
        output_downloader = OutputDownloader(context, transfers, self.sources.make_keys)
        pools = Pools(context, limits, limiters, output_downloader, settings.max_transfer, large_limiters)
        ledger_view = RunLedgerView(context.ledger, context.run_id)
        enumerations = [
            self._build_enumeration(
                selection, ledger_view, RunHandler(pools, context.recorder, selection.source)
            )
            for selection in context.selections.values()
        ]
        depths = {kind: queue.__len__ for kind, queue in pools.queues.items()}
        pending = partial(_count_pending, enumerations)
        self._reporter.report(QueuesOpened({"containers": pending, **depths}))
        return Run(
            context,
            enumerations,
            pools,
            list_concurrency=settings.list_concurrency,
            shutdown_timeout_s=settings.shutdown_timeout,
            max_duration_s=settings.max_duration,
        )

    def _build_enumeration(
        self, selection: Selection, ledger_view: LedgerView, handler: EnumerationHandler
    ) -> Enumeration:
        source = self.sources.opened[selection.source]
        if isinstance(source, SelectiveSource):
            source.prepare_lists(selection)
        context = EnumerationContext(
            selection=selection,
            spec=source_spec(selection.source),
            source=source,
            storage=self._storage,
            ledger_view=ledger_view,
            handler=handler,
            reporter=self._reporter,
            recheck_absent_s=self._settings.recheck_absent_for,
            value_keys=self.sources.value_keys[selection.source],
        )
        return Enumeration(context)


def _count_pending(enumerations: Sequence[Enumeration]) -> int:
    """Return the number of containers whose outputs must be listed."""
    return sum(len(enumeration.pending) for enumeration in enumerations)


def _transfer_limits(settings: Settings) -> Limits:
    return Limits(
        speed_limit_bytes_per_s=settings.speed_limit,
        speed_time_s=settings.speed_time,
        max_bytes={kind: table.max_size for kind, table in settings.kinds.items()},
        segment_min_size_bytes=settings.segment_min_size,
        connections=settings.connections,
        segment_if_slower_than_bytes_per_s=settings.segment_if_slower_than,
    )


async def _apply_bandwidth_schedule(limiters: Iterable[RateLimiter], schedule: BandwidthSchedule) -> None:
    """Set the rate of each of *limiters* to the limit of the current time until cancelled."""
    while True:
        now = datetime.now().astimezone()
        for limiter in limiters:
            limiter.set_rate(schedule.limit_at(now))
        await asyncio.sleep(schedule.next_change_s(now))
