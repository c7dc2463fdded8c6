"""Convert between rows of the ledger and values."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from bulkdl.models import (
    CommittedFile,
    Container,
    ContainerRef,
    Digest,
    Outcome,
    Output,
    Reason,
    Validator,
)

# The columns that read_output unpacks, in its order.
_OUTPUT_COLUMNS = (
    "containers.source",
    "containers.scope",
    "containers.container_id",
    *(
        f"outputs.{name}"
        for name in (
            "parent",
            "kind",
            "name",
            "state",
            "reason",
            "filename",
            "run_id",
            "identity",
            "key",
            "size_bytes",
            "digest",
            "etag",
            "last_modified",
            "generation",
            "object_url",
            "object_version",
        )
    ),
)
_REASONS = {reason.value: reason for reason in Reason}

PLANNED = "planned"
# The state of an output that is not in the ledger yet. It is never written.
NEW = "new"


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """
    The recorded state of one output.

    Attributes:
        state: ``planned``, the outcome of the last download, or ``new``.
        filename: The safe file name of an output whose name the server chose; empty for the other kinds.
        file: The file that was committed last; None if no file was committed.
        run_id: The run that recorded the output last.
        identity: Equal for outputs that can be the same stored object; see ``PlannedOutput``.
    """

    output: Output
    state: str
    reason: Reason | None
    filename: str
    file: CommittedFile | None
    run_id: str | None = None
    identity: str = ""

    @property
    def is_completed(self) -> bool:
        return self.state == Outcome.COMPLETED and self.file is not None

    @property
    def is_not_available(self) -> bool:
        return self.state == Outcome.SKIPPED and self.reason is Reason.NOT_AVAILABLE


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """
    The recorded state of one container.

    Attributes:
        listed_kinds: The kinds whose outputs are all in *outputs*. Empty: the container must be listed.
        listing_failure: The reason why the last listing failed; None if it did not fail.
    """

    container: Container
    listed_kinds: frozenset[str]
    outputs: tuple[OutputRecord, ...]
    listing_failure: Reason | None = None


def parse_reason(text: str | None) -> Reason | None:
    """Return the reason with the name *text*; None for no text."""
    return _REASONS.get(text) or Reason(text) if text else None


def parse_timestamp(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def format_timestamp(timestamp: datetime | None) -> str | None:
    return timestamp.astimezone(UTC).isoformat() if timestamp else None


def format_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_ref(row: sqlite3.Row) -> ContainerRef:
    return ContainerRef(row["source"], row["scope"], row["container_id"])


def read_container(row: sqlite3.Row, outputs: list[OutputRecord]) -> ContainerRecord:
    container = Container(
        read_ref(row),
        status=row["status"],
        is_final=bool(row["is_final"]),
        revision=row["revision"],
        created_at=datetime.fromisoformat(row["created_at"]),
        finished_at=parse_timestamp(row["finished_at"]),
        name=row["name"],
        attributes=json.loads(row["attributes"]),
        path_values=json.loads(row["path_values"]),
    )
    return ContainerRecord(
        container,
        listed_kinds=parse_kinds(row["listed_kinds"]),
        outputs=tuple(outputs),
        listing_failure=parse_reason(row["reason"]),
    )


def parse_kinds(text: str) -> frozenset[str]:
    return frozenset(json.loads(text))


def format_kinds(kinds: Iterable[str]) -> str:
    return json.dumps(sorted(kinds), separators=(",", ":"))


def format_ref(ref: ContainerRef) -> dict[str, object]:
    """Return the parameters that select the row of a container."""
    return {"source": ref.source, "scope": ref.scope, "container_id": ref.id}


def select_outputs(*columns: str) -> str:
    """Return the start of a query whose rows ``read_output`` reads. The rows also have *columns*."""
    selected = ", ".join((*_OUTPUT_COLUMNS, *columns))
    return f"SELECT {selected} FROM outputs JOIN containers ON containers.id = outputs.container"  # noqa: S608


def read_output(row: sqlite3.Row) -> OutputRecord:
    """Read an output from a row of ``select_outputs``."""
    # A run reads each recorded output. Access by position takes half the time of access by name.
    values = row[: len(_OUTPUT_COLUMNS)]
    source, scope, container_id, parent, kind, name, state, reason, filename, run_id, identity, *file = values
    output = Output(ContainerRef(source, scope, container_id), parent, kind, name)
    return OutputRecord(output, state, parse_reason(reason), filename, _read_file(*file), run_id, identity)


def _read_file(
    key: str | None,
    size_bytes: int,
    digest: str | None,
    etag: str | None,
    last_modified: str | None,
    generation: str | None,
    object_url: str,
    object_version: str | None,
) -> CommittedFile | None:
    if key is None:
        return None
    algorithm, _, value = (digest or "").partition("=")
    return CommittedFile(
        key,
        size_bytes,
        Digest(algorithm, value),
        Validator(etag, last_modified, generation),
        object_url,
        object_version,
    )
