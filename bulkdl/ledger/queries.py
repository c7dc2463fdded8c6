"""Read and write the ledger during a run. All functions block: call them on the ledger's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from bulkdl.ledger.rows import (
    QUICKLOOK,
    ContainerRecord,
    OutputRecord,
    format_container,
    format_now,
    format_result,
    parse_reason,
    parse_timestamp,
    read_container,
    read_output,
)
from bulkdl.listings import ContainerListing
from bulkdl.models import CommittedFile, Container, ContainerRef, Output, Reason, Result

_SELECT_OUTPUTS = """
SELECT jobs.project_id, jobs.job_id, jobs.last_task_id, outputs.*
FROM outputs JOIN jobs ON jobs.id = outputs.job
"""

_UPSERT_JOB = """
INSERT INTO jobs (
    project_id, job_id, status, created_at, finished_at, mode, name, workflow_id,
    last_task_id, tasks_listed_at, quicklooks_listed_at, reason, detail
)
VALUES (
    :project_id, :job_id, :status, :created_at, :finished_at, :mode, :name, :workflow_id,
    :last_task_id, :tasks_listed_at, :quicklooks_listed_at, :reason, :detail
)
ON CONFLICT (project_id, job_id) DO UPDATE SET
    status = excluded.status, created_at = excluded.created_at, finished_at = excluded.finished_at,
    mode = excluded.mode, name = excluded.name, workflow_id = excluded.workflow_id,
    last_task_id = coalesce(excluded.last_task_id, last_task_id),
    tasks_listed_at = coalesce(excluded.tasks_listed_at, tasks_listed_at),
    quicklooks_listed_at = coalesce(excluded.quicklooks_listed_at, quicklooks_listed_at),
    reason = excluded.reason, detail = excluded.detail
RETURNING id
"""

_PLAN_OUTPUT = """
INSERT INTO outputs (job, task_id, kind, name, filename, state) VALUES (?, ?, ?, ?, ?, 'planned')
ON CONFLICT (job, task_id, kind, name) DO UPDATE SET filename = excluded.filename
"""

_RECORD = """
UPDATE outputs SET
    state = :state, reason = :reason, detail = :detail, attempts = attempts + :attempts,
    run_id = :run_id, recorded_at = :recorded_at,
    key = coalesce(:key, key), size_bytes = coalesce(:size_bytes, size_bytes),
    digest = coalesce(:digest, digest), source = coalesce(:source, source),
    etag = CASE WHEN :key IS NULL THEN etag ELSE :etag END,
    last_modified = CASE WHEN :key IS NULL THEN last_modified ELSE :last_modified END,
    generation = CASE WHEN :key IS NULL THEN generation ELSE :generation END
WHERE job = (SELECT id FROM jobs WHERE project_id = :project_id AND job_id = :job_id)
  AND task_id = :task_id AND kind = :kind AND name = :name
"""


def read_containers(
    connection: sqlite3.Connection, source: str, scope: str, ids: Sequence[str]
) -> dict[str, ContainerRecord]:
    """Return the records of those *ids* that the ledger contains, by ID."""
    del source  # version 1 of the ledger has one source
    placeholders = ",".join("?" * len(ids))
    condition = f"jobs.project_id = ? AND jobs.job_id IN ({placeholders})"
    values = (scope, *ids)
    outputs: dict[str, list[OutputRecord]] = {}
    for row in connection.execute(f"{_SELECT_OUTPUTS} WHERE {condition} ORDER BY outputs.id", values):
        outputs.setdefault(row["job_id"], []).append(read_output(row))
    jobs = connection.execute(f"SELECT * FROM jobs WHERE {condition}", values)  # noqa: S608 - only placeholders
    return {row["job_id"]: read_container(row, outputs.get(row["job_id"], [])) for row in jobs}


def find_scopes(connection: sqlite3.Connection, source: str, container_id: str) -> list[str]:
    """Return the scopes that contain a recorded container with this ID."""
    del source  # version 1 of the ledger has one source
    rows = connection.execute("SELECT project_id FROM jobs WHERE job_id = ?", (container_id,))
    return [row["project_id"] for row in rows]


def plan_container(connection: sqlite3.Connection, listing: ContainerListing) -> None:
    """Record a listed container with all its outputs. The recorded results of its outputs are not changed."""
    now = format_now()
    are_quicklooks_listed = QUICKLOOK in listing.listed_kinds
    results = (planned.output.parent for planned in listing.outputs if planned.identity)
    row_id = _upsert_container(
        connection,
        listing.container,
        last_task_id=next(filter(None, results), None),
        tasks_listed_at=now if listing.is_final else None,
        reason=None if listing.is_final else Reason.JOB_UNFINISHED.value,
        quicklooks_listed_at=now if are_quicklooks_listed else None,
    )
    failed = [failure.output for failure in listing.failures]
    if are_quicklooks_listed or failed:
        placeholders = ",".join("?" * len(failed))
        connection.execute(
            "DELETE FROM outputs WHERE job = ? AND kind = ? AND name = ''"  # noqa: S608 - only placeholders
            f" AND task_id NOT IN ({placeholders})",
            (row_id, QUICKLOOK, *(output.parent for output in failed)),
        )
    planned = [(planned.output, planned.filename) for planned in listing.outputs]
    connection.executemany(
        _PLAN_OUTPUT,
        [
            (row_id, output.parent, output.kind, output.name, filename)
            for output, filename in (*planned, *((output, "") for output in failed))
        ],
    )


def record_unfinished(connection: sqlite3.Connection, containers: Sequence[Container]) -> None:
    """Record containers that are not final, so that a later run with a watermark lists them again."""
    for container in containers:
        _upsert_container(connection, container, reason=Reason.JOB_UNFINISHED.value)


def record_excluded(connection: sqlite3.Connection, containers: Sequence[Container]) -> None:
    """Record containers whose final status is not selected. A run that selects it lists them."""
    for container in containers:
        _upsert_container(connection, container)


def record_listing_failure(
    connection: sqlite3.Connection, container: Container, reason: Reason, detail: str
) -> None:
    """Record why the outputs of a container could not be listed. The next run lists them again."""
    _upsert_container(connection, container, reason=reason.value, detail=detail)


def _upsert_container(connection: sqlite3.Connection, container: Container, **columns: str | None) -> int:
    absent = dict.fromkeys(("last_task_id", "tasks_listed_at", "quicklooks_listed_at", "reason", "detail"))
    values = {**absent, **format_container(container), **columns}
    row_id: int = connection.execute(_UPSERT_JOB, values).fetchone()["id"]
    return row_id


def find_same_object(connection: sqlite3.Connection, output: Output, source: str) -> CommittedFile | None:
    """Return a committed file of the same container with the same source object; None if there is none."""
    row = connection.execute(
        f"{_SELECT_OUTPUTS} WHERE jobs.project_id = ? AND jobs.job_id = ? AND outputs.kind = ?"
        # The plus prevents that SQLite uses the index on the state instead of the index on the job.
        " AND outputs.source = ? AND +outputs.state = 'completed' AND outputs.task_id <> ?",
        (output.container.scope, output.container.id, output.kind, source, output.parent),
    ).fetchone()
    return read_output(row).file if row else None


def forget_container(connection: sqlite3.Connection, ref: ContainerRef) -> None:
    """Delete the records of a container that was produced again: they describe older results."""
    connection.execute("DELETE FROM jobs WHERE project_id = ? AND job_id = ?", (ref.scope, ref.id))


def record_results(connection: sqlite3.Connection, results: Sequence[Result], run_id: str) -> None:
    """Record the results of downloads. Call it only after their files are durable."""
    connection.executemany(_RECORD, [format_result(result, run_id) for result in results])


def start_run(connection: sqlite3.Connection, run_id: str, scope: str | None) -> None:
    connection.execute(
        "INSERT INTO runs (run_id, started_at, scope) VALUES (?, ?, ?)", (run_id, format_now(), scope)
    )


def find_watermark(connection: sqlite3.Connection, scope: str | None) -> datetime | None:
    """Return the start of the last run of *scope* that ended with exit code 0."""
    row = connection.execute(
        "SELECT max(started_at) AS at FROM runs WHERE scope = ? AND exit_code = 0", (scope,)
    ).fetchone()
    return parse_timestamp(row["at"])


def finish_run(connection: sqlite3.Connection, run_id: str, exit_code: int, summary: str) -> None:
    connection.execute(
        "UPDATE runs SET finished_at = ?, exit_code = ?, summary = ? WHERE run_id = ?",
        (format_now(), exit_code, summary, run_id),
    )


def count_containers(connection: sqlite3.Connection) -> dict[str, int]:
    """
    Return the number of containers by state.

    The states are ``up_to_date`` (no planned output is missing), ``incomplete``, ``unfinished`` (it is not
    final), ``listing_failed``, and ``not_selected`` (it ended with a status that is not selected).
    """
    rows = connection.execute(
        f"""
        SELECT CASE
            WHEN tasks_listed_at IS NULL AND reason = '{Reason.JOB_UNFINISHED}' THEN 'unfinished'
            WHEN tasks_listed_at IS NULL AND reason IS NULL THEN 'not_selected'
            WHEN tasks_listed_at IS NULL THEN 'listing_failed'
            WHEN EXISTS (
                SELECT 1 FROM outputs
                WHERE job = jobs.id AND state IN ('planned', 'failed', 'cancelled')
            )
                THEN 'incomplete'
            ELSE 'up_to_date'
        END AS state, count(*) AS jobs FROM jobs GROUP BY 1
        """  # noqa: S608 - a constant of ours
    )
    return {row["state"]: row["jobs"] for row in rows}


def count_outputs(connection: sqlite3.Connection) -> list[tuple[str, str, str, int, int]]:
    """Return kind, state, reason ('' for none), number of outputs, and bytes of completed outputs."""
    rows = connection.execute(
        """
        SELECT kind, state, reason, count(*) AS outputs,
               sum(CASE WHEN state = 'completed' THEN size_bytes ELSE 0 END) AS size_bytes
        FROM outputs GROUP BY 1, 2, 3
        """
    )
    counts: dict[tuple[str, str, str], tuple[int, int]] = {}
    for row in rows:
        group = row["kind"], row["state"], parse_reason(row["reason"]) or ""
        outputs, size_bytes = counts.get(group, (0, 0))
        counts[group] = outputs + row["outputs"], size_bytes + row["size_bytes"]
    return [(*group, *numbers) for group, numbers in counts.items()]


def find_last_run_end(connection: sqlite3.Connection) -> str | None:
    """Return the end of the last run that finished."""
    text: str | None = connection.execute("SELECT max(finished_at) FROM runs").fetchone()[0]
    return text
