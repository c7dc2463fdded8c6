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
    return Reason(text) if text else None


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


def read_output(row: sqlite3.Row) -> OutputRecord:
    output = Output(read_ref(row), row["parent"], row["kind"], row["name"])
    file = None
    if row["key"] is not None:
        algorithm, _, value = (row["digest"] or "").partition("=")
        file = CommittedFile(
            key=row["key"],
            size_bytes=row["size_bytes"],
            digest=Digest(algorithm, value),
            validator=Validator(row["etag"], row["last_modified"], row["generation"]),
            source=row["object_url"],
            version=row["object_version"],
        )
    return OutputRecord(
        output,
        row["state"],
        parse_reason(row["reason"]),
        row["filename"],
        file,
        row["run_id"],
        row["identity"],
    )
