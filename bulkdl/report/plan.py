"""
What a run would do: counted while enumerating, without a byte of output.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bulkdl.failure_policy import ExitCode
from bulkdl.models import Kind, Output
from bulkdl.report.models import JobCounts, Problem
from bulkdl.report.summary import Summary, SummaryBuilder

OUTPUTS_KEPT = 1000


@dataclass(slots=True)
class Plan:
    """
    One enumeration.

    Attributes:
        summary: The enumeration itself: its jobs, its problems, its exit code.
        to_download: Outputs by kind that a run would fetch.
        up_to_date: Outputs by kind that it would leave alone.
        outputs: The first of those to be fetched, with the key each would get (None: not known before).
    """

    summary: Summary
    to_download: Counter[Kind] = field(default_factory=Counter)
    up_to_date: Counter[Kind] = field(default_factory=Counter)
    outputs: list[tuple[Output, str | None]] = field(default_factory=list)

    @property
    def jobs(self) -> JobCounts:
        """Jobs seen on the way."""
        return self.summary.jobs

    @property
    def problems(self) -> list[Problem]:
        """What could not be listed."""
        return self.summary.problems

    @property
    def made_at(self) -> datetime:
        """When the enumeration ended."""
        return self.summary.finished_at

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        of_run = self.summary.as_dict()
        return {
            "made_at": self.made_at.isoformat(),
            "exit_code": of_run["exit_code"],
            "jobs": of_run["jobs"],
            "to_download": {str(kind): self.to_download[kind] for kind in Kind},
            "up_to_date": {str(kind): self.up_to_date[kind] for kind in Kind},
            "outputs_total": self.to_download.total(),
            "outputs": [
                {
                    "project_id": output.project_id,
                    "job_id": output.job_id,
                    "task_id": output.task_id,
                    "kind": str(output.kind),
                    "name": output.name,
                    "key": key,
                }
                for output, key in self.outputs
            ],
            "problems_total": of_run["problems_total"],
            "problems": of_run["problems"],
        }


class PlanBuilder:
    """Counts what an enumeration finds; *summary* takes its jobs and problems."""

    def __init__(self, summary: SummaryBuilder, *, outputs_kept: int = OUTPUTS_KEPT) -> None:
        self.summary = summary
        self._kept = outputs_kept
        self._to_download: Counter[Kind] = Counter()
        self._up_to_date: Counter[Kind] = Counter()
        self._outputs: list[tuple[Output, str | None]] = []

    def add(self, output: Output, key: str | None = None) -> None:
        """*output* would be fetched."""
        self._to_download[output.kind] += 1
        if len(self._outputs) < self._kept:
            self._outputs.append((output, key))

    def add_skipped(self, kind: Kind, outputs: int = 1) -> None:
        """*outputs* of *kind* are there already."""
        self._up_to_date[kind] += outputs

    def build(self, made_at: datetime | None = None, *, stopped_by: ExitCode | None = None) -> Plan:
        """The plan so far."""
        summary = self.summary.build(made_at, stopped_by=stopped_by)
        return Plan(summary, self._to_download, self._up_to_date, list(self._outputs))
