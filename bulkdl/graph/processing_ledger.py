"""The ledger as the processors use it: pending outputs, results, and all outputs at the end of a run."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from bulkdl.concurrency import Executors, run_in
from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.errors import ProcessingError
from bulkdl.ledger import derived_queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.derived_queries import PendingOutput
from bulkdl.models import Output, Reason
from bulkdl.processors.interfaces import CompletedOutput, DerivedFile, LocalFile, Processor, RecordedOutput


async def iter_pending(
    ledger: Ledger, processor: Processor, *, include_failed: bool
) -> AsyncIterator[PendingOutput]:
    """Yield the outputs without a current result of *processor*."""
    last_id: int | None = 0
    while last_id is not None:
        page = await ledger.read(
            partial(
                derived_queries.list_pending_after,
                row_id=last_id,
                processor=processor.name,
                version=processor.version,
                include_failed=include_failed,
            )
        )
        for pending in page.outputs:
            yield pending
        last_id = page.last_id


def completed_output(pending: PendingOutput) -> CompletedOutput:
    """Return the output and the file of *pending*."""
    file = pending.record.file
    assert file is not None  # noqa: S101 - the query selects rows with a key
    return CompletedOutput(pending.record.output, file)


@contextlib.asynccontextmanager
async def open_output(
    destination: LocalDestination, executors: Executors, completed: CompletedOutput
) -> AsyncIterator[LocalFile]:
    """
    Give access to the file of *completed* inside the block.

    Raises:
        ProcessingError: The file does not exist.
    """
    path = destination.locate(completed.file.key)
    if not await run_in(executors.disk, path.is_file):
        raise ProcessingError(
            Reason.PATH_BLOCKED, f"{path}: the file of the output was not found; use bulkdl verify --repair"
        )
    yield LocalFile(path)


@dataclass(frozen=True, slots=True)
class LedgerOfFinishedRun:
    """The content of the ledger; see ``processors.interfaces.FinishedRun``."""

    run_id: str
    ledger: Ledger
    destination: LocalDestination
    executors: Executors

    async def outputs(self) -> AsyncIterator[RecordedOutput]:
        row_id = 0
        while rows := await self.ledger.read(partial(derived_queries.list_outputs_after, row_id=row_id)):
            for _, record, detail in rows:
                yield RecordedOutput(record.output, record.state, record.reason, detail, record.file)
            row_id = rows[-1][0]

    async def derived_files(self, processor: str) -> AsyncIterator[tuple[Output, DerivedFile]]:
        row_id, key = 0, ""
        while rows := await self.ledger.read(
            partial(derived_queries.list_derived_after, processor=processor, output_id=row_id, key=key)
        ):
            for _, output, file in rows:
                yield output, DerivedFile(file.key, file.size_bytes, file.digest, file.detail)
            row_id, key = rows[-1][0], rows[-1][2].key

    def open_file(self, completed: CompletedOutput) -> contextlib.AbstractAsyncContextManager[LocalFile]:
        return open_output(self.destination, self.executors, completed)
