"""
The lines that summaries, plans and ledger states are made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.models import Kind, Output, Reason


@dataclass(slots=True)
class JobCounts:
    """
    Jobs by what became of them.

    Attributes:
        seen: In the lists that UP42 gave.
        selected: Of those, the ones that the selection wants.
        up_to_date: Of the selected, those that needed no request: everything was there already.
        unfinished: Of the selected, those that UP42 has not finished; a later run takes them up.
    """

    seen: int = 0
    selected: int = 0
    up_to_date: int = 0
    unfinished: int = 0


@dataclass(slots=True)
class Count:
    """How many outputs, and their bytes: as they stand on disk, and as they travelled in this run."""

    outputs: int = 0
    size_bytes: int = 0
    downloaded_bytes: int = 0

    def add(self, outputs: int, size_bytes: int, downloaded_bytes: int) -> None:
        """Count more."""
        self.outputs += outputs
        self.size_bytes += size_bytes
        self.downloaded_bytes += downloaded_bytes


@dataclass(frozen=True, slots=True)
class FailureRow:
    """One output that did not come, and what to do about it."""

    output: Output
    key: str | None
    reason: Reason
    detail: str
    attempts: int = 0

    @property
    def hint(self) -> str:
        """What a person can do next."""
        return FAILURE_POLICIES[self.reason].hint

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "project_id": self.output.project_id,
            "job_id": self.output.job_id,
            "task_id": self.output.task_id,
            "kind": str(self.output.kind),
            "name": self.output.name,
            "key": self.key,
            "reason": str(self.reason),
            "detail": self.detail,
            "attempts": self.attempts,
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that went wrong with no single output: *what* is a project, a job, the directory."""

    reason: Reason
    what: str
    detail: str

    @property
    def hint(self) -> str:
        """What a person can do next."""
        return FAILURE_POLICIES[self.reason].hint

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "reason": str(self.reason),
            "what": self.what,
            "detail": self.detail,
            "hint": self.hint,
        }


def count_dict(kind: Kind, state: str, reason: str | None, count: Count) -> dict[str, Any]:
    """For JSON."""
    return {
        "kind": str(kind),
        "outcome": str(state),
        "reason": str(reason) if reason else None,
        "outputs": count.outputs,
        "size_bytes": count.size_bytes,
        "downloaded_bytes": count.downloaded_bytes,
    }
