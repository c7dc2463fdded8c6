"""
The content of the ledgers of an output directory: its own ledger and the ledgers of shards below it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bulkdl.models import Reason
from bulkdl.report.models import Count, DerivedCount, FailureRow, derived_dict
from bulkdl.source_spec import OUTPUT_KEYS, source_of_kind

COUNT_COLUMNS = ("source", "kind", "state", "reason", "outputs", "size_bytes")
FAILURE_COLUMNS = (*OUTPUT_KEYS, "key", "reason", "detail", "attempts", "hint", "ledger")


@dataclass(frozen=True, slots=True)
class LeaseOwner:
    """
    The run that has locked a directory.

    Attributes:
        alive: Whether the run is considered active. Otherwise the next run takes over its lease.
    """

    run_id: str
    host: str
    pid: int
    since_at: datetime
    beat_at: datetime
    alive: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
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
    The content of one ledger.

    Attributes:
        output: Its directory, relative to the requested directory (``.``: the requested directory).
        derived: Processor, state, outputs, derived files and their size.
        containers: Number of containers by source and state (see ``queries.count_containers``).
        listing_failed: Number of containers whose outputs could not be listed.
        owner: The run that has locked the directory; None without a lease.
        last_run_at: End time of the last run; None before the end of the first run.
    """

    output: str
    containers: dict[str, dict[str, int]] = field(default_factory=dict)
    counts: dict[tuple[str, str, str], Count] = field(default_factory=dict)
    derived: list[tuple[str, str, int, int, int]] = field(default_factory=list)
    listing_failed: int = 0
    owner: LeaseOwner | None = None
    last_run_at: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "output": self.output,
            "last_run_at": self.last_run_at.isoformat() if self.last_run_at else None,
            "owner": self.owner.as_dict() if self.owner else None,
            "containers": self.containers,
        }


@dataclass(slots=True)
class Status:
    """
    The content of all ledgers.

    Attributes:
        containers: Number of containers by source and state (see ``queries.count_containers``).
        counts: Outputs by kind, state (``planned`` or an outcome) and reason ("" without a reason).
        derived: Processed outputs and derived files by processor.
        failures: The first failures; *failures_total* counts all.
        last_run_at: End time of the last run of any ledger; None before the end of the first run.
        listing_failed_total: Number of containers whose outputs could not be listed and are not known.
    """

    output: str
    containers: dict[str, dict[str, int]] = field(default_factory=dict)
    counts: dict[tuple[str, str, str], Count] = field(default_factory=dict)
    derived: dict[str, DerivedCount] = field(default_factory=dict)
    failures: list[FailureRow] = field(default_factory=list)
    failures_total: int = 0
    last_run_at: datetime | None = None
    listing_failed_total: int = 0
    ledgers: list[LedgerStatus] = field(default_factory=list)

    @property
    def running(self) -> list[LedgerStatus]:
        """The ledgers with an active run."""
        return [ledger for ledger in self.ledgers if ledger.owner is not None and ledger.owner.alive]

    def add(self, ledger: LedgerStatus) -> None:
        """Add the numbers of *ledger*."""
        self.ledgers.append(ledger)
        for source, states in ledger.containers.items():
            totals = self.containers.setdefault(source, {})
            for state, number in states.items():
                totals[state] = totals.get(state, 0) + number
        for group, count in ledger.counts.items():
            self.counts.setdefault(group, Count()).add(count.outputs, count.size_bytes, 0)
            self.failures_total += count.outputs if group[1] == "failed" else 0
        for processor, state, outputs, files, size_bytes in ledger.derived:
            self.derived.setdefault(processor, DerivedCount()).add(state, outputs, files, size_bytes)
        self.listing_failed_total += ledger.listing_failed
        ended_at = [at for at in (self.last_run_at, ledger.last_run_at) if at is not None]
        self.last_run_at = max(ended_at, default=None)

    @property
    def not_available(self) -> int:
        """Number of outputs that do not exist according to their source."""
        return sum(
            count.outputs for (*_, reason), count in self.counts.items() if reason == Reason.NOT_AVAILABLE
        )

    def rows(self) -> Iterable[tuple[str, str, str, str, int, int]]:
        """Yield source, kind, state, reason ("" without a reason), number of outputs and their size."""
        rows = [
            (source_of_kind(kind) or "", kind, str(state), str(reason), count.outputs, count.size_bytes)
            for (kind, state, reason), count in self.counts.items()
        ]
        yield from sorted(rows)

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "output": self.output,
            "last_run_at": self.last_run_at.isoformat() if self.last_run_at else None,
            "containers": self.containers,
            "counts": [
                dict(zip(COUNT_COLUMNS, (source, kind, state, reason or None, *numbers), strict=True))
                for source, kind, state, reason, *numbers in self.rows()
            ],
            "not_available": self.not_available,
            "derived": [derived_dict(name, count) for name, count in sorted(self.derived.items())],
            "failures_total": self.failures_total,
            "failures": [row.as_dict() for row in self.failures],
            "listing_failed_total": self.listing_failed_total,
            "ledgers": [ledger.as_dict() for ledger in self.ledgers],
        }
