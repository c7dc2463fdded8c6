"""
What a ledger knows of one output directory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bulkdl.model import Kind
from bulkdl.report.rows import Count, FailureRow


@dataclass(slots=True)
class Status:
    """
    One look at the ledger.

    Attributes:
        jobs: Number of jobs by state, in the ledger's words (``settled``, ``open``).
        counts: Outputs by kind, state (``planned`` or an outcome) and reason ("" for none).
        failures: The first ones; *failures_total* tells how many there are.
        last_run_at: When the last run ended; None while the first one has not.
    """

    output: str
    jobs: dict[str, int] = field(default_factory=dict)
    counts: dict[tuple[Kind, str, str], Count] = field(default_factory=dict)
    failures: list[FailureRow] = field(default_factory=list)
    failures_total: int = 0
    last_run_at: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "output": self.output,
            "last_run_at": self.last_run_at.isoformat() if self.last_run_at else None,
            "jobs": self.jobs,
            "counts": [
                {
                    "kind": str(kind),
                    "state": str(state),
                    "reason": str(reason) or None,
                    "outputs": count.outputs,
                    "size_bytes": count.size_bytes,
                }
                for (kind, state, reason), count in sorted(self.counts.items())
            ],
            "failures_total": self.failures_total,
            "failures": [row.as_dict() for row in self.failures],
        }
