"""The last runs of the service, for the status page."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from bulkdl.models import Outcome
from bulkdl.report.summary import Summary

RUNS_SHOWN = 10
_PROBLEM_CHARS = 300


class Trigger(StrEnum):
    """Why a run starts."""

    SCHEDULE = "schedule"
    WEBHOOK = "webhook"
    RECHECK = "recheck"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """
    One run of the service.

    Attributes:
        run_id: None if the run could not start.
        problem: Why the run could not start or ended with an exception; empty for a run with a report.
    """

    trigger: Trigger
    started_at: datetime
    finished_at: datetime
    exit_code: int
    run_id: str | None = None
    completed: int = 0
    failed: int = 0
    downloaded_bytes: int = 0
    problem: str = ""

    @classmethod
    def of_summary(cls, trigger: Trigger, summary: Summary) -> RunRecord:
        """Return the record of a run with a report."""
        return cls(
            trigger,
            summary.started_at,
            summary.finished_at,
            int(summary.exit_code),
            summary.run_id,
            summary.outputs(Outcome.COMPLETED),
            summary.outputs(Outcome.FAILED),
            summary.downloaded_bytes,
        )

    @classmethod
    def of_failure(
        cls, trigger: Trigger, started_at: datetime, finished_at: datetime, exit_code: int, problem: str
    ) -> RunRecord:
        """Return the record of a run that has no report."""
        return cls(trigger, started_at, finished_at, exit_code, problem=problem[:_PROBLEM_CHARS])

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        times = {"started_at": self.started_at.isoformat(), "finished_at": self.finished_at.isoformat()}
        return {**asdict(self), **times}


class RunHistory:
    """The last ten runs, newest first."""

    def __init__(self) -> None:
        self._records: deque[RunRecord] = deque(maxlen=RUNS_SHOWN)
        self.total = 0

    def add(self, record: RunRecord) -> None:
        """Add the latest run."""
        self._records.appendleft(record)
        self.total += 1

    def as_list(self) -> list[dict[str, Any]]:
        """Return the runs for JSON."""
        return [record.as_dict() for record in self._records]
