"""Read and write the ledger during a run. All functions block: call them on the ledger's thread."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from bulkdl.ledger.rows import (
    ContainerRecord,
    OutputRecord,
    format_kinds,
    format_now,
    format_ref,
    format_timestamp,
    parse_kinds,
    parse_timestamp,
    read_container,
    read_output,
    select_outputs,
)
from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.models import CommittedFile, Container, ContainerRef, Output, Reason, Result, Validator
from bulkdl.source_spec import kind_spec

# The files of outputs with the same identity that are examined. A user may have deleted some of them.
_MAX_SAME_FILES = 8

_SELECT_OUTPUTS = select_outputs()

_UPSERT_CONTAINER = """
INSERT INTO containers (
    source, scope, container_id, status, is_final, revision, created_at, finished_at, name, attributes,
    listed_kinds, reason, detail, path_values
)
VALUES (
    :source, :scope, :container_id, :status, :is_final, :revision, :created_at, :finished_at, :name,
    :attributes, :listed_kinds, :reason, :detail, :path_values
)
ON CONFLICT (container_id, scope, source) DO UPDATE SET
    status = excluded.status, is_final = excluded.is_final, revision = excluded.revision,
    created_at = excluded.created_at, finished_at = excluded.finished_at, name = excluded.name,
    attributes = excluded.attributes, listed_kinds = excluded.listed_kinds,
    reason = excluded.reason, detail = excluded.detail,
    path_values = CASE WHEN excluded.path_values = '{}' THEN path_values ELSE excluded.path_values END
RETURNING id
"""

_PLAN_OUTPUT = """
INSERT INTO outputs (container, parent, kind, name, filename, identity, state)
VALUES (?, ?, ?, ?, ?, ?, 'planned')
ON CONFLICT (container, parent, kind, name) DO UPDATE SET
    filename = excluded.filename, identity = excluded.identity
"""

_CONTAINER_ID = """
(SELECT id FROM containers WHERE container_id = :container_id AND scope = :scope AND source = :source)
"""

_RECORD = f"""
UPDATE outputs SET
    state = :state, reason = :reason, detail = :detail, attempts = attempts + :attempts,
    run_id = :run_id, recorded_at = :recorded_at,
    key = coalesce(:key, key), size_bytes = coalesce(:size_bytes, size_bytes),
    digest = coalesce(:digest, digest), object_url = coalesce(:object_url, object_url),
    etag = CASE WHEN :key IS NULL THEN etag ELSE :etag END,
    last_modified = CASE WHEN :key IS NULL THEN last_modified ELSE :last_modified END,
    generation = CASE WHEN :key IS NULL THEN generation ELSE :generation END,
    object_version = CASE WHEN :key IS NULL THEN object_version ELSE :object_version END
WHERE container = {_CONTAINER_ID} AND parent = :parent AND kind = :kind AND name = :name
"""  # noqa: S608 - constants


def read_containers(
    connection: sqlite3.Connection, source: str, scope: str, ids: Sequence[str]
) -> dict[str, ContainerRecord]:
    """Return the records of those *ids* that the ledger contains, by ID."""
    placeholders = ",".join("?" * len(ids))
    condition = f"containers.source = ? AND containers.scope = ? AND container_id IN ({placeholders})"
    values = (source, scope, *ids)
    outputs: dict[str, list[OutputRecord]] = {}
    for row in connection.execute(f"{_SELECT_OUTPUTS} WHERE {condition} ORDER BY outputs.id", values):
        outputs.setdefault(row["container_id"], []).append(read_output(row))
    rows = connection.execute(f"SELECT * FROM containers WHERE {condition}", values)  # noqa: S608 - only placeholders
    return {row["container_id"]: read_container(row, outputs.get(row["container_id"], [])) for row in rows}


def find_scopes(connection: sqlite3.Connection, source: str, container_id: str) -> list[str]:
    """Return the scopes that contain a recorded container with this ID."""
    rows = connection.execute(
        "SELECT scope FROM containers WHERE container_id = ? AND source = ?", (container_id, source)
    )
    return [row["scope"] for row in rows]


def plan_container(connection: sqlite3.Connection, listing: ContainerListing) -> None:
    """Record a listed container with all its outputs. The recorded results of its outputs are not changed."""
    row_id = _upsert_container(
        connection,
        listing.container,
        listed_kinds=listing.listed_kinds if listing.is_final else frozenset(),
        reason=None if listing.is_final else Reason.CONTAINER_UNFINISHED.value,
    )
    failed = [failure.output for failure in listing.failures]
    for kind in {*listing.listed_kinds, *(output.kind for output in failed)}:
        if kind_spec(kind).has_names:
            parents = [output.parent for output in failed if output.kind == kind]
            _delete_placeholders(connection, row_id, kind, except_parents=parents)
    planned = (*listing.outputs, *(PlannedOutput(output) for output in failed))
    connection.executemany(
        _PLAN_OUTPUT,
        [
            (
                row_id,
                entry.output.parent,
                entry.output.kind,
                entry.output.name,
                entry.filename,
                entry.identity,
            )
            for entry in planned
        ],
    )


def _delete_placeholders(
    connection: sqlite3.Connection, container: int, kind: str, *, except_parents: Sequence[str]
) -> None:
    """Delete the rows that stand for lists of *kind* that could not be read, and can be read now."""
    placeholders = ",".join("?" * len(except_parents))
    connection.execute(
        "DELETE FROM outputs WHERE container = ? AND kind = ? AND name = ''"  # noqa: S608 - only placeholders
        f" AND parent NOT IN ({placeholders})",
        (container, kind, *except_parents),
    )


def record_unfinished(connection: sqlite3.Connection, containers: Sequence[Container]) -> None:
    """Record containers that are not final, so that a later run with a watermark lists them again."""
    for container in containers:
        _upsert_container(connection, container, reason=Reason.CONTAINER_UNFINISHED.value)


def record_excluded(connection: sqlite3.Connection, containers: Sequence[Container]) -> None:
    """Record containers whose final status is not selected. A run that selects it lists them."""
    for container in containers:
        _upsert_container(connection, container)


def record_listing_failure(
    connection: sqlite3.Connection, container: Container, reason: Reason, detail: str
) -> None:
    """Record why the outputs of a container could not be listed. The next run lists them again."""
    _upsert_container(connection, container, reason=reason.value, detail=detail)


def _upsert_container(
    connection: sqlite3.Connection,
    container: Container,
    *,
    listed_kinds: frozenset[str] = frozenset(),
    reason: str | None = None,
    detail: str | None = None,
) -> int:
    """Record *container*, and add *listed_kinds* to the kinds that were listed before."""
    values = _format_container(container)
    recorded = connection.execute(f"SELECT listed_kinds FROM containers WHERE id = {_CONTAINER_ID}", values)  # noqa: S608
    for row in recorded:
        listed_kinds |= parse_kinds(row["listed_kinds"])
    values |= {"listed_kinds": format_kinds(listed_kinds), "reason": reason, "detail": detail}
    row_id: int = connection.execute(_UPSERT_CONTAINER, values).fetchone()["id"]
    return row_id


def _format_container(container: Container) -> dict[str, object]:
    """Return the parameters of the statement that records *container*."""
    return {
        **format_ref(container.ref),
        "status": container.status,
        "is_final": container.is_final,
        "revision": container.revision,
        "created_at": format_timestamp(container.created_at),
        "finished_at": format_timestamp(container.finished_at),
        "name": container.name,
        "attributes": json.dumps(dict(container.attributes), separators=(",", ":")),
        "path_values": json.dumps(dict(container.path_values), separators=(",", ":")),
    }


def find_same_object(connection: sqlite3.Connection, output: Output, source: str) -> list[CommittedFile]:
    """Return a committed file of the same container with the same source object, if there is one."""
    rows = connection.execute(
        f"{_SELECT_OUTPUTS} WHERE outputs.container = {_CONTAINER_ID} "
        " AND NOT (parent = :parent AND kind = :kind AND outputs.name = :name)"
        # The plus prevents that SQLite uses the index on the state instead of the index on the container.
        " AND object_url = :object_url AND +state = 'completed' LIMIT 1",
        {
            **format_ref(output.container),
            "kind": output.kind,
            "name": output.name,
            "object_url": source,
            "parent": output.parent,
        },
    )
    return _read_files(rows)


def find_same_identity(connection: sqlite3.Connection, output: Output, identity: str) -> list[CommittedFile]:
    """Return committed files of outputs of the same source with *identity*, at most a few."""
    rows = connection.execute(
        f"{_SELECT_OUTPUTS} WHERE outputs.identity = :identity AND outputs.identity <> ''"
        " AND containers.source = :source AND +state = 'completed' AND key IS NOT NULL"
        f" AND NOT (outputs.container = coalesce({_CONTAINER_ID}, 0)"
        " AND parent = :parent AND kind = :kind AND outputs.name = :name)"
        " ORDER BY outputs.id LIMIT :limit",
        {
            **format_ref(output.container),
            "identity": identity,
            "kind": output.kind,
            "name": output.name,
            "parent": output.parent,
            "limit": _MAX_SAME_FILES,
        },
    )
    return _read_files(rows)


def _read_files(rows: Iterable[sqlite3.Row]) -> list[CommittedFile]:
    found = (read_output(row).file for row in rows)
    return [file for file in found if file is not None]


def forget_container(connection: sqlite3.Connection, ref: ContainerRef) -> None:
    """Delete the records of a container that was produced again: they describe older results."""
    connection.execute(f"DELETE FROM containers WHERE id = {_CONTAINER_ID}", format_ref(ref))  # noqa: S608


def record_results(connection: sqlite3.Connection, results: Sequence[Result], run_id: str) -> None:
    """Record the results of downloads. Call it only after their files are durable."""
    connection.executemany(_RECORD, [_format_result(result, run_id) for result in results])


def _format_result(result: Result, run_id: str) -> dict[str, object]:
    """Return the parameters of the statement that records *result*."""
    file = result.file
    validator = file.validator if file else Validator()
    return {
        **format_ref(result.output.container),
        "parent": result.output.parent,
        "kind": result.output.kind,
        "name": result.output.name,
        "state": result.outcome.value,
        "reason": result.reason.value,
        "detail": result.detail or None,
        "key": file.key if file else None,
        "size_bytes": file.size_bytes if file else None,
        "digest": str(file.digest) if file else None,
        "etag": validator.etag,
        "last_modified": validator.last_modified,
        "generation": validator.generation,
        "object_url": file.source if file else None,
        "object_version": file.version if file else None,
        "attempts": result.attempts,
        "run_id": run_id,
        "recorded_at": format_now(),
    }


def start_run(
    connection: sqlite3.Connection, run_id: str, scopes: Mapping[str, str | None], *, destination: str
) -> None:
    """Record the start of a run with the watermark scope of each of its sources."""
    connection.execute(
        "INSERT INTO runs (run_id, started_at, destination) VALUES (?, ?, ?)",
        (run_id, format_now(), destination),
    )
    connection.executemany(
        "INSERT INTO run_sources (run_id, source, scope) VALUES (?, ?, ?)",
        [(run_id, source, scope) for source, scope in scopes.items()],
    )


def find_watermark(connection: sqlite3.Connection, source: str, scope: str | None) -> datetime | None:
    """Return the start of the last run of *scope* in which *source* ended with exit code 0."""
    row = connection.execute(
        "SELECT max(started_at) AS at FROM runs JOIN run_sources USING (run_id)"
        " WHERE run_sources.source = ? AND run_sources.scope = ? AND run_sources.exit_code = 0",
        (source, scope),
    ).fetchone()
    return parse_timestamp(row["at"])


def finish_run(
    connection: sqlite3.Connection,
    run_id: str,
    exit_code: int,
    summary: str,
    *,
    exit_codes: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Record the end of a run with its exit code, and those of its sources."""
    connection.execute(
        "UPDATE runs SET finished_at = ?, exit_code = ?, summary = ? WHERE run_id = ?",
        (format_now(), exit_code, summary, run_id),
    )
    connection.executemany(
        "UPDATE run_sources SET exit_code = ? WHERE run_id = ? AND source = ?",
        [(code, run_id, source) for source, code in exit_codes.items()],
    )


def count_containers(connection: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """
    Return the number of containers by source and state.

    The states are ``up_to_date`` (no planned output is missing), ``incomplete``, ``unfinished`` (it is not
    final), ``listing_failed``, and ``not_selected`` (it ended with a status that is not selected).
    """
    rows = connection.execute(
        f"""
        SELECT source, CASE
            WHEN listed_kinds = '[]' AND reason = '{Reason.CONTAINER_UNFINISHED}' THEN 'unfinished'
            WHEN listed_kinds = '[]' AND reason IS NULL THEN 'not_selected'
            WHEN listed_kinds = '[]' THEN 'listing_failed'
            WHEN EXISTS (
                SELECT 1 FROM outputs
                WHERE container = containers.id AND state IN ('planned', 'failed', 'cancelled')
            )
                THEN 'incomplete'
            ELSE 'up_to_date'
        END AS state, count(*) AS containers FROM containers GROUP BY 1, 2
        """  # noqa: S608 - a constant of ours
    )
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        counts.setdefault(row["source"], {})[row["state"]] = row["containers"]
    return counts


def count_outputs(connection: sqlite3.Connection) -> list[tuple[str, str, str, int, int]]:
    """Return kind, state, reason ('' for none), number of outputs, and bytes of completed outputs."""
    rows = connection.execute(
        """
        SELECT kind, state, reason, count(*) AS outputs,
               sum(CASE WHEN state = 'completed' THEN size_bytes ELSE 0 END) AS size_bytes
        FROM outputs GROUP BY 1, 2, 3
        """
    )
    return [
        (row["kind"], row["state"], row["reason"] or "", row["outputs"], row["size_bytes"]) for row in rows
    ]


def find_last_run_end(connection: sqlite3.Connection) -> str | None:
    """Return the end of the last run that finished."""
    text: str | None = connection.execute("SELECT max(finished_at) FROM runs").fetchone()[0]
    return text
