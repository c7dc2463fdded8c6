"""
What the ledgers of an output directory know: its own, and those of the shards below it, as one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bulkdl.models import Kind, Reason
from bulkdl.report.models import Count, FailureRow

COUNT_COLUMNS = ("kind", "state", "reason", "outputs", "size_bytes")
FAILURE_COLUMNS = (
    *("project_id", "job_id", "task_id", "kind", "name", "key", "reason", "detail", "attempts", "hint"),
    "ledger",
)


@dataclass(frozen=True, slots=True)
class LeaseOwner:
    """
    Who has a directory.

    Attributes:
        alive: Whether it must be taken for running; False: it died, and the next run takes over.
    """

    run_id: str
    host: str
    pid: int
    since_at: datetime
    beat_at: datetime
    alive: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "run_id": self.run_id,
            "host": self.host,
            "pid": self.pid,
            "since_at": self.since_at.isoformat(),
            "beat_at": self.beat_at.isoformat(),
            "alive": self.alive,
        }


@dataclass(slots=True)
class LedgerStatus:
    """
    One ledger.

    Attributes:
        output: Its directory, relative to the one asked for (``.`` for that one itself).
        listing_failed: Jobs whose tasks could not be listed.
        owner: None when no run is at work there.
        last_run_at: When the last run ended; None while the first one has not.
    """

    output: str
    jobs: dict[str, int] = field(default_factory=dict)
    counts: dict[tuple[Kind, str, str], Count] = field(default_factory=dict)
    listing_failed: int = 0
    owner: LeaseOwner | None = None
    last_run_at: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "output": self.output,
            "last_run_at": self.last_run_at.isoformat() if self.last_run_at else None,
            "owner": self.owner.as_dict() if self.owner else None,
            "jobs": self.jobs,
        }


@dataclass(slots=True)
class Status:
    """
    One look at all ledgers.

    Attributes:
        jobs: Number of jobs by state, in the ledger's words (``queries.count_jobs``).
        counts: Outputs by kind, state (``planned`` or an outcome) and reason ("" for none).
        failures: The first ones; *failures_total* tells how many there are.
        last_run_at: When the last run of any ledger ended; None while none has.
        listing_failed_total: Jobs whose tasks could not be listed: they failed too, but have no outputs yet.
    """

    output: str
    jobs: dict[str, int] = field(default_factory=dict)
    counts: dict[tuple[Kind, str, str], Count] = field(default_factory=dict)
    failures: list[FailureRow] = field(default_factory=list)
    failures_total: int = 0
    last_run_at: datetime | None = None
    listing_failed_total: int = 0
    ledgers: list[LedgerStatus] = field(default_factory=list)

    @property
    def running(self) -> list[LedgerStatus]:
        """The ledgers that a run holds now."""
        return [each for each in self.ledgers if each.owner is not None and each.owner.alive]

    def add(self, ledger: LedgerStatus) -> None:
        """Count one more ledger."""
        self.ledgers.append(ledger)
        for state, jobs in ledger.jobs.items():
            self.jobs[state] = self.jobs.get(state, 0) + jobs
        for what, count in ledger.counts.items():
            self.counts.setdefault(what, Count()).add(count.outputs, count.size_bytes, 0)
            self.failures_total += count.outputs if what[1] == "failed" else 0
        self.listing_failed_total += ledger.listing_failed
        ended = [moment for moment in (self.last_run_at, ledger.last_run_at) if moment is not None]
        self.last_run_at = max(ended, default=None)

    @property
    def not_available(self) -> int:
        """Number of outputs that UP42 reported as not found."""
        return sum(count.outputs for (*_, why), count in self.counts.items() if why == Reason.NOT_AVAILABLE)

    def rows(self) -> Iterable[tuple[str, str, str, int, int]]:
        """Kind, state, reason ("" for none), number of outputs, bytes of those that are completed."""
        for (kind, state, reason), count in sorted(self.counts.items()):
            yield str(kind), str(state), str(reason), count.outputs, count.size_bytes

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "output": self.output,
            "last_run_at": self.last_run_at.isoformat() if self.last_run_at else None,
            "jobs": self.jobs,
            "counts": [
                dict(zip(COUNT_COLUMNS, (kind, state, reason or None, *numbers), strict=True))
                for kind, state, reason, *numbers in self.rows()
            ],
            "not_available": self.not_available,
            "failures_total": self.failures_total,
            "failures": [row.as_dict() for row in self.failures],
            "listing_failed_total": self.listing_failed_total,
            "ledgers": [ledger.as_dict() for ledger in self.ledgers],
        }
