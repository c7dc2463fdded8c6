"""The ledger as the processors use it: pending outputs, results, and all outputs at the end of a run."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from bulkdl.concurrency import Executors, check_stop, run_in, run_stoppable, shield_until_done
from bulkdl.destinations.interfaces import Destination
from bulkdl.errors import ProcessingError
from bulkdl.graph.scratch import scratch_folder
from bulkdl.ledger import derived_queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.derived_queries import PendingOutput
from bulkdl.models import Output, Reason
from bulkdl.os_errors import map_os_errors
from bulkdl.processors.interfaces import CompletedOutput, DerivedFile, LocalFile, Processor, RecordedOutput
from bulkdl.state.storage import Storage

_BLOCK_BYTES = 1 << 20


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
    storage: Storage, executors: Executors, completed: CompletedOutput
) -> AsyncIterator[LocalFile]:
    """
    Give access to the file of *completed* inside the block: to the file itself, or to a temporary copy.

    Raises:
        ProcessingError: The file does not exist.
        DestinationError: The file cannot be read, or there is not enough disk space for the copy.
    """
    key = completed.file.key
    folders = storage.destination.folders
    if folders is not None:
        path = folders.locate(key)
        if not await run_in(executors.disk, path.is_file):
            raise _missing(key)
        yield LocalFile(path)
        return
    copy = scratch_folder(storage) / f"input-{secrets.token_hex(8)}"
    try:
        await run_stoppable(executors.processing, _copy, storage, key, completed.file.size_bytes, copy)
        yield LocalFile(copy)
    finally:
        storage.state.reservations.release(copy.name)
        await shield_until_done(run_in(executors.disk, partial(copy.unlink, missing_ok=True)))


def _missing(key: str) -> ProcessingError:
    return ProcessingError(
        Reason.PATH_BLOCKED, f"{key}: the file of the output was not found; use bulkdl verify --repair"
    )


def _copy(stop: threading.Event, storage: Storage, key: str, size_bytes: int, path: Path) -> None:
    """Copy the object *key* to *path*, in disk space that other downloads have not reserved."""
    reservations = storage.state.reservations
    with map_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        reservations.reserve(path.name, size_bytes)
        with path.open("wb") as writer, _open_object(storage.destination, key) as reader:
            while block := reader.read(_BLOCK_BYTES):
                check_stop(stop)
                writer.write(block)
                reservations.consume(path.name, len(block))


@contextlib.contextmanager
def _open_object(destination: Destination, key: str) -> Iterator[BinaryIO]:
    try:
        with destination.open_reader(key) as reader:
            yield reader
    except FileNotFoundError:
        raise _missing(key) from None


@dataclass(frozen=True, slots=True)
class LedgerOfFinishedRun:
    """The content of the ledger; see ``processors.interfaces.FinishedRun``."""

    run_id: str
    ledger: Ledger
    storage: Storage
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
        return open_output(self.storage, self.executors, completed)
