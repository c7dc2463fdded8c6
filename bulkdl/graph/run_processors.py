"""Runs processors on an existing output directory, without network and credentials."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import structlog

from bulkdl.concurrency import Executors
from bulkdl.errors import DestinationError, first_leaf_exception
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.processing import Processing, check_destination
from bulkdl.graph.recorder import Recorder
from bulkdl.graph.run_reports import store_report
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.graph.upload_options import shared_state_options, upload_options
from bulkdl.ledger import queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.locked import open_locked_ledger
from bulkdl.log import get_logger
from bulkdl.processors.interfaces import Processor
from bulkdl.processors.registry import load_processors
from bulkdl.report.summary import Summary, SummaryBuilder
from bulkdl.selection import (
    Selection,
    SelectionArgument,
    SelectionBySource,
    group_by_source,
    select_everything,
)
from bulkdl.settings import Settings
from bulkdl.sources.registry import installed_layouts
from bulkdl.state.readable_ledger import require_ledger
from bulkdl.state.storage import Storage, create_storage
from bulkdl.telemetry.events import NullReporter, Reporter, RunStarted

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _ProcessorRun:
    """A run of processors only; see ``run_context.LockedRun``."""

    run_id: str
    storage: Storage
    ledger: Ledger
    recorder: Recorder
    reporter: Reporter
    shutdown: ShutdownController


class ProcessorRunner:
    """
    Runs processors on the outputs that an output directory already contains.

    Args:
        settings: The output directory and the limits. The processors are those of the settings by default.
        reporter: Receives the events of the run.

    Raises:
        ConfigError: The output directory is missing, or a processor cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        processors: Sequence[Processor] | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        if processors is None:
            processors = load_processors(settings.enabled_processors, settings.processor_settings)
        self._settings = settings
        self._output = settings.require_output()
        self._processors = processors
        self._reporter = reporter or NullReporter()
        self._shutdown = ShutdownController()
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self, cause: ExitCode = ExitCode.INTERRUPTED) -> None:
        """
        End the run: the first call lets the running outputs finish, the second call cancels them.

        It can be called from any thread.
        """
        if self._loop is None:
            self._shutdown.request(cause)
        else:
            self._loop.call_soon_threadsafe(self._shutdown.request, cause)

    async def run(self, selection: SelectionArgument = None) -> Summary:
        """
        Process the outputs of *selection* (default: all outputs) without a current result.

        A selection restricts the run to its source. Several selections of different sources are one run.

        Outputs whose processing failed in an earlier run are processed again.

        Raises:
            LedgerMissingError: The directory contains no ledger.
            OutputLockedError: Another run has locked the directory.
            LedgerError, DestinationError: The ledger cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        settings = self._settings
        executors = Executors(settings.disk_threads, settings.inspection_threads, settings.processing_threads)
        storage = create_storage(
            self._output,
            settings.state,
            shard=settings.shard,
            durability=settings.durability,
            executors=executors,
            uploads=upload_options(settings),
            shared=shared_state_options(settings),
        )
        check_destination(self._processors, storage.destination)
        try:
            await require_ledger(storage)
            return await self._run(_selections(selection, settings), storage, executors)
        except BaseExceptionGroup as errors:
            raise first_leaf_exception(errors) from None
        finally:
            await storage.close()

    async def _run(self, selections: SelectionBySource, storage: Storage, executors: Executors) -> Summary:
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        builder, reporter, shutdown = (
            SummaryBuilder(run_id, datetime.now(UTC)),
            self._reporter,
            self._shutdown,
        )
        with structlog.contextvars.bound_contextvars(run_id=run_id):
            async with open_locked_ledger(
                storage, run_id, on_lost=shutdown.abort, sleep=shutdown.sleep
            ) as ledger:
                log.info("run.started", output=storage.destination.location)
                reporter.report(RunStarted(run_id, datetime.now(UTC)))
                recorder = Recorder(ledger, run_id, builder, reporter)
                run = _ProcessorRun(run_id, storage, ledger, recorder, reporter, shutdown)
                stage = Processing(self._processors, executors).new_stage(run, selections, self._settings)
                stage.end_input()
                await _execute(run, stage.execute)
                summary = builder.build(stopped_by=shutdown.cause)
                summary, _ = await store_report(run, selections, self._settings, summary)
        return summary


def _selections(selection: SelectionArgument, settings: Settings) -> SelectionBySource:
    """Return the selections of *selection*, or those of all installed sources."""
    if selection is None:
        return select_everything(layout.source_type.name for layout in installed_layouts(settings))
    return group_by_source((selection,) if isinstance(selection, Selection) else selection)


async def _execute(run: _ProcessorRun, work: Callable[[], Awaitable[None]]) -> None:
    """Execute the stage; a failure of the destination ends the run and is recorded as a problem."""
    try:
        start = partial(
            queries.start_run,
            run_id=run.run_id,
            scopes={},  # the run sends no request
            destination=run.storage.destination.location,
        )
        await run.ledger.write(start)
        await work()
    except* DestinationError as failures:
        failure = first_leaf_exception(failures)
        assert isinstance(failure, DestinationError)  # noqa: S101 - except* has checked the type
        run.recorder.record_problem(
            failure.reason, f"output directory {run.storage.destination.location}", failure.detail
        )


async def run_processors(
    settings: Settings,
    *,
    selection: SelectionArgument = None,
    processors: Sequence[Processor] | None = None,
    reporter: Reporter | None = None,
) -> Summary:
    """Run processors on an existing output directory; see ``ProcessorRunner``."""
    return await ProcessorRunner(settings, processors=processors, reporter=reporter).run(selection)
