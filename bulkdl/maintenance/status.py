"""
Read the ledgers of an output directory: its own ledger, and the ledgers of shards one level below.

The functions can be used during a run.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from bulkdl.destinations.interfaces import LEDGER_NAME, STATE_FOLDER
from bulkdl.destinations.network import UploadOptions
from bulkdl.errors import LedgerMissingError
from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.ledger import derived_queries, lease, maintenance_queries, queries, snapshot
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.maintenance_queries import FailedRow
from bulkdl.ledger.rows import parse_timestamp
from bulkdl.report.models import MAX_LISTED, Count, FailureRow
from bulkdl.report.status import FAILURE_COLUMNS, LeaseOwner, LedgerStatus, Status
from bulkdl.source_spec import source_labels
from bulkdl.state.readable_ledger import download_snapshots
from bulkdl.state.storage import create_state, create_storage


def find_ledgers(output: Path | str, state: Path | None = None) -> dict[str, Path]:
    """
    Return the ledgers by the name of their directory, the one of *output* itself first; blocks.

    The ledgers of shards are in the output directories of the shards. If *state* is given, they are in its
    subdirectories.

    Raises:
        LedgerMissingError: There is no ledger.
        ConfigError: *state* belongs to another destination.
    """
    directory = create_state(output, state)
    directory.check_destination()
    if state is None and isinstance(output, Path):
        shards = {path.parent.parent: path for path in output.glob(f"*/{STATE_FOLDER}/{LEDGER_NAME}")}
    else:
        shards = {path.parent: path for path in directory.path.glob(f"*/{LEDGER_NAME}")}
    ledgers = {".": directory.ledger_path, **{folder.name: shards[folder] for folder in sorted(shards)}}
    found = {name: path for name, path in ledgers.items() if path.is_file()}
    if not found:
        raise LedgerMissingError(directory.setting)
    return found


@asynccontextmanager
async def _find_all_ledgers(
    output: Path | str, state: Path | None, uploads: UploadOptions | None
) -> AsyncIterator[dict[str, Path]]:
    """
    Yield the ledgers as ``find_ledgers`` returns them, or those of the snapshots in the destination.

    Raises:
        LedgerMissingError: There is neither a ledger nor a snapshot.
        LedgerError, DestinationError: A snapshot cannot be read.
    """
    try:
        found = await asyncio.to_thread(find_ledgers, output, state)
    except LedgerMissingError:
        if isinstance(output, Path):
            raise
        found = {}
    if isinstance(output, Path) or await _have_content(found.values()):
        yield found
        return
    async with create_storage(output, state, uploads=uploads) as storage:
        with tempfile.TemporaryDirectory(prefix="bulkdl-") as folder:
            copies = await download_snapshots(storage, Path(folder))
            if not (copies or found):
                raise LedgerMissingError(storage.state.setting)
            yield copies or found


async def _have_content(paths: Iterable[Path]) -> bool:
    """Return whether a run has recorded anything in one of the ledgers."""
    for path in paths:
        async with _open_ledger(path) as ledger:
            if await ledger.read(snapshot.has_content):
                return True
    return False


async def read_status(
    output: Path | str, state: Path | None = None, uploads: UploadOptions | None = None
) -> Status:
    """
    Count the containers and outputs of all ledgers of *output*; see ``find_ledgers``.

    Without a ledger in the state directory, the snapshots in the destination are read.

    Args:
        uploads: For a destination that is reached over the network.

    Raises:
        LedgerMissingError: There is no ledger.
        LedgerError: A ledger cannot be read.
    """
    status = Status(str(output))
    async with _find_all_ledgers(output, state, uploads) as ledgers:
        for name, path in ledgers.items():
            async with _open_ledger(path) as ledger:
                status.add(await ledger.read(partial(_read_ledger, name=name)))
                free_rows = MAX_LISTED - len(status.failures)
                failed = await ledger.read(
                    partial(maintenance_queries.list_failed_outputs_after, row_id=0, limit=free_rows)
                )
            rows = map(_to_failure_row, failed)
            status.failures += [row for row in rows if row is not None]
    return status


async def all_failures(
    output: Path | str, state: Path | None = None, uploads: UploadOptions | None = None
) -> AsyncIterator[tuple[str, FailedRow]]:
    """
    Yield the failures of all ledgers with the directory of the ledger: outputs, then containers.

    The arguments are those of ``read_status``.

    Raises:
        LedgerMissingError: There is no ledger.
        LedgerError: A ledger cannot be read.
    """
    async with _find_all_ledgers(output, state, uploads) as ledgers:
        for name, path in ledgers.items():
            async with _open_ledger(path) as ledger:
                for page in (
                    maintenance_queries.list_failed_outputs_after,
                    maintenance_queries.list_failed_listings_after,
                ):
                    async for row in _iter_rows(ledger, page):
                        yield name, row


async def _iter_rows(ledger: Ledger, page: Callable[..., list[FailedRow]]) -> AsyncIterator[FailedRow]:
    last_id = 0
    while rows := await ledger.read(partial(page, row_id=last_id)):
        for row in rows:
            yield row
        last_id = rows[-1].row_id


@asynccontextmanager
async def _open_ledger(path: Path) -> AsyncIterator[Ledger]:
    ledger = await Ledger.open(path, read_only=True)
    try:
        yield ledger
    finally:
        await ledger.close()


def _read_ledger(connection: Connection, name: str) -> LedgerStatus:
    return LedgerStatus(
        output=name,
        containers=queries.count_containers(connection),
        counts={
            (kind, state, reason): Count(outputs, size_bytes)
            for kind, state, reason, outputs, size_bytes in queries.count_outputs(connection)
        },
        derived=derived_queries.count_derived(connection),
        listing_failed=maintenance_queries.count_failed_listings(connection),
        owner=_read_owner(connection),
        last_run_at=parse_timestamp(queries.find_last_run_end(connection)),
    )


def _read_owner(connection: Connection) -> LeaseOwner | None:
    holder = lease.read_lease(connection)
    if holder is None:
        return None
    owner, current = holder.owner, lease.Owner.current("")
    is_running = lease.check_liveness(holder, current, datetime.now(UTC)) is lease.Liveness.RUNNING
    return LeaseOwner(owner.run_id, owner.host, owner.pid, holder.since_at, holder.renewed_at, is_running)


def _to_failure_row(failed: FailedRow) -> FailureRow | None:
    record = failed.record
    if record is None:
        return None
    key = record.file.key if record.file else None
    return FailureRow(record.output, key, failed.reason, failed.detail, failed.attempts)


def failure_dict(failed: FailedRow, ledger: str) -> dict[str, Any]:
    """Convert a failure to a row of ``status --failures``; that of a container does not have a kind."""
    row = _to_failure_row(failed)
    if row is not None:
        return {**row.as_dict(), "ledger": ledger}
    ref = failed.container
    parts = source_labels(ref.source).parts
    columns = {**dict.fromkeys(FAILURE_COLUMNS), "source": ref.source, "scope": ref.scope}
    columns |= {"container_id": ref.id, "name": "", "reason": str(failed.reason), "attempts": 0}
    columns |= {"detail": f"the {parts} could not be listed: {failed.detail}", "ledger": ledger}
    return {**columns, "hint": FAILURE_POLICIES[failed.reason].hint}
