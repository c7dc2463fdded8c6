"""
What a run came to: counted as results arrive, bounded in memory however many there are.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from bulkdl.failure_policy import FAILURE_POLICIES, ExitCode, highest_ranked_exit_code
from bulkdl.models import Kind, Outcome, Reason, Result
from bulkdl.report.models import Count, FailureRow, JobCounts, Problem, count_dict

FAILURES_KEPT = 1000
SIGNALS = (ExitCode.INTERRUPTED, ExitCode.TERMINATED)


@dataclass(slots=True)
class Summary:
    """
    One run from start to end.

    Attributes:
        counts: By kind, outcome and reason.
        failures: The first ones; *failures_total* tells how many there were.
        elapsed_s: Of the monotonic clock; None if only the timestamps are known.
        stopped_by: The exit code of what ended the run early (a signal, a budget), if anything did.
    """

    run_id: str
    started_at: datetime
    finished_at: datetime
    jobs: JobCounts = field(default_factory=JobCounts)
    counts: dict[tuple[Kind, Outcome, Reason], Count] = field(default_factory=dict)
    failures: list[FailureRow] = field(default_factory=list)
    failures_total: int = 0
    problems: list[Problem] = field(default_factory=list)
    problems_total: int = 0
    stopped_by: ExitCode | None = None
    exit_code: ExitCode = ExitCode.OK
    elapsed_s: float | None = None

    @property
    def duration_s(self) -> float:
        """Time from start to end, of the monotonic clock if the run measured it."""
        if self.elapsed_s is not None:
            return self.elapsed_s
        return max((self.finished_at - self.started_at).total_seconds(), 0.0)

    @property
    def downloaded_bytes(self) -> int:
        """Body bytes that travelled in this run."""
        return sum(count.downloaded_bytes for count in self.counts.values())

    @property
    def bytes_per_s(self) -> float:
        """Mean over the whole run."""
        return self.downloaded_bytes / self.duration_s if self.duration_s > 0 else 0.0

    def after_signal(self, code: ExitCode | None) -> Summary:
        """This summary, ended by the signal that *code* stands for; itself when there was none."""
        return self if code is None else replace(self, stopped_by=code, exit_code=code)

    def outputs(self, outcome: Outcome | None = None) -> int:
        """Outputs that ended with *outcome*, or all."""
        return sum(count.outputs for (_, each, _), count in self.counts.items() if outcome in (None, each))

    @property
    def not_available(self) -> int:
        """Number of outputs that UP42 reports as not found."""
        return sum(count.outputs for (*_, why), count in self.counts.items() if why is Reason.NOT_AVAILABLE)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: plain values, moments in ISO form, sizes in bytes."""
        return {
            "run_id": self.run_id,
            "started_at": self.started_at.isoformat(),
            "finished_at": self.finished_at.isoformat(),
            "duration_s": round(self.duration_s, 3),
            "exit_code": int(self.exit_code),
            "jobs": {
                "seen": self.jobs.seen,
                "selected": self.jobs.selected,
                "up_to_date": self.jobs.up_to_date,
                "unfinished": self.jobs.unfinished,
            },
            "outputs": {str(outcome): self.outputs(outcome) for outcome in Outcome},
            "not_available": self.not_available,
            "downloaded_bytes": self.downloaded_bytes,
            "bytes_per_s": round(self.bytes_per_s),
            "counts": [
                count_dict(kind, outcome, reason, count)
                for (kind, outcome, reason), count in sorted(self.counts.items())
            ],
            "failures_total": self.failures_total,
            "failures": [row.as_dict() for row in self.failures],
            "problems_total": self.problems_total,
            "problems": [each.as_dict() for each in self.problems],
        }


class SummaryBuilder:
    """Counts what happens; ``build`` gives the summary at any moment."""

    def __init__(
        self,
        run_id: str,
        started_at: datetime,
        *,
        failures_kept: int = FAILURES_KEPT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.jobs = JobCounts()
        self._run_id = run_id
        self._started_at = started_at
        self._clock = clock
        self._started_s = clock()
        self._kept = failures_kept
        self._counts: dict[tuple[Kind, Outcome, Reason], Count] = {}
        self._failures: list[FailureRow] = []
        self._failed: Counter[Reason] = Counter()
        self._problems: list[Problem] = []
        self._troubled: Counter[Reason] = Counter()
        self._projects: set[str] = set()
        self._refused: set[str] = set()

    @property
    def cancelled(self) -> bool:
        """Whether an output was stopped before its end."""
        return any(outcome is Outcome.CANCELLED for _, outcome, _ in self._counts)

    def add_project(self, project_id: str) -> None:
        """A project is to be listed."""
        self._projects.add(project_id)

    def add(self, result: Result, *, key: str | None = None) -> None:
        """One output ended; *key* is where it would have gone, when there is no receipt to tell."""
        receipt = result.file
        size_bytes = receipt.size_bytes if receipt else 0
        self.count(result.output.kind, result.outcome, result.reason, 1, size_bytes, result.downloaded_bytes)
        if result.outcome is not Outcome.FAILED:
            return
        self._failed[result.reason] += 1
        if len(self._failures) < self._kept:
            at = receipt.key if receipt else key
            row = FailureRow(result.output, at, result.reason, result.detail, result.attempts)
            self._failures.append(row)

    def count(
        self,
        kind: Kind,
        outcome: Outcome,
        reason: Reason,
        outputs: int,
        size_bytes: int = 0,
        downloaded_bytes: int = 0,
    ) -> None:
        """Count outputs that ended alike, such as all those of a settled job."""
        self._counts.setdefault((kind, outcome, reason), Count()).add(outputs, size_bytes, downloaded_bytes)

    def add_problem(
        self, reason: Reason, what: str, detail: str = "", *, project_id: str | None = None
    ) -> None:
        """
        Something went wrong with *what* that is no output.

        With *project_id* and refused credentials, that project counts as refused as a whole.
        """
        self._troubled[reason] += 1
        if reason is Reason.CREDENTIALS and project_id is not None:
            self._refused.add(project_id)
        if len(self._problems) < self._kept:
            self._problems.append(Problem(reason, what, detail))

    def build(self, finished_at: datetime | None = None, *, stopped_by: ExitCode | None = None) -> Summary:
        """The summary so far."""
        others_went_on = bool(self._projects - self._refused) and bool(self._refused)
        return Summary(
            run_id=self._run_id,
            started_at=self._started_at,
            finished_at=finished_at or datetime.now(UTC),
            jobs=replace(self.jobs),
            counts={what: replace(count) for what, count in self._counts.items()},
            failures=list(self._failures),
            failures_total=self._failed.total(),
            problems=list(self._problems),
            problems_total=self._troubled.total(),
            stopped_by=stopped_by,
            elapsed_s=self._clock() - self._started_s if finished_at is None else None,
            exit_code=exit_code(
                self._failed, self._troubled, others_went_on=others_went_on, stopped_by=stopped_by
            ),
        )


def exit_code(
    failed: Iterable[Reason],
    problems: Iterable[Reason] = (),
    *,
    others_went_on: bool = False,
    stopped_by: ExitCode | None = None,
) -> ExitCode:
    """
    The exit code of a run.

    A signal overrides everything. Refused credentials are 7 only when no project could be
    listed; when others went on, what is missing is some outputs, 3.
    """
    if stopped_by in SIGNALS:
        return stopped_by
    codes: set[ExitCode] = {stopped_by} if stopped_by is not None else set()
    codes |= {FAILURE_POLICIES[reason].exit_code for reason in (*failed, *problems)}
    if others_went_on and ExitCode.CREDENTIALS in codes:
        codes = codes - {ExitCode.CREDENTIALS} | {ExitCode.FAILED}
    return highest_ranked_exit_code(codes)
