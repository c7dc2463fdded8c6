"""
Read and record the results of processors: the table ``derived``.

A processor has one state row for each output that it processed, with an empty key. The state row contains
the digest of the processed file: the result is current as long as the version of the processor and the
digest of the output do not change. Each derived file has a row with its key. The rows of the step at the
end of a run have no output.

All functions block: call them on the ledger's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sqlite3 import Connection, Row

from bulkdl.ledger.rows import OutputRecord, format_now, format_ref, read_output, select_outputs
from bulkdl.models import ContainerRef, Digest, Output

PAGE = 500

UNPACKER = "unpack"
"""The processor whose files can replace the file of an output."""

_SELECT_OUTPUTS = select_outputs("outputs.id", "outputs.detail")
_DERIVED_COLUMNS = (
    "derived.rowid AS derived_id",
    "derived.processor",
    "derived.key AS derived_key",
    "derived.size_bytes AS derived_bytes",
    "derived.digest AS derived_digest",
    "derived.detail AS derived_detail",
)
_SELECT_DERIVED = (
    f"{select_outputs('outputs.id', *_DERIVED_COLUMNS)} JOIN derived ON derived.output = outputs.id"
)

_IS_PENDING = """
outputs.state = 'completed' AND outputs.key IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM derived
    WHERE derived.output = outputs.id AND derived.processor = :processor AND derived.key = ''
      AND derived.version = :version AND derived.digest IS outputs.digest
      AND (derived.state <> 'failed' OR NOT :include_failed)
)
"""

_INSERT = """
INSERT INTO derived (output, processor, version, state, key, size_bytes, digest, detail, recorded_at)
SELECT :output, :processor, :version, :state, :key, :size_bytes, :digest, :detail, :recorded_at
WHERE :output IS NULL OR EXISTS (SELECT 1 FROM outputs WHERE id = :output)
"""


@dataclass(frozen=True, slots=True)
class PendingOutput:
    """A completed output without a current result of a processor."""

    row_id: int
    record: OutputRecord


@dataclass(frozen=True, slots=True)
class PendingPage:
    """
    The pending outputs in one range of rows.

    Attributes:
        last_id: The last row of the range; None if there are no further rows.
    """

    outputs: tuple[PendingOutput, ...]
    last_id: int | None


@dataclass(frozen=True, slots=True)
class DerivedRow:
    """One derived file of an output, or of the step at the end of a run."""

    key: str
    size_bytes: int
    digest: Digest | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ProcessedRow:
    """
    The result of a processor for one output.

    Attributes:
        output_id: The row of the output; None for the step at the end of a run.
        state: ``completed``, ``failed`` or ``skipped``.
        input_digest: The digest of the processed file.
    """

    output_id: int | None
    processor: str
    version: int
    state: str
    input_digest: Digest | None
    detail: str = ""
    files: tuple[DerivedRow, ...] = ()


def list_pending_after(
    connection: Connection, row_id: int, processor: str, version: int, *, include_failed: bool
) -> PendingPage:
    """
    Return the pending outputs in the next range of completed outputs.

    The range is limited, because a long read delays the writes of a run.
    """
    last_id = connection.execute(
        "SELECT max(id) FROM (SELECT id FROM outputs WHERE id > ?"
        " AND state = 'completed' ORDER BY id LIMIT ?)",
        (row_id, PAGE),
    ).fetchone()[0]
    if last_id is None:
        return PendingPage((), None)
    rows = connection.execute(
        f"{_SELECT_OUTPUTS} WHERE outputs.id > :after AND outputs.id <= :last AND {_IS_PENDING}"
        " ORDER BY outputs.id",
        {"after": row_id, "last": last_id, **_processor_values(processor, version, include_failed)},
    )
    return PendingPage(tuple(PendingOutput(row["id"], read_output(row)) for row in rows), last_id)


def find_pending(
    connection: Connection, output: Output, processor: str, version: int, *, include_failed: bool
) -> PendingOutput | None:
    """Return *output* if it is pending, otherwise None."""
    row = connection.execute(
        f"{_SELECT_OUTPUTS} WHERE container_id = :container_id AND scope = :scope"
        " AND containers.source = :source"
        " AND outputs.parent = :parent AND outputs.kind = :kind AND outputs.name = :name"
        f" AND {_IS_PENDING}",
        {
            **format_ref(output.container),
            "parent": output.parent,
            "kind": output.kind,
            "name": output.name,
            **_processor_values(processor, version, include_failed),
        },
    ).fetchone()
    return PendingOutput(row["id"], read_output(row)) if row else None


def _processor_values(processor: str, version: int, include_failed: bool) -> dict[str, object]:
    return {"processor": processor, "version": version, "include_failed": include_failed}


def record_processed(connection: Connection, processed: ProcessedRow) -> None:
    """
    Record the result of a processor in place of its earlier result. Call it only after its files are durable.

    A failure keeps the rows of the files that an earlier call derived. Otherwise the files that the result
    does not contain become obsolete. Nothing is recorded for an output that is no longer in the ledger.
    """
    is_failed = processed.state == "failed"
    if not is_failed:
        _record_obsolete_files(connection, processed)
    condition = "output IS ? AND processor = ?" + (" AND key = ''" if is_failed else "")
    connection.execute(
        f"DELETE FROM derived WHERE {condition}",  # noqa: S608 - constants
        (processed.output_id, processed.processor),
    )
    shared = {
        "output": processed.output_id,
        "processor": processed.processor,
        "version": processed.version,
        "state": processed.state,
        "recorded_at": format_now(),
    }
    state_row = DerivedRow("", 0, processed.input_digest, processed.detail)
    connection.executemany(
        _INSERT,
        [
            {
                **shared,
                "key": file.key,
                "size_bytes": file.size_bytes,
                "digest": str(file.digest) if file.digest else None,
                "detail": file.detail or None,
            }
            for file in (state_row, *processed.files)
        ],
    )


def _record_obsolete_files(connection: Connection, processed: ProcessedRow) -> None:
    """List the files of the earlier result that *processed* does not contain."""
    keys = {"", *(file.key for file in processed.files)}
    earlier = connection.execute(
        "SELECT key, size_bytes, digest FROM derived WHERE output IS ? AND processor = ?",
        (processed.output_id, processed.processor),
    )
    connection.executemany(
        "INSERT OR REPLACE INTO obsolete_files (key, size_bytes, digest) VALUES (?, ?, ?)",
        [tuple(row) for row in earlier if row["key"] not in keys],
    )


def list_obsolete_files(connection: Connection, before_key: str | None = None) -> list[DerivedRow]:
    """Return the next page of obsolete files, those in a folder before the folder."""
    rows = connection.execute(
        "SELECT key AS derived_key, size_bytes AS derived_bytes, digest AS derived_digest,"
        " NULL AS derived_detail FROM obsolete_files WHERE :before IS NULL OR key < :before"
        " ORDER BY key DESC LIMIT :page",
        {"before": before_key, "page": PAGE},
    )
    return [_read_derived(row) for row in rows]


def forget_used_obsolete_files(connection: Connection) -> None:
    """Remove the keys that an output or a current result has from the list of obsolete files."""
    connection.execute(
        "DELETE FROM obsolete_files WHERE key IN (SELECT key FROM outputs WHERE key IS NOT NULL)"
        " OR key IN (SELECT key FROM derived)"
    )


def forget_obsolete_files(connection: Connection, keys: Iterable[str]) -> None:
    """Remove *keys*, which were deleted, from the list of obsolete files."""
    connection.executemany("DELETE FROM obsolete_files WHERE key = ?", [(key,) for key in keys])


def find_derived_keys(connection: Connection, output_id: int | None, processor: str) -> set[str]:
    """Return the keys of the files that *processor* derived from one output."""
    rows = connection.execute(
        "SELECT key FROM derived WHERE output IS ? AND processor = ? AND key <> ''", (output_id, processor)
    )
    return {row["key"] for row in rows}


def has_output_at(connection: Connection, key: str) -> bool:
    """Return whether an output has *key*, or a key in the folder *key*. Reads all rows."""
    row = connection.execute(
        "SELECT 1 FROM outputs WHERE key = ? OR (key >= ? AND key < ?) LIMIT 1", (key, f"{key}/", f"{key}0")
    ).fetchone()
    return row is not None


def list_derived_after(
    connection: Connection, processor: str, output_id: int, key: str
) -> list[tuple[int, Output, DerivedRow]]:
    """Return the next page of the files that *processor* derived, after *key* of *output_id*."""
    rows = connection.execute(
        f"""
        {_SELECT_DERIVED}
        WHERE derived.processor = ? AND derived.key <> '' AND (derived.output, derived.key) > (?, ?)
        ORDER BY derived.output, derived.key LIMIT {PAGE}
        """,
        (processor, output_id, key),
    )
    return [(row["id"], read_output(row).output, _read_derived(row)) for row in rows]


def _read_derived(row: Row) -> DerivedRow:
    algorithm, _, value = (row["derived_digest"] or "").partition("=")
    digest = Digest(algorithm, value) if algorithm else None
    return DerivedRow(row["derived_key"], row["derived_bytes"] or 0, digest, row["derived_detail"] or "")


def list_outputs_after(connection: Connection, row_id: int) -> list[tuple[int, OutputRecord, str]]:
    """Return the next page of outputs in any state: row ID, record and detail."""
    rows = connection.execute(
        f"{_SELECT_OUTPUTS} WHERE outputs.id > ? ORDER BY outputs.id LIMIT {PAGE}", (row_id,)
    )
    return [(row["id"], read_output(row), row["detail"] or "") for row in rows]


@dataclass(frozen=True, slots=True)
class DerivedFileRow:
    """A derived file with the row and the name of its output."""

    row_id: int
    processor: str
    output_id: int
    output: Output
    file: DerivedRow


def list_derived_files_after(connection: Connection, row_id: int) -> list[DerivedFileRow]:
    """Return the next page of the files with a checksum that processors derived from outputs."""
    if not _has_table(connection):
        return []
    rows = connection.execute(
        f"{_SELECT_DERIVED} WHERE derived.rowid > ? AND derived.key <> '' AND derived.digest IS NOT NULL"
        f" ORDER BY derived.rowid LIMIT {PAGE}",
        (row_id,),
    )
    return [
        DerivedFileRow(
            row["derived_id"], row["processor"], row["id"], read_output(row).output, _read_derived(row)
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class UnpackedArchive:
    """
    An archive of which a current result of the processor *UNPACKER* exists.

    Attributes:
        unpacked_id: The output whose members were recorded; another one if both are the same object.
        members: The sizes of the unpacked files by key.
    """

    key: str
    size_bytes: int
    unpacked_id: int
    members: dict[str, int]


def read_unpacked(connection: Connection, container: ContainerRef) -> list[UnpackedArchive]:
    """Return the unpacked archives of one container that have members."""
    if not _has_table(connection):
        return []
    rows = connection.execute(
        """
        SELECT archive.key AS archive_key, archive.size_bytes AS archive_bytes, state.output AS unpacked_id,
               member.key AS member_key, member.size_bytes AS member_bytes
        FROM containers
        JOIN outputs AS archive ON archive.container = containers.id AND archive.state = 'completed'
        JOIN outputs AS same ON same.container = containers.id AND same.digest = archive.digest
        JOIN derived AS state ON state.output = same.id AND state.processor = :unpacker AND state.key = ''
             AND state.state = 'completed' AND state.digest = same.digest
        JOIN derived AS member ON member.output = same.id AND member.processor = :unpacker
             AND member.key <> '' AND member.digest IS NOT NULL
        WHERE containers.source = :source AND containers.scope = :scope
              AND containers.container_id = :container_id AND archive.key IS NOT NULL
        """,
        {**format_ref(container), "unpacker": UNPACKER},
    )
    found: dict[tuple[str, int], UnpackedArchive] = {}
    for row in rows:
        archive = found.setdefault(
            (row["archive_key"], row["unpacked_id"]),
            UnpackedArchive(row["archive_key"], row["archive_bytes"], row["unpacked_id"], {}),
        )
        archive.members[row["member_key"]] = row["member_bytes"]
    return list(found.values())


def list_unpacked_outputs_after(connection: Connection, row_id: int) -> list[tuple[int, Output]]:
    """Return the next page of completed outputs with a current result of the unpacker."""
    rows = connection.execute(
        f"{_SELECT_OUTPUTS} JOIN derived ON derived.output = outputs.id"
        " WHERE outputs.id > ? AND outputs.state = 'completed' AND derived.processor = ? AND derived.key = ''"
        " AND derived.state <> 'failed' AND derived.digest = outputs.digest"
        f" ORDER BY outputs.id LIMIT {PAGE}",
        (row_id, UNPACKER),
    )
    return [(row["id"], read_output(row).output) for row in rows]


def mark_for_processing(connection: Connection, outputs: Iterable[tuple[int, str]]) -> None:
    """Let the processor of each pair of output row and processor derive its files again."""
    connection.executemany(
        "DELETE FROM derived WHERE output = ? AND processor = ? AND key = ''", list(outputs)
    )


def find_derived_among(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Return the *keys* that are derived files."""
    if not keys or not _has_table(connection):
        return set()
    placeholders = ",".join("?" * len(keys))
    rows = connection.execute(f"SELECT key FROM derived WHERE key IN ({placeholders})", tuple(keys))  # noqa: S608
    return {row["key"] for row in rows}


def _has_table(connection: Connection) -> bool:
    """Return whether the ledger has the table: a command that only reads does not migrate version 1."""
    query = "SELECT 1 FROM sqlite_schema WHERE name = 'derived'"
    return connection.execute(query).fetchone() is not None


def count_derived(connection: Connection) -> list[tuple[str, str, int, int, int]]:
    """
    Return processor, state, number of outputs, number of derived files, and their size in bytes.

    A ledger of version 1, which commands that only read do not migrate, has no derived files.
    """
    if not _has_table(connection):
        return []
    rows = connection.execute(
        """
        SELECT processor, state, sum(key = '' AND output IS NOT NULL) AS outputs, sum(key <> '') AS files,
               coalesce(sum(CASE WHEN key <> '' THEN size_bytes END), 0) AS size_bytes
        FROM derived WHERE output IS NOT NULL OR key <> '' GROUP BY 1, 2 ORDER BY 1, 2
        """
    )
    return [tuple(row) for row in rows]
