"""
Read and change the ledger for the commands status, verify and retry, and for a rebuild.

Long results are read in pages by row ID. The memory does not grow with the number of outputs, and no read
is so long that it prevents the checkpoint of the write-ahead log of a concurrent run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from sqlite3 import Connection, Row

from bulkdl.ledger.rows import (
    PLANNED,
    OutputRecord,
    format_now,
    parse_reason,
    read_output,
    read_ref,
    select_outputs,
)
from bulkdl.models import ContainerRef, Reason

PAGE = 500

_SELECT_OUTPUTS = select_outputs("outputs.id", "outputs.detail", "outputs.attempts")

# The reason of a container that is not final is not a failure.
_HAS_FAILED_LISTING = f"reason <> '{Reason.CONTAINER_UNFINISHED}'"


@dataclass(frozen=True, slots=True)
class FileRow:
    """A completed output and its row ID."""

    row_id: int
    record: OutputRecord


def list_completed_after(connection: Connection, row_id: int) -> list[FileRow]:
    """Return the next page of completed outputs."""
    rows = connection.execute(
        f"{_SELECT_OUTPUTS} WHERE outputs.id > ? AND outputs.state = 'completed'"
        f" ORDER BY outputs.id LIMIT {PAGE}",
        (row_id,),
    )
    return [FileRow(row["id"], read_output(row)) for row in rows]


def count_completed(connection: Connection) -> tuple[int, int]:
    """Return the number of completed outputs and their total size."""
    row = connection.execute(
        "SELECT count(*), coalesce(sum(size_bytes), 0) FROM outputs WHERE state = 'completed'"
    ).fetchone()
    return row[0], row[1]


def mark_for_redownload(connection: Connection, rejected: Iterable[tuple[int, str]]) -> None:
    """
    Mark rows for download, with the problem of their file.

    The committed file stays recorded: a planned output with a committed file is a rejected file.
    """
    now = format_now()
    connection.executemany(
        f"UPDATE outputs SET state = '{PLANNED}', reason = NULL, detail = ?, recorded_at = ?"  # noqa: S608
        " WHERE id = ? AND state = 'completed'",
        [(detail, now, row_id) for row_id, detail in rejected],
    )


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A failed output, or a container whose outputs could not be listed (then *record* is None)."""

    row_id: int
    container: ContainerRef
    reason: Reason
    detail: str
    attempts: int
    record: OutputRecord | None


def list_failed_outputs_after(connection: Connection, row_id: int, limit: int = PAGE) -> list[FailedRow]:
    """Return the next page of failed outputs."""
    rows = connection.execute(
        f"{_SELECT_OUTPUTS} WHERE outputs.id > ? AND outputs.state = 'failed' ORDER BY outputs.id LIMIT ?",
        (row_id, limit),
    )
    return [_failed_row(row, read_output(row), row["attempts"]) for row in rows]


def list_failed_listings_after(connection: Connection, row_id: int, limit: int = PAGE) -> list[FailedRow]:
    """Return the next page of containers whose outputs could not be listed."""
    rows = connection.execute(
        f"SELECT * FROM containers WHERE id > ? AND {_HAS_FAILED_LISTING} ORDER BY id LIMIT ?",  # noqa: S608
        (row_id, limit),
    )
    return [_failed_row(row, None, 0) for row in rows]


def _failed_row(row: Row, record: OutputRecord | None, attempts: int) -> FailedRow:
    reason = parse_reason(row["reason"]) or Reason.INTERNAL
    return FailedRow(row["id"], read_ref(row), reason, row["detail"] or "", attempts, record)


def count_failed_listings(connection: Connection) -> int:
    """Return the number of containers whose outputs could not be listed."""
    query = f"SELECT count(*) FROM containers WHERE {_HAS_FAILED_LISTING}"  # noqa: S608 - a constant
    count: int = connection.execute(query).fetchone()[0]
    return count


def find_containers_to_retry(
    connection: Connection, reasons: Collection[Reason | None]
) -> list[ContainerRef]:
    """Return the containers that have outputs or a listing with one of *reasons*."""
    names = [reason.value for reason in reasons if reason is not None]
    marks = ",".join("?" * len(names))
    rejected = f"OR (state = '{PLANNED}' AND key IS NOT NULL)" if None in reasons else ""
    rows = connection.execute(
        f"SELECT source, scope, container_id FROM containers WHERE reason IN ({marks}) OR id IN ("  # noqa: S608 - placeholders
        "SELECT container FROM outputs WHERE (state IN ('failed', 'skipped')"
        f" AND reason IN ({marks})) {rejected})"
        " ORDER BY id",
        (*names, *names),
    )
    return [read_ref(row) for row in rows]


def find_recorded_containers(connection: Connection, ids: Sequence[str]) -> set[ContainerRef]:
    """Return the containers with one of *ids* that the ledger contains, in any scope."""
    placeholders = ",".join("?" * len(ids))
    rows = connection.execute(
        f"SELECT source, scope, container_id FROM containers WHERE container_id IN ({placeholders})",  # noqa: S608 - only placeholders
        tuple(ids),
    )
    return {read_ref(row) for row in rows}


def list_keys_of_containers(connection: Connection, ids: Sequence[str]) -> Iterator[str]:
    """Return the recorded keys of the outputs of the containers with one of *ids*, in any scope."""
    placeholders = ",".join("?" * len(ids))
    rows = connection.execute(
        "SELECT key FROM outputs JOIN containers ON containers.id = outputs.container"  # noqa: S608 - only placeholders
        f" WHERE container_id IN ({placeholders}) AND key IS NOT NULL",
        tuple(ids),
    )
    return (row["key"] for row in rows)


def find_recorded_keys(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Return the *keys* that the ledger contains. Reads all rows: pass many keys in one call."""
    placeholders = ",".join("?" * len(keys))
    rows = connection.execute(f"SELECT key FROM outputs WHERE key IN ({placeholders})", tuple(keys))  # noqa: S608
    return {row["key"] for row in rows}


def _count_containers(connection: Connection) -> int:
    """Return the number of recorded containers."""
    count: int = connection.execute("SELECT count(*) FROM containers").fetchone()[0]
    return count


def find_integrity_error(connection: Connection) -> str | None:
    """Return the first problem that SQLite finds in the file; None if it finds none."""
    problem: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    return None if problem == "ok" else " ".join(problem.split())


# An interrupted rebuild leaves its row in the table runs, and can be repeated.
_REBUILD_PREFIX = "rebuild-"


def start_rebuild(connection: Connection, run_id: str) -> bool:
    """
    Record the start of the rebuild *run_id*, which must start with ``rebuild-``.

    Returns:
        False if the ledger contains containers of a run and must not be changed.
    """
    runs = [row["run_id"] for row in connection.execute("SELECT run_id FROM runs")]
    was_interrupted = bool(runs) and all(run.startswith(_REBUILD_PREFIX) for run in runs)
    if _count_containers(connection) and not was_interrupted:
        return False
    connection.execute(f"DELETE FROM runs WHERE run_id LIKE '{_REBUILD_PREFIX}%'")  # noqa: S608
    connection.execute("INSERT INTO runs (run_id, started_at) VALUES (?, ?)", (run_id, format_now()))
    return True


def finish_rebuild(connection: Connection) -> None:
    """Delete the rows of rebuilds, so that a rebuild does not count as the last successful run."""
    connection.execute(f"DELETE FROM runs WHERE run_id LIKE '{_REBUILD_PREFIX}%'")  # noqa: S608
