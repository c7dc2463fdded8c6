"""
What is asked of a ledger by those who look at it as a whole: status, verify, retry, rebuild.

Everything that can be long is read a page at a time, by row id: nothing holds a list of all outputs,
and no read lasts so long that it would keep a run from cleaning its log of changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from sqlite3 import Connection, Row

from bulkdl.ledger.rows import PLANNED, OutputRecord, names_of, now_text, read_output, reason_in
from bulkdl.models import Reason

PAGE = 500

_OUTPUTS = "SELECT jobs.project_id, jobs.job_id, outputs.* FROM outputs JOIN jobs ON jobs.id = outputs.job"

# A job that UP42 has not finished has that as its reason; nothing failed.
_UNLISTED = f"reason <> '{Reason.JOB_UNFINISHED}'"


@dataclass(frozen=True, slots=True)
class FileRow:
    """A completed output; *row_id* is its row."""

    row_id: int
    record: OutputRecord


def completed_after(connection: Connection, row_id: int) -> list[FileRow]:
    """The next page of completed outputs."""
    rows = connection.execute(
        f"{_OUTPUTS} WHERE outputs.id > ? AND outputs.state = 'completed' ORDER BY outputs.id LIMIT {PAGE}",
        (row_id,),
    )
    return [FileRow(row["id"], read_output(row)) for row in rows]


def count_completed(connection: Connection) -> tuple[int, int]:
    """Completed outputs, and their bytes."""
    row = connection.execute(
        "SELECT count(*), coalesce(sum(size_bytes), 0) FROM outputs WHERE state = 'completed'"
    ).fetchone()
    return row[0], row[1]


def mark_for_redownload(connection: Connection, rejected: Iterable[tuple[int, str]]) -> None:
    """
    Mark rows to be fetched again, each with what is wrong with its file.

    They keep their receipt: a planned output that has one is a file that was rejected.
    """
    now = now_text()
    connection.executemany(
        f"UPDATE outputs SET state = '{PLANNED}', reason = NULL, detail = ?, recorded_at = ?"  # noqa: S608
        " WHERE id = ? AND state = 'completed'",
        [(detail, now, row_id) for row_id, detail in rejected],
    )


@dataclass(frozen=True, slots=True)
class FailedRow:
    """What failed last: an output, or (*known* None) a job whose tasks could not be listed."""

    row_id: int
    project_id: str
    job_id: str
    reason: Reason
    detail: str
    attempts: int
    record: OutputRecord | None


def failed_outputs_after(connection: Connection, row_id: int, limit: int = PAGE) -> list[FailedRow]:
    """The next page of failed outputs."""
    rows = connection.execute(
        f"{_OUTPUTS} WHERE outputs.id > ? AND outputs.state = 'failed' ORDER BY outputs.id LIMIT ?",
        (row_id, limit),
    )
    return [_failed(row, read_output(row), row["attempts"]) for row in rows]


def unlisted_jobs_after(connection: Connection, row_id: int, limit: int = PAGE) -> list[FailedRow]:
    """The next page of jobs whose tasks could not be listed."""
    rows = connection.execute(
        f"SELECT * FROM jobs WHERE id > ? AND {_UNLISTED} ORDER BY id LIMIT ?",  # noqa: S608
        (row_id, limit),
    )
    return [_failed(row, None, 0) for row in rows]


def _failed(row: Row, known: OutputRecord | None, attempts: int) -> FailedRow:
    reason = reason_in(row["reason"]) or Reason.INTERNAL
    return FailedRow(
        row["id"], row["project_id"], row["job_id"], reason, row["detail"] or "", attempts, known
    )


def count_unlisted(connection: Connection) -> int:
    """Jobs whose tasks could not be listed."""
    count: int = connection.execute(f"SELECT count(*) FROM jobs WHERE {_UNLISTED}").fetchone()[0]  # noqa: S608
    return count


def jobs_to_retry(connection: Connection, reasons: Collection[Reason | None]) -> list[tuple[str, str]]:
    """Project and job id of the jobs that have something that ended for one of *reasons*."""
    named = [name for reason in reasons if reason is not None for name in names_of(reason)]
    marks = ",".join("?" * len(named))
    rejected = f"OR (state = '{PLANNED}' AND key IS NOT NULL)" if None in reasons else ""
    rows = connection.execute(
        f"SELECT project_id, job_id FROM jobs WHERE reason IN ({marks}) OR id IN ("  # noqa: S608 - only marks
        f"SELECT job FROM outputs WHERE (state IN ('failed', 'skipped') AND reason IN ({marks})) {rejected})"
        " ORDER BY id",
        (*named, *named),
    )
    return [(row["project_id"], row["job_id"]) for row in rows]


def jobs_among(connection: Connection, job_ids: Sequence[str]) -> set[tuple[str, str]]:
    """Project and job id of those jobs that are known."""
    marks = ",".join("?" * len(job_ids))
    rows = connection.execute(
        f"SELECT project_id, job_id FROM jobs WHERE job_id IN ({marks})",  # noqa: S608 - only marks
        tuple(job_ids),
    )
    return {(row["project_id"], row["job_id"]) for row in rows}


def keys_of_jobs(connection: Connection, job_ids: Sequence[str]) -> Iterator[str]:
    """The keys that outputs of these jobs have or had."""
    marks = ",".join("?" * len(job_ids))
    rows = connection.execute(
        "SELECT key FROM outputs JOIN jobs ON jobs.id = outputs.job"  # noqa: S608 - only marks
        f" WHERE jobs.job_id IN ({marks}) AND key IS NOT NULL",
        tuple(job_ids),
    )
    return (row["key"] for row in rows)


def keys_among(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Those of *keys* that any row has. Reads all rows: ask for many at once."""
    marks = ",".join("?" * len(keys))
    rows = connection.execute(f"SELECT key FROM outputs WHERE key IN ({marks})", tuple(keys))  # noqa: S608
    return {row["key"] for row in rows}


def count_rows(connection: Connection) -> int:
    """Jobs that the ledger knows."""
    count: int = connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
    return count


def damage(connection: Connection) -> str | None:
    """What SQLite finds wrong with the file; None for nothing."""
    found: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    return None if found == "ok" else " ".join(found.split())


# A rebuild that was interrupted leaves its row in runs, and may be gone on with.
_REBUILD = "rebuild-"


def begin_rebuild(connection: Connection, run_id: str) -> bool:
    """
    Note that the rebuild *run_id* (its name begins with ``rebuild-``) is under way.

    False when the ledger is somebody's and must not be touched.
    """
    runs = [row["run_id"] for row in connection.execute("SELECT run_id FROM runs")]
    was_interrupted = bool(runs) and all(run.startswith(_REBUILD) for run in runs)
    if count_rows(connection) and not was_interrupted:
        return False
    connection.execute(f"DELETE FROM runs WHERE run_id LIKE '{_REBUILD}%'")  # noqa: S608
    connection.execute("INSERT INTO runs (run_id, started_at) VALUES (?, ?)", (run_id, now_text()))
    return True


def end_rebuild(connection: Connection) -> None:
    """It is complete. No row stays: it was no run, and must not count as the last one that went well."""
    connection.execute(f"DELETE FROM runs WHERE run_id LIKE '{_REBUILD}%'")  # noqa: S608
