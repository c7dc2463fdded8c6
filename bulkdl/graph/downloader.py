"""The public class of the library: runs downloads and lists what is missing."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import structlog

from bulkdl.concurrency import Channel, Executors
from bulkdl.errors import ConfigError, DownloaderStateError
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.assembly import RunAssembly
from bulkdl.graph.ledger_view import EmptyLedgerView, LedgerView, PlanLedgerView
from bulkdl.graph.operations import Operations
from bulkdl.graph.recorder import Recorder, Subscriber
from bulkdl.graph.run import enumerate_all
from bulkdl.graph.run_context import RunContext
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.graph.upload_options import RunUploadMonitor, shared_state_options, upload_options
from bulkdl.ledger import queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.locked import open_locked_ledger
from bulkdl.log import get_logger
from bulkdl.models import Result
from bulkdl.report.plan import Plan, PlanBuilder
from bulkdl.report.summary import Summary, SummaryBuilder
from bulkdl.selection import (
    Selection,
    SelectionArgument,
    SelectionBySource,
    group_by_source,
)
from bulkdl.settings import CredentialSet, Settings, choose_sources
from bulkdl.source_spec import source_spec
from bulkdl.sources.registry import load_credentials, load_source_type
from bulkdl.state.readable_ledger import open_readable_ledger
from bulkdl.state.storage import create_storage
from bulkdl.telemetry.events import NullReporter, Reporter, RunStarted

if TYPE_CHECKING:
    from bulkdl.graph.processing import Processing
    from bulkdl.processors.interfaces import Processor

log = get_logger(__name__)

_RESULT_QUEUE_LENGTH = 64


class Downloader:
    """
    Downloads every selected output that is missing.

    Use it as an async context manager. Leaving the block cancels active runs, waits for their end and closes
    all connections. A Downloader can run several times, one run after another.

    Args:
        settings: Sources, destination and limits; ``output`` is required.
        credentials: The default is the credentials of the environment and of the settings.
        reporter: Receives the events of a run.
        processors: Process the completed outputs; by default those that the settings name.

    Attributes:
        summary: The summary of the last run; None during a run and after a cancelled run.
        report: The report of the last run as JSON text; None as *summary*.

    Raises:
        ConfigError: The output directory or the credentials are missing.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        credentials: CredentialSet | None = None,
        reporter: Reporter | None = None,
        processors: Sequence[Processor] | None = None,
    ) -> None:
        output = settings.require_output()
        self.summary: Summary | None = None
        self.report: str | None = None
        self._settings = settings
        self._source_names = choose_sources(settings, credentials=credentials)
        self._source_types = [load_source_type(name) for name in self._source_names]
        self._credentials = (
            credentials if credentials is not None else load_credentials(self._source_types, settings)
        )
        self._reporter = reporter or NullReporter()
        executors = Executors(settings.disk_threads, settings.inspection_threads, settings.processing_threads)
        self._uploads = RunUploadMonitor(self._reporter)
        self._storage = create_storage(
            output,
            settings.state,
            shard=settings.shard,
            durability=settings.durability,
            executors=executors,
            uploads=upload_options(settings, self._uploads),
            shared=shared_state_options(settings),
            scratch_limit_bytes=settings.scratch_limit,
        )
        self._processing: Processing | None = None
        if settings.enabled_processors or processors:
            # A run without processors starts faster if it does not import them.
            from bulkdl.graph.processing import create_processing  # noqa: PLC0415

            self._processing = create_processing(settings, processors, self._storage, executors)
        self._assembly = self._new_assembly()
        self._operations: Operations | None = None

    async def __aenter__(self) -> Self:
        if self._operations is not None:
            raise DownloaderStateError("the Downloader is already open; open it once, or create another one")
        self._operations = Operations(asyncio.get_running_loop())
        try:
            self._assembly = self._new_assembly()
            await self._assembly.__aenter__()
        except BaseException:
            self._operations = None
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._require_open("__aexit__()").close()
        finally:
            self._operations = None
            await self._assembly.__aexit__(kind, error, trace)
            await self._storage.close()

    def _new_assembly(self) -> RunAssembly:
        return RunAssembly(
            self._settings,
            self._source_types,
            self._credentials,
            self._storage,
            self._reporter,
            self._processing,
            upload_bandwidth=self._uploads.bandwidth,
        )

    def _require_open(self, call: str) -> Operations:
        if self._operations is None:
            raise DownloaderStateError(
                f"{call}: the Downloader is not open; call it inside `async with Downloader(...)`"
            )
        return self._operations

    def stop(self, cause: ExitCode = ExitCode.INTERRUPTED) -> None:
        """
        End the active run: the first call drains, the second call aborts.

        It can be called from any thread and takes effect in the event loop. Without an active run, the
        next run is drained when it starts. Later runs are not affected.

        Args:
            cause: The exit code of the summary (130 and 143 mean signals). It must not be 0, because a
                stopped run must not set a watermark for later runs.

        Raises:
            DownloaderStateError: The Downloader is not open.
        """
        self._require_open("stop()").stop(cause)

    async def run(self, selection: SelectionArgument = None) -> Summary:
        """
        Download the missing outputs of *selection* (default: the selection of the settings for each source).

        A selection restricts the run to its source. Several selections of different sources are one run.

        A failed output does not raise an exception. The summary lists it.

        Raises:
            ConfigError: The output directory or the selection cannot be used.
            OutputLockedError: Another run has locked the output directory.
            DownloaderStateError: The Downloader is not open, or was closed during the run.
            LedgerError: The ledger cannot be used.
            DestinationError: The disk is full or fails.
        """
        operations = self._require_open("run()")
        self.summary = self.report = None
        run = operations.start(lambda shutdown: self._run(selection, (), shutdown), name="run")
        return await operations.result_of(run)

    @asynccontextmanager
    async def stream(self, selection: SelectionArgument = None) -> AsyncIterator[AsyncIterator[Result]]:
        """
        Run, and iterate over the results. A result is available after it is recorded.

        ``async with downloader.stream() as results: async for result in results: ...``. After the last
        result, ``summary`` is set. Leaving the block before the last result cancels the run, waits for
        its end and releases the output directory.

        Raises:
            BulkdlError: As ``run`` (ConfigError, OutputLockedError, LedgerError, DestinationError). The
                iteration raises it, or leaving the block does if the caller did not iterate to the end.
        """
        operations = self._require_open("stream()")
        channel: Channel[Result] = Channel(_RESULT_QUEUE_LENGTH)
        self.summary = self.report = None
        run = operations.start(lambda shutdown: self._run(selection, (channel.put,), shutdown), name="run")
        run.add_done_callback(lambda _run: channel.close())
        try:
            yield _results(channel, operations, run)
        finally:
            await operations.cancel(run)
        if not run.cancelled():
            run.result()

    async def plan(self, selection: SelectionArgument = None) -> Plan:
        """
        List what a run would download. Nothing is written.

        After ``stop``, the plan contains what has been found so far.

        Raises:
            ConfigError, DownloaderStateError, LedgerError, DestinationError: As ``run``.
        """
        operations = self._require_open("plan()")
        return await operations.result_of(
            operations.start(lambda shutdown: self._plan(selection, shutdown), name="plan")
        )

    async def _plan(self, selection: SelectionArgument, shutdown: ShutdownController) -> Plan:
        selections = self._complete_selections(selection)
        kinds = [kind for source in selections for kind in source_spec(source).kind_names]
        plan = PlanBuilder(self._new_summary(selections, "plan"), kinds)
        async with AsyncExitStack() as stack:
            ledger_view: LedgerView = EmptyLedgerView()
            ledger = await stack.enter_async_context(open_readable_ledger(self._storage))
            if ledger is not None:
                selections = await _apply_watermarks(selections, ledger)
                ledger_view = PlanLedgerView(ledger)
            enumerations = self._assembly.build_plan_enumerations(selections, ledger_view, plan)
            await _run_until_draining(enumerate_all(enumerations, self._settings.list_concurrency), shutdown)
        return plan.build(stopped_by=shutdown.cause)

    async def _run(
        self, selection: SelectionArgument, subscribers: Sequence[Subscriber], shutdown: ShutdownController
    ) -> Summary:
        selections = self._complete_selections(selection)
        run_id = _new_run_id()
        summary = self._new_summary(selections, run_id)
        with structlog.contextvars.bound_contextvars(run_id=run_id):
            async with self._open_context(run_id, selections, summary, shutdown, subscribers) as opened:
                log.info("run.started", output=self._storage.destination.location, sources=list(selections))
                self._reporter.report(RunStarted(run_id, datetime.now(UTC), tuple(selections)))
                context = replace(opened, selections=await _apply_watermarks(selections, opened.ledger))
                await self._assembly.execute(context)
                built = summary.build(stopped_by=shutdown.cause)
                self.summary, self.report = await self._assembly.store_report(context, built)
        return self.summary

    @asynccontextmanager
    async def _open_context(
        self,
        run_id: str,
        selections: SelectionBySource,
        summary: SummaryBuilder,
        shutdown: ShutdownController,
        subscribers: Sequence[Subscriber] = (),
    ) -> AsyncIterator[RunContext]:
        """Lock the output directory and its ledger inside the block."""
        storage = self._storage
        async with open_locked_ledger(
            storage, run_id, on_lost=shutdown.abort, sleep=shutdown.sleep
        ) as ledger:
            recorder = Recorder(ledger, run_id, summary, self._reporter, subscribers)
            sources = self._assembly.sources.opened
            yield RunContext(run_id, selections, sources, storage, ledger, recorder, self._reporter, shutdown)

    def _complete_selections(self, selection: SelectionArgument) -> SelectionBySource:
        """Return the selections of *selection*, or those of the settings, with their scopes."""
        if selection is None:
            selection = [Selection.of(self._settings, source=name) for name in self._source_names]
        selections = (selection,) if isinstance(selection, Selection) else selection
        return {
            source: self._complete_selection(each) for source, each in group_by_source(selections).items()
        }

    def _complete_selection(self, selection: Selection) -> Selection:
        """Return *selection* with its scopes."""
        source = selection.source
        if source not in self._source_names:
            names = " and ".join(self._source_names)
            raise ConfigError("--source", f"the selection is of {source}, the run of {names}")
        scopes = self._assembly.sources.scopes(source)
        if not (selection.scopes or scopes or _all_have_scope(selection)):
            raise ConfigError(*source_spec(source).no_scopes)
        if selection.containers or selection.scopes:
            return selection
        # The IDs make the watermark independent of scopes that are added to the configuration later.
        return replace(selection, scopes=scopes)

    def _new_summary(self, selections: SelectionBySource, run_id: str) -> SummaryBuilder:
        builder = SummaryBuilder(run_id, datetime.now(UTC))
        for source, selection in selections.items():
            builder.containers(source)
            for scope in selection.scopes or self._assembly.sources.scopes(source):
                builder.add_scope(source, scope)
        return builder


def _new_run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


async def _results(
    channel: Channel[Result], operations: Operations, run: asyncio.Task[Any]
) -> AsyncIterator[Result]:
    async for result in channel:
        yield result
    await operations.result_of(run)


async def _run_until_draining(work: Coroutine[Any, Any, None], shutdown: ShutdownController) -> None:
    """Run *work* until it ends, or cancel it at the first request to stop."""
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work, name="enumeration")
        stopping = group.create_task(shutdown.draining.wait(), name="stop")
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        stopping.cancel()


async def _apply_watermarks(selections: SelectionBySource, ledger: Ledger) -> SelectionBySource:
    return {source: await _apply_watermark(each, ledger) for source, each in selections.items()}


async def _apply_watermark(selection: Selection, ledger: Ledger) -> Selection:
    if selection.since_last_s is None:
        return selection
    source = selection.source
    watermark_at = await ledger.read(
        partial(queries.find_watermark, source=source, scope=selection.watermark_scope)
    )
    log.info("watermark.read", source=source, watermark_at=watermark_at.isoformat() if watermark_at else None)
    return selection.with_watermark(watermark_at)


def _all_have_scope(selection: Selection) -> bool:
    return bool(selection.containers) and all(ref.scope for ref in selection.containers)
