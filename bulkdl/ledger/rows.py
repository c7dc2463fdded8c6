"""Convert between rows of the ledger and values."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime

from bulkdl.models import (
    TERMINAL_STATUSES,
    CommittedFile,
    Container,
    ContainerRef,
    Digest,
    Outcome,
    Output,
    Reason,
    Result,
    Validator,
)

PLANNED = "planned"
# The state of an output that is not in the ledger yet. It is never written.
NEW = "new"
# Names of reasons that earlier versions wrote. A row with such a name is read as the current reason.
_FORMER_REASONS = {
    "up42_has_none": Reason.NOT_AVAILABLE,
    "fetched": Reason.DOWNLOADED,
    "already_there": Reason.UP_TO_DATE,
    "digest_mismatch": Reason.CHECKSUM_MISMATCH,
    "wrong_content": Reason.UNEXPECTED_CONTENT,
    "broken_content": Reason.CORRUPT_CONTENT,
    "bad_answer": Reason.INVALID_RESPONSE,
    "refused": Reason.REJECTED,
}


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
    """Return the reason with the current or former name *text*; None for no text."""
    return (_FORMER_REASONS.get(text) or Reason(text)) if text else None


def reason_names(reason: Reason) -> tuple[str, ...]:
    """Return every name under which a ledger may hold *reason*."""
    return (reason.value, *(name for name, current in _FORMER_REASONS.items() if current is reason))


def parse_timestamp(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def format_timestamp(timestamp: datetime | None) -> str | None:
    return timestamp.astimezone(UTC).isoformat() if timestamp else None


def format_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


# Version 1 of the ledger has columns for the values of UP42 jobs. These names are the source's.
_SOURCE = "jobs"
_RESULT = "result"
_ARCHIVE, QUICKLOOK = "archive", "quicklook"
_LISTED_WITH_TASKS = frozenset({_ARCHIVE, "geojson"})
_LISTED_WITH_QUICKLOOKS = _LISTED_WITH_TASKS | {QUICKLOOK}


def read_ref(row: sqlite3.Row) -> ContainerRef:
    return ContainerRef(_SOURCE, row["project_id"], row["job_id"])


def read_container(row: sqlite3.Row, outputs: list[OutputRecord]) -> ContainerRecord:
    attributes = {"mode": row["mode"]}
    if row["workflow_id"] is not None:
        attributes["workflow"] = row["workflow_id"]
    status, finished_at = row["status"], row["finished_at"]
    container = Container(
        read_ref(row),
        status=status,
        is_final=status in TERMINAL_STATUSES,
        revision=f"{status} {finished_at or ''}".rstrip(),
        created_at=datetime.fromisoformat(row["created_at"]),
        finished_at=parse_timestamp(finished_at),
        name=row["name"],
        attributes=attributes,
    )
    return ContainerRecord(
        container,
        listed_kinds=_listed_kinds(row),
        outputs=tuple(outputs),
        listing_failure=parse_reason(row["reason"]),
    )


def _listed_kinds(row: sqlite3.Row) -> frozenset[str]:
    if row["tasks_listed_at"] is None:
        return frozenset()
    return _LISTED_WITH_TASKS if row["quicklooks_listed_at"] is None else _LISTED_WITH_QUICKLOOKS


def format_container(container: Container) -> dict[str, str | None]:
    """Return the parameters of the statement that records *container*."""
    return {
        "project_id": container.ref.scope,
        "job_id": container.ref.id,
        "status": container.status,
        "created_at": format_timestamp(container.created_at),
        "finished_at": format_timestamp(container.finished_at),
        "mode": container.attributes.get("mode", ""),
        "name": container.name,
        "workflow_id": container.attributes.get("workflow"),
    }


def read_output(row: sqlite3.Row) -> OutputRecord:
    output = Output(read_ref(row), row["task_id"], row["kind"], row["name"])
    is_result = output.kind == _ARCHIVE and output.parent in ("", row["last_task_id"])
    file = None
    if row["key"] is not None:
        algorithm, _, value = (row["digest"] or "").partition("=")
        file = CommittedFile(
            key=row["key"],
            size_bytes=row["size_bytes"],
            digest=Digest(algorithm, value),
            validator=Validator(row["etag"], row["last_modified"], row["generation"]),
            source=row["source"],
        )
    return OutputRecord(
        output,
        row["state"],
        parse_reason(row["reason"]),
        row["filename"],
        file,
        row["run_id"],
        _RESULT if is_result else "",
    )


def format_result(result: Result, run_id: str) -> dict[str, object]:
    """Return the parameters of the statement that records *result*."""
    file = result.file
    validator = file.validator if file else Validator()
    return {
        "project_id": result.output.container.scope,
        "job_id": result.output.container.id,
        "task_id": result.output.parent,
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
        "source": file.source if file else None,
        "attempts": result.attempts,
        "run_id": run_id,
        "recorded_at": format_now(),
    }
