"""
What comparing the files with the ledger came to: counted, and bounded in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bulkdl.failure_policy import ExitCode
from bulkdl.models import Kind, Output
from bulkdl.report.models import Count

FINDINGS_KEPT = 1000


class FileState(StrEnum):
    """What a file was found to be."""

    OK = "ok"
    MISSING = "missing"
    WRONG_SIZE = "wrong_size"
    WRONG_DIGEST = "wrong_digest"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"


def storable(name: str) -> str:
    """Return *name* as valid UTF-8: a byte of a file name that cannot be decoded becomes ``\\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


HINTS = {
    FileState.MISSING: "bulkdl verify --repair, then bulkdl retry, fetches it again",
    FileState.WRONG_SIZE: "bulkdl verify --repair, then bulkdl retry, fetches it again",
    FileState.WRONG_DIGEST: "bulkdl verify --repair, then bulkdl retry, fetches it again; test the disk",
    FileState.DAMAGED: "the next bulkdl run fetches it again",
    FileState.UNREADABLE: "look at its permissions and at the disk; --repair leaves it alone",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One file that is not as it should be.

    Attributes:
        output: None for a document that belongs to no single output (``job.json``).
    """

    key: str
    state: FileState
    detail: str
    output: Output | None = None

    @property
    def hint(self) -> str:
        """What a person can do next."""
        return HINTS[self.state]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        output = self.output
        return {
            "key": self.key,
            "state": str(self.state),
            "detail": self.detail,
            "project_id": output.project_id if output else None,
            "job_id": output.job_id if output else None,
            "task_id": output.task_id if output else None,
            "kind": str(output.kind) if output else None,
            "hint": self.hint,
        }


@dataclass(slots=True)
class Verification:
    """
    One look at the files.

    Attributes:
        mode: ``quick`` (names and sizes), ``deep`` (digests too) or ``rebuild``.
        counts: By kind and state.
        findings: The first bad ones; *findings_total* tells how many there are.
        untracked: The first files that no row of the ledger knows; they are no fault.
        repaired: Rows marked to be fetched again.
        jobs: Jobs that a rebuild has written down.
        damaged_ledger: Where a ledger that could not be read went.
    """

    output: str
    mode: str
    counts: dict[tuple[Kind, FileState], Count] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    findings_total: int = 0
    untracked: list[str] = field(default_factory=list)
    untracked_total: int = 0
    repaired: int = 0
    jobs: int = 0
    damaged_ledger: str | None = None

    @property
    def exit_code(self) -> ExitCode:
        """Something wrong is 6, also when it was marked to be fetched again: it is not there yet."""
        return ExitCode.INTEGRITY if self.findings_total else ExitCode.OK

    def count(self, kind: Kind, state: FileState, size_bytes: int) -> None:
        """Count one output."""
        self.counts.setdefault((kind, state), Count()).add(1, size_bytes, 0)

    def add_finding(self, finding: Finding) -> None:
        """Take note of something that is wrong."""
        self.findings_total += 1
        if len(self.findings) < FINDINGS_KEPT:
            self.findings.append(finding)

    def add_untracked(self, keys: list[str]) -> None:
        """Take note of files that nobody knows."""
        self.untracked_total += len(keys)
        self.untracked += keys[: FINDINGS_KEPT - len(self.untracked)]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "output": storable(self.output),
            "mode": self.mode,
            "exit_code": int(self.exit_code),
            "counts": [
                {
                    "kind": str(kind),
                    "state": str(state),
                    "outputs": count.outputs,
                    "size_bytes": count.size_bytes,
                }
                for (kind, state), count in sorted(self.counts.items())
            ],
            "findings_total": self.findings_total,
            "findings": [finding.as_dict() for finding in self.findings],
            "untracked_total": self.untracked_total,
            "untracked": [storable(key) for key in self.untracked],
            "repaired": self.repaired,
            "jobs": self.jobs,
            "damaged_ledger": None if self.damaged_ledger is None else storable(self.damaged_ledger),
        }
