"""
Value types that summaries, plans, status and verification share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.models import Output, Reason
from bulkdl.source_spec import output_dict, source_of_kind

MAX_LISTED = 1000
"""A report lists at most so many failures, problems, outputs or files. Its totals count all."""


@dataclass(slots=True)
class ContainerCounts:
    """
    Number of containers by state.

    Attributes:
        seen: Containers in the lists of the source.
        selected: Containers that match the selection.
        up_to_date: Selected containers that needed no request, because all outputs are present.
        unfinished: Selected containers that are not final. A later run downloads them.
    """

    seen: int = 0
    selected: int = 0
    up_to_date: int = 0
    unfinished: int = 0


def sum_counts(counts: Iterable[ContainerCounts]) -> ContainerCounts:
    """Return the sums of *counts*."""
    total = ContainerCounts()
    for count in counts:
        total.seen += count.seen
        total.selected += count.selected
        total.up_to_date += count.up_to_date
        total.unfinished += count.unfinished
    return total


@dataclass(slots=True)
class Count:
    """Number of outputs, their size on disk, and the bytes that this run downloaded."""

    outputs: int = 0
    size_bytes: int = 0
    downloaded_bytes: int = 0

    def add(self, outputs: int, size_bytes: int, downloaded_bytes: int) -> None:
        """Add to the numbers."""
        self.outputs += outputs
        self.size_bytes += size_bytes
        self.downloaded_bytes += downloaded_bytes


@dataclass(slots=True)
class DerivedCount:
    """Number of outputs of one processor by state, and the number and size of the derived files."""

    completed: int = 0
    skipped: int = 0
    failed: int = 0
    files: int = 0
    size_bytes: int = 0

    def add(self, state: str, outputs: int, files: int, size_bytes: int) -> None:
        """Add *outputs* with *state* and their files."""
        setattr(self, state, getattr(self, state) + outputs)
        self.files += files
        self.size_bytes += size_bytes


@dataclass(frozen=True, slots=True)
class FailureRow:
    """A failed output with its reason and a hint."""

    output: Output
    key: str | None
    reason: Reason
    detail: str
    attempts: int = 0

    @property
    def hint(self) -> str:
        """The next step for the user."""
        return FAILURE_POLICIES[self.reason].hint

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            **output_dict(self.output),
            "key": self.key,
            "reason": str(self.reason),
            "detail": self.detail,
            "attempts": self.attempts,
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True)
class Problem:
    """
    A failure that is not a download of an output.

    Attributes:
        subject: The scope, container, directory or processor.
        source: The source; None if the problem concerns the whole run.
    """

    reason: Reason
    subject: str
    detail: str
    source: str | None = None

    @property
    def hint(self) -> str:
        """The next step for the user."""
        return FAILURE_POLICIES[self.reason].hint

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "source": self.source,
            "reason": str(self.reason),
            "subject": self.subject,
            "detail": self.detail,
            "hint": self.hint,
        }


def count_dict(kind: str, state: str, reason: str | None, count: Count) -> dict[str, Any]:
    """Return the values for JSON."""
    return {
        "source": source_of_kind(kind),
        "kind": kind,
        "outcome": str(state),
        "reason": str(reason) if reason else None,
        "outputs": count.outputs,
        "size_bytes": count.size_bytes,
        "downloaded_bytes": count.downloaded_bytes,
    }


def derived_dict(processor: str, count: DerivedCount) -> dict[str, Any]:
    """Return the values for JSON."""
    return {
        "processor": processor,
        "completed": count.completed,
        "skipped": count.skipped,
        "failed": count.failed,
        "files": count.files,
        "size_bytes": count.size_bytes,
    }
