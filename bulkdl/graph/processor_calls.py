"""Calls the processors. A failure of one call affects one output, and is recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bulkdl.concurrency import Executors
from bulkdl.errors import BulkdlError, DownloadError, LedgerError, ProcessingError
from bulkdl.graph.output_area import StorageArea, check_key
from bulkdl.graph.prepared_outputs import PreparedOutputs
from bulkdl.graph.processing_ledger import LedgerOfFinishedRun, completed_output, open_output
from bulkdl.graph.recorder import Recorder
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.ledger import derived_queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.derived_queries import DerivedRow, PendingOutput, ProcessedRow
from bulkdl.log import get_logger
from bulkdl.models import Output, Reason
from bulkdl.os_errors import reason_of
from bulkdl.processors.interfaces import CompletedOutput, DerivedFile, ProcessingSkipped, Processor
from bulkdl.sources.path_matcher import PathMatcher
from bulkdl.state.storage import Storage

log = get_logger(__name__)

_Call = Callable[[], Awaitable[tuple[DerivedRow, ...] | None]]


@dataclass(frozen=True, slots=True)
class ProcessingContext:
    """
    The collaborators of the stage.

    Attributes:
        ledger: Open for writing, and locked by this run.
        documents: Finds the documents of the sources, which no processor may replace.
        selects: Whether an output of the ledger is processed in this run.
        workers: Number of outputs that are processed concurrently.
        max_duration_s: Time after which no further output is started; 0 disables the limit.
        replaces_archives: Whether archives are deleted after they were unpacked.
    """

    run_id: str
    storage: Storage
    ledger: Ledger
    recorder: Recorder
    shutdown: ShutdownController
    executors: Executors
    documents: PathMatcher
    selects: Callable[[Output], bool]
    workers: int
    shutdown_timeout_s: float
    max_duration_s: float = 0.0
    replaces_archives: bool = False


class ProcessorCalls:
    """Calls processors and records their results in the ledger, the log, the summary and the reporter."""

    def __init__(self, context: ProcessingContext, prepared: PreparedOutputs) -> None:
        self._context = context
        self._prepared = prepared

    async def process(self, processor: Processor, pending: PendingOutput) -> None:
        """Process one output. Only a failure of the ledger is raised."""
        completed = completed_output(pending)
        row = ProcessedRow(
            pending.row_id, processor.name, processor.version, "completed", completed.file.digest
        )
        call = partial(self._process, processor, completed, pending.row_id)
        await self._record(row, call, completed.output)

    async def finish(self, processor: Processor) -> None:
        """Run the step of *processor* at the end of a run. Only a failure of the ledger is raised."""
        row = ProcessedRow(None, processor.name, processor.version, "completed", None)
        await self._record(row, partial(self._finish, processor), None)

    def record_problem(self, processor: Processor, error: BaseException) -> None:
        """Record a failure that does not belong to one output."""
        reason, detail = describe_failure(error)
        self._context.recorder.record_problem(reason, f"processor {processor.name}", detail)

    async def _process(
        self, processor: Processor, completed: CompletedOutput, row_id: int
    ) -> tuple[DerivedRow, ...] | None:
        """Return the derived files, whose names are durable; None if the output is not accepted."""
        if not processor.accepts(completed):
            return None
        context = self._context
        async with (
            open_output(context.storage, context.executors, completed) as file,
            StorageArea(
                context, processor.name, row_id, partial(self._prepared.take, processor, completed.file)
            ) as area,
        ):
            rows = _to_rows(await processor.process(file, completed, area))
            await area.sync()
        return rows

    async def _finish(self, processor: Processor) -> tuple[DerivedRow, ...] | None:
        """Return the derived files; None if there are none, now and in the ledger."""
        context = self._context
        run = LedgerOfFinishedRun(context.run_id, context.ledger, context.storage, context.executors)
        async with StorageArea(context, processor.name, None) as area:
            rows = _to_rows(await processor.finish(run, area))
            await area.sync()
        find_keys = partial(derived_queries.find_derived_keys, output_id=None, processor=processor.name)
        earlier_keys = await context.ledger.read(find_keys)
        return rows if rows or earlier_keys else None

    async def _record(self, row: ProcessedRow, call: _Call, output: Output | None) -> None:
        reason: Reason | None = None
        started_s = time.monotonic()
        try:
            files = await call()
        except ProcessingSkipped as skipped:
            row = replace(row, state="skipped", detail=skipped.detail)
        except LedgerError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            reason, detail = describe_failure(error)
            row = replace(row, state="failed", detail=f"{reason}: {detail}")
        else:
            if files is None:
                return
            row = replace(row, files=files)
        await self._context.ledger.write(partial(derived_queries.record_processed, processed=row))
        duration_s = time.monotonic() - started_s
        self._context.recorder.record_processed(row, reason, output=output, duration_s=duration_s)


def describe_failure(error: BaseException) -> tuple[Reason, str]:
    """Return the reason and one line for the user."""
    if isinstance(error, DownloadError):
        return error.reason, error.detail
    if isinstance(error, OSError) and error.errno is not None:
        return reason_of(error), str(error)
    if isinstance(error, BulkdlError):
        return Reason.PROCESSOR_FAILED, str(error)
    log.exception("processing.crashed")
    return Reason.PROCESSOR_FAILED, type(error).__name__


def _is_cancelled() -> bool:
    """Return whether the current task is cancelled; a processor may raise CancelledError by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _to_rows(files: Sequence[DerivedFile]) -> tuple[DerivedRow, ...]:
    """
    Convert the files that a processor returned to rows of the ledger.

    Raises:
        ProcessingError: A key is invalid, or occurs twice.
    """
    rows = {
        check_key(file.key): DerivedRow(file.key, file.size_bytes, file.digest, file.detail) for file in files
    }
    if len(rows) != len(files):
        raise ProcessingError(Reason.PROCESSOR_FAILED, "the processor returned a key twice")
    return tuple(rows.values())
