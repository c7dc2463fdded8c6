"""
One look at the ledgers of an output directory, while runs are at work there or not.

A directory's own ledger, and one level below it those of shards that have a directory each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from sqlite3 import Connection

from bulkdl.destinations.local.destination import STATE_FOLDER
from bulkdl.errors import LedgerMissingError
from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.ledger import lease, maintenance_queries, queries
from bulkdl.ledger.database import LEDGER_NAME, Ledger
from bulkdl.ledger.maintenance_queries import FailedRow
from bulkdl.ledger.rows import parse_timestamp
from bulkdl.report.models import Count, FailureRow
from bulkdl.report.status import FAILURE_COLUMNS, LeaseOwner, LedgerStatus, Status

FAILURES_KEPT = 1000


def find_ledgers(output: Path) -> list[Path]:
    """
    The ledgers of *output*, its own first; blocks.

    Raises:
        LedgerMissingError: There is none.
    """
    own = output / STATE_FOLDER / LEDGER_NAME
    paths = [
        path for path in (own, *sorted(output.glob(f"*/{STATE_FOLDER}/{LEDGER_NAME}"))) if path.is_file()
    ]
    if not paths:
        raise LedgerMissingError(output)
    return paths


async def read_status(output: Path) -> Status:
    """
    Count what the ledgers of *output* know.

    Raises:
        LedgerMissingError: There is no ledger.
        LedgerError: One cannot be read.
    """
    status = Status(str(output))
    for path in await asyncio.to_thread(find_ledgers, output):
        name = _name(path, output)
        async with _open_ledgers(path) as ledger:
            status.add(await ledger.read(partial(_status, name=name)))
            room = FAILURES_KEPT - len(status.failures)
            failed = await ledger.read(
                partial(maintenance_queries.failed_outputs_after, row_id=0, limit=room)
            )
        status.failures += [row for each in failed if (row := _row_of(each)) is not None]
    return status


async def all_failures(output: Path) -> AsyncIterator[tuple[str, FailedRow]]:
    """
    Each failure of each ledger, with the ledger's directory: outputs, then jobs that could not be listed.

    Raises:
        LedgerMissingError: There is no ledger.
        LedgerError: One cannot be read.
    """
    for path in await asyncio.to_thread(find_ledgers, output):
        async with _open_ledgers(path) as ledger:
            for page in (maintenance_queries.failed_outputs_after, maintenance_queries.unlisted_jobs_after):
                async for row in _paged(ledger, page):
                    yield _name(path, output), row


async def _paged(ledger: Ledger, page: Callable[..., list[FailedRow]]) -> AsyncIterator[FailedRow]:
    last = 0
    while rows := await ledger.read(partial(page, row_id=last)):
        for row in rows:
            yield row
        last = rows[-1].row_id


@asynccontextmanager
async def _open_ledgers(path: Path) -> AsyncIterator[Ledger]:
    ledger = await Ledger.open(path, read_only=True)
    try:
        yield ledger
    finally:
        await ledger.close()


def _name(path: Path, output: Path) -> str:
    return path.parent.parent.relative_to(output).as_posix()


def _status(connection: Connection, name: str) -> LedgerStatus:
    return LedgerStatus(
        output=name,
        jobs=queries.count_jobs(connection),
        counts={
            (kind, state, reason): Count(outputs, size_bytes)
            for kind, state, reason, outputs, size_bytes in queries.count_outputs(connection)
        },
        listing_failed=maintenance_queries.count_unlisted(connection),
        owner=_running_run(connection),
        last_run_at=parse_timestamp(queries.last_run_at(connection)),
    )


def _running_run(connection: Connection) -> LeaseOwner | None:
    held = lease.holder(connection)
    if held is None:
        return None
    owner, myself = held.owner, lease.Owner.current("")
    alive = lease.liveness_of(held, myself, datetime.now(UTC)) is lease.Liveness.RUNNING
    return LeaseOwner(owner.run_id, owner.host, owner.pid, held.since_at, held.beat_at, alive)


def _row_of(failed: FailedRow) -> FailureRow | None:
    known = failed.record
    if known is None:
        return None
    key = known.file.key if known.file else None
    return FailureRow(known.output, key, failed.reason, failed.detail, failed.attempts)


def failure_dict(failed: FailedRow, ledger: str) -> dict[str, object]:
    """One failure as ``status --failures`` tells it; a job that could not be listed has no kind."""
    row = _row_of(failed)
    if row is not None:
        return {**row.as_dict(), "ledger": ledger}
    told = dict.fromkeys(FAILURE_COLUMNS)
    told |= {"project_id": failed.project_id, "job_id": failed.job_id, "ledger": ledger}
    told |= {"reason": str(failed.reason), "detail": f"its tasks could not be listed: {failed.detail}"}
    return {**told, "name": "", "attempts": 0, "hint": FAILURE_POLICIES[failed.reason].hint}
