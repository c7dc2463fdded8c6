"""
The result of a run. Results are counted as they arrive, in bounded memory.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from bulkdl.failure_policy import FAILURE_POLICIES, ExitCode, highest_ranked_exit_code
from bulkdl.models import Outcome, Reason, Result
from bulkdl.report.models import (
    MAX_LISTED,
    ContainerCounts,
    Count,
    DerivedCount,
    FailureRow,
    Problem,
    count_dict,
    derived_dict,
    sum_counts,
)

SIGNALS = (ExitCode.INTERRUPTED, ExitCode.TERMINATED)


@dataclass(slots=True)
class SourceSummary:
    """
    The part of one source in the result of a run.

    Attributes:
        exit_code: The exit code of a run of this source alone.
    """

    containers: ContainerCounts = field(default_factory=ContainerCounts)
    exit_code: ExitCode = ExitCode.OK

    def as_dict(self, source: str) -> dict[str, Any]:
        """Return the values for JSON."""
        return {"source": source, "exit_code": int(self.exit_code), "containers": asdict(self.containers)}


@dataclass(slots=True)
class Summary:
    """
    The result of a run.

    Attributes:
        sources: The part of each source, by name.
        counts: Outputs by kind, outcome and reason.
        failures: The first failures; *failures_total* counts all.
        derived: Processed outputs and their derived files by processor.
        elapsed_s: Duration by the monotonic clock; None if only the timestamps are known.
        stopped_by: Exit code of the signal or the limit that stopped the run early.
    """

    run_id: str
    started_at: datetime
    finished_at: datetime
    sources: dict[str, SourceSummary] = field(default_factory=dict)
    counts: dict[tuple[str, Outcome, Reason], Count] = field(default_factory=dict)
    failures: list[FailureRow] = field(default_factory=list)
    failures_total: int = 0
    problems: list[Problem] = field(default_factory=list)
    problems_total: int = 0
    derived: dict[str, DerivedCount] = field(default_factory=dict)
    stopped_by: ExitCode | None = None
    exit_code: ExitCode = ExitCode.OK
    elapsed_s: float | None = None

    @property
    def containers(self) -> ContainerCounts:
        """Number of containers of all sources."""
        return sum_counts(part.containers for part in self.sources.values())

    @property
    def duration_s(self) -> float:
        """Duration of the run, by the monotonic clock if it was measured."""
        if self.elapsed_s is not None:
            return self.elapsed_s
        return max((self.finished_at - self.started_at).total_seconds(), 0.0)

    @property
    def downloaded_bytes(self) -> int:
        """Body bytes that this run downloaded."""
        return sum(count.downloaded_bytes for count in self.counts.values())

    @property
    def bytes_per_s(self) -> float:
        """Mean download rate of the run."""
        return self.downloaded_bytes / self.duration_s if self.duration_s > 0 else 0.0

    def after_signal(self, code: ExitCode | None) -> Summary:
        """Return a copy that is stopped by the signal with exit *code*; this summary without a signal."""
        return self if code is None else replace(self, stopped_by=code, exit_code=code)

    def outputs(self, outcome: Outcome | None = None) -> int:
        """Return the number of outputs with *outcome*, or of all outputs."""
        return sum(
            count.outputs for (_, counted, _), count in self.counts.items() if outcome in (None, counted)
        )

    @property
    def not_available(self) -> int:
        """Number of outputs that do not exist according to the source."""
        return sum(
            count.outputs for (*_, reason), count in self.counts.items() if reason is Reason.NOT_AVAILABLE
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON: timestamps in ISO format, sizes in bytes."""
        return {
            "run_id": self.run_id,
            "started_at": self.started_at.isoformat(),
            "finished_at": self.finished_at.isoformat(),
            "duration_s": round(self.duration_s, 3),
            "exit_code": int(self.exit_code),
            "sources": [part.as_dict(source) for source, part in self.sources.items()],
            "containers": asdict(self.containers),
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
            "problems": [problem.as_dict() for problem in self.problems],
            "derived": [derived_dict(name, count) for name, count in sorted(self.derived.items())],
        }


class SummaryBuilder:
    """Counts the results of a run; ``build`` can be called at any time."""

    def __init__(
        self,
        run_id: str,
        started_at: datetime,
        *,
        max_listed: int = MAX_LISTED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run_id = run_id
        self._started_at = started_at
        self._clock = clock
        self._started_s = clock()
        self._max_listed = max_listed
        self._counts: dict[tuple[str, Outcome, Reason], Count] = {}
        self._failures: list[FailureRow] = []
        self._containers: dict[str, ContainerCounts] = {}
        # By source and reason. Without a source, a problem concerns the whole run.
        self._failure_reasons: Counter[tuple[str | None, Reason]] = Counter()
        self._problems: list[Problem] = []
        self._problem_reasons: Counter[tuple[str | None, Reason]] = Counter()
        self._derived: dict[str, DerivedCount] = {}
        self._scopes: set[tuple[str, str]] = set()
        self._rejected_scopes: set[tuple[str, str]] = set()

    @property
    def cancelled(self) -> bool:
        """Whether an output was cancelled."""
        return any(outcome is Outcome.CANCELLED for _, outcome, _ in self._counts)

    def containers(self, source: str) -> ContainerCounts:
        """Return the counts of the containers of *source*, which the caller can increment."""
        return self._containers.setdefault(source, ContainerCounts())

    def add_scope(self, source: str, scope: str) -> None:
        """Add a scope of the selection of *source*."""
        self.containers(source)
        self._scopes.add((source, scope))

    def add(self, result: Result, *, key: str | None = None) -> None:
        """Count the result of an output; *key* is its intended key if there is no committed file."""
        file = result.file
        size_bytes = file.size_bytes if file else 0
        self.count(result.output.kind, result.outcome, result.reason, 1, size_bytes, result.downloaded_bytes)
        if result.outcome is not Outcome.FAILED:
            return
        self._failure_reasons[result.output.container.source, result.reason] += 1
        if len(self._failures) < self._max_listed:
            row = FailureRow(
                result.output, file.key if file else key, result.reason, result.detail, result.attempts
            )
            self._failures.append(row)

    def count(
        self,
        kind: str,
        outcome: Outcome,
        reason: Reason,
        outputs: int,
        size_bytes: int = 0,
        downloaded_bytes: int = 0,
    ) -> None:
        """Count several outputs with the same outcome, for example those of an up-to-date container."""
        self._counts.setdefault((kind, outcome, reason), Count()).add(outputs, size_bytes, downloaded_bytes)

    def add_problem(
        self,
        reason: Reason,
        subject: str,
        detail: str = "",
        *,
        source: str | None = None,
        scope: str | None = None,
    ) -> None:
        """
        Count a failure of *subject*, which is not a single output.

        If the credentials of *scope* are rejected, the scope counts as failed as a whole.
        """
        self._problem_reasons[source, reason] += 1
        if reason is Reason.CREDENTIALS and source is not None and scope is not None:
            self._rejected_scopes.add((source, scope))
        if len(self._problems) < self._max_listed:
            self._problems.append(Problem(reason, subject, detail, source))

    def count_derived(self, processor: str, state: str, outputs: int, files: int, size_bytes: int) -> None:
        """Count processed outputs and their derived files."""
        self._derived.setdefault(processor, DerivedCount()).add(state, outputs, files, size_bytes)

    def build(self, finished_at: datetime | None = None, *, stopped_by: ExitCode | None = None) -> Summary:
        """Return the summary."""
        sources = {
            source: SourceSummary(replace(counts), self._exit_code_of(source, stopped_by))
            for source, counts in self._containers.items()
        }
        return Summary(
            run_id=self._run_id,
            started_at=self._started_at,
            finished_at=finished_at or datetime.now(UTC),
            sources=sources,
            counts={group: replace(count) for group, count in self._counts.items()},
            failures=list(self._failures),
            failures_total=self._failure_reasons.total(),
            problems=list(self._problems),
            problems_total=self._problem_reasons.total(),
            derived={name: replace(count) for name, count in self._derived.items()},
            stopped_by=stopped_by,
            elapsed_s=self._clock() - self._started_s if finished_at is None else None,
            exit_code=self._combine_exit_codes([part.exit_code for part in sources.values()], stopped_by),
        )

    def _exit_code_of(self, source: str, stopped_by: ExitCode | None) -> ExitCode:
        """Return the exit code of *source*. Problems of the whole run belong to each source."""
        scopes = {scope for scope in self._scopes if scope[0] == source}
        rejected = {scope for scope in self._rejected_scopes if scope[0] == source}
        return exit_code(
            [reason for owner, reason in self._failure_reasons if owner == source],
            [reason for owner, reason in self._problem_reasons if owner in (source, None)],
            is_partial=bool(rejected) and bool(scopes - rejected),
            stopped_by=stopped_by,
        )

    def _combine_exit_codes(self, codes: list[ExitCode], stopped_by: ExitCode | None) -> ExitCode:
        """Return the exit code of the run: the highest ranked one of its sources and of their problems."""
        if stopped_by in SIGNALS:
            return stopped_by
        known = self._containers.keys()
        failed = [reason for source, reason in self._failure_reasons if source not in known]
        problems = [reason for source, reason in self._problem_reasons if source not in known]
        return highest_ranked_exit_code({*codes, exit_code(failed, problems, stopped_by=stopped_by)})


def exit_code(
    failed: Iterable[Reason],
    problems: Iterable[Reason] = (),
    *,
    is_partial: bool = False,
    stopped_by: ExitCode | None = None,
) -> ExitCode:
    """
    Return the exit code of a run.

    The exit code of a signal overrides all others. Rejected credentials result in exit code 7 if no scope
    could be listed. If other scopes could be listed (*is_partial*), the exit code is 3.
    """
    if stopped_by in SIGNALS:
        return stopped_by
    codes: set[ExitCode] = {stopped_by} if stopped_by is not None else set()
    codes |= {FAILURE_POLICIES[reason].exit_code for reason in (*failed, *problems)}
    if is_partial and ExitCode.CREDENTIALS in codes:
        codes = codes - {ExitCode.CREDENTIALS} | {ExitCode.FAILED}
    return highest_ranked_exit_code(codes)
