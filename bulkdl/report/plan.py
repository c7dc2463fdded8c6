"""
The result of ``plan``: the outputs that a run would download.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bulkdl.failure_policy import ExitCode
from bulkdl.models import Output
from bulkdl.report.models import MAX_LISTED, ContainerCounts, Problem
from bulkdl.report.summary import Summary, SummaryBuilder
from bulkdl.source_spec import output_dict


@dataclass(slots=True)
class Plan:
    """
    The result of an enumeration without downloads.

    Attributes:
        summary: Containers, problems and exit code of the enumeration.
        to_download: Number of outputs that a run would download, for each kind of the sources.
        up_to_date: Number of outputs that need no download, for each kind of the sources.
        outputs: The first outputs to download with their keys (None: the suffix is not known yet).
    """

    summary: Summary
    to_download: Counter[str] = field(default_factory=Counter)
    up_to_date: Counter[str] = field(default_factory=Counter)
    outputs: list[tuple[Output, str | None]] = field(default_factory=list)

    @property
    def containers(self) -> ContainerCounts:
        """Number of containers of all sources by state."""
        return self.summary.containers

    @property
    def problems(self) -> list[Problem]:
        """Failures of the enumeration."""
        return self.summary.problems

    @property
    def made_at(self) -> datetime:
        """End time of the enumeration."""
        return self.summary.finished_at

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        summary = self.summary.as_dict()
        return {
            "made_at": self.made_at.isoformat(),
            "exit_code": summary["exit_code"],
            "sources": summary["sources"],
            "containers": summary["containers"],
            "to_download": dict(self.to_download),
            "up_to_date": dict(self.up_to_date),
            "outputs_total": self.to_download.total(),
            "outputs": [{**output_dict(output), "key": key} for output, key in self.outputs],
            "problems_total": summary["problems_total"],
            "problems": summary["problems"],
        }


class PlanBuilder:
    """Counts the outputs of *kinds* in an enumeration; *summary* counts containers and problems."""

    def __init__(
        self, summary: SummaryBuilder, kinds: Sequence[str], *, max_listed: int = MAX_LISTED
    ) -> None:
        self.summary = summary
        self._max_listed = max_listed
        self._to_download: Counter[str] = Counter(dict.fromkeys(kinds, 0))
        self._up_to_date: Counter[str] = Counter(dict.fromkeys(kinds, 0))
        self._outputs: list[tuple[Output, str | None]] = []

    def add(self, output: Output, key: str | None = None) -> None:
        """Count an output that a run would download."""
        self._to_download[output.kind] += 1
        if len(self._outputs) < self._max_listed:
            self._outputs.append((output, key))

    def add_skipped(self, kind: str, outputs: int = 1) -> None:
        """Count outputs that need no download."""
        self._up_to_date[kind] += outputs

    def build(self, made_at: datetime | None = None, *, stopped_by: ExitCode | None = None) -> Plan:
        """Return the plan."""
        summary = self.summary.build(made_at, stopped_by=stopped_by)
        return Plan(summary, self._to_download, self._up_to_date, list(self._outputs))
