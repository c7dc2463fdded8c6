"""
The result of ``verify``, in bounded memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bulkdl.failure_policy import ExitCode
from bulkdl.models import Output
from bulkdl.printable import storable
from bulkdl.report.models import MAX_LISTED, Count
from bulkdl.source_spec import OUTPUT_KEYS, output_dict, source_of_kind


class FileState(StrEnum):
    """Result of the check of a file."""

    OK = "ok"
    MISSING = "missing"
    WRONG_SIZE = "wrong_size"
    WRONG_DIGEST = "wrong_digest"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"


_REPAIR = "bulkdl verify --repair marks it, and bulkdl retry downloads it again"
HINTS = {
    FileState.MISSING: _REPAIR,
    FileState.WRONG_SIZE: _REPAIR,
    FileState.WRONG_DIGEST: f"{_REPAIR}; test the disk",
    FileState.DAMAGED: "the next bulkdl run downloads it again",
    FileState.UNREADABLE: "check the permissions and the disk; --repair does not change it",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """
    A file that does not match the ledger.

    Attributes:
        output: None for a document of a container, which does not belong to a single output.
        processor: The processor that derived the file; empty for a downloaded file.
    """

    key: str
    state: FileState
    detail: str
    output: Output | None = None
    processor: str = ""

    @property
    def hint(self) -> str:
        """The next step for the user."""
        if self.processor and self.state is not FileState.UNREADABLE:
            return f"bulkdl verify --repair marks it, and the next run with {self.processor} writes it again"
        return HINTS[self.state]

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        output = self.output
        return {
            "key": self.key,
            "state": str(self.state),
            "detail": self.detail,
            **(output_dict(output) if output else dict.fromkeys(OUTPUT_KEYS)),
            "processor": self.processor or None,
            "hint": self.hint,
        }


@dataclass(slots=True)
class Verification:
    """
    The result of a verification or of a rebuild.

    Attributes:
        mode: ``quick`` (existence and size), ``deep`` (also checksums) or ``rebuild``.
        counts: Outputs by kind and state.
        findings: The first files that do not match; *findings_total* counts all.
        untracked: The first files that are not in the ledger. They do not affect the exit code.
        repaired: Number of outputs that were marked for download.
        containers: Number of containers that a rebuild recorded, by source.
        damaged_ledger: New path of a damaged ledger.
    """

    output: str
    mode: str
    counts: dict[tuple[str, FileState], Count] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    findings_total: int = 0
    untracked: list[str] = field(default_factory=list)
    untracked_total: int = 0
    repaired: int = 0
    containers: dict[str, int] = field(default_factory=dict)
    damaged_ledger: str | None = None

    @property
    def exit_code(self) -> ExitCode:
        """6 if a file does not match, even if it was marked for download, because it is still missing."""
        return ExitCode.INTEGRITY if self.findings_total else ExitCode.OK

    def count(self, kind: str, state: FileState, size_bytes: int) -> None:
        """Count an output."""
        self.counts.setdefault((kind, state), Count()).add(1, size_bytes, 0)

    def count_container(self, source: str) -> None:
        """Count a container that a rebuild recorded."""
        self.containers[source] = self.containers.get(source, 0) + 1

    def add_finding(self, finding: Finding) -> None:
        """Add a file that does not match."""
        self.findings_total += 1
        if len(self.findings) < MAX_LISTED:
            self.findings.append(finding)

    def add_untracked(self, keys: list[str]) -> None:
        """Add files that are not in the ledger."""
        self.untracked_total += len(keys)
        self.untracked += keys[: MAX_LISTED - len(self.untracked)]

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "output": storable(self.output),
            "mode": self.mode,
            "exit_code": int(self.exit_code),
            "counts": [
                {
                    "source": source_of_kind(kind),
                    "kind": kind,
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
            "containers": self.containers,
            "damaged_ledger": None if self.damaged_ledger is None else storable(self.damaged_ledger),
        }
