"""
Summaries, plans and ledger states on stdout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.filesize import decimal

from bulkdl.cli.output import emit_json, emit_rows, emit_text
from bulkdl.model import Kind, Outcome
from bulkdl.report.plan import Plan
from bulkdl.report.rows import Count, FailureRow, JobCounts, Problem
from bulkdl.report.status import Status
from bulkdl.report.summary import Summary

FAILURES_SHOWN = 20
_COUNT_HEADER = ("kind", "outcome", "reason", "outputs", "size", "moved")
_NUMBERS = ("outputs", "size", "moved", "to fetch", "there")


def show_summary(summary: Summary, result_format: str = "table") -> None:
    """One run: counts by kind and outcome, then each failure with what to do next."""
    if result_format == "json":
        emit_json(summary.as_dict())
        return
    if summary.counts:
        emit_rows(_COUNT_HEADER, _count_rows(summary.counts), numbers=_NUMBERS)
        emit_text("")
    lines = [
        *_problem_lines(summary.problems, summary.problems_total),
        *_failure_lines(summary.failures, summary.failures_total),
        _jobs_line(summary.jobs),
        headline(summary),
    ]
    emit_text("\n".join(lines))


def show_plan(plan: Plan, result_format: str = "table") -> None:
    """What a run would do."""
    if result_format == "json":
        emit_json(plan.as_dict())
        return
    rows = [(str(kind), str(plan.to_fetch[kind]), str(plan.settled[kind])) for kind in Kind]
    emit_rows(("kind", "to fetch", "there"), rows, numbers=_NUMBERS)
    lines = [*_problem_lines(plan.problems, plan.summary.problems_total), _jobs_line(plan.jobs)]
    emit_text("\n".join(["", *lines, f"{_many(plan.to_fetch.total(), 'output')} to fetch"]))


def show_status(status: Status, result_format: str = "table") -> None:
    """What the ledger knows."""
    if result_format == "json":
        emit_json(status.as_dict())
        return
    rows = [row[:-1] for row in _count_rows(status.counts)]
    emit_rows(("kind", "state", "reason", "outputs", "size"), rows, title=status.output, numbers=_NUMBERS)
    jobs = ", ".join(f"{number} {state}" for state, number in status.jobs.items())
    last = status.last_run_at.isoformat(timespec="seconds") if status.last_run_at else "none has ended"
    lines = [
        *_failure_lines(status.failures, status.failures_total),
        f"jobs: {jobs or 'none'}",
        f"last run: {last}",
    ]
    emit_text("\n".join(["", *lines]))


def headline(summary: Summary) -> str:
    """The run in one line."""
    parts = [f"{summary.outputs(Outcome.COMPLETED)} fetched"]
    parts += [
        f"{summary.outputs(outcome)} {outcome}"
        for outcome in (Outcome.SKIPPED, Outcome.FAILED, Outcome.CANCELLED)
        if summary.outputs(outcome)
    ]
    moved = f"{decimal(summary.moved_bytes)} in {_clock(summary.duration_s)}"
    rate = f"{decimal(round(summary.bytes_per_s))}/s"
    return f"run {summary.run_id}: {', '.join(parts)}; {moved} ({rate}); exit code {int(summary.exit_code)}"


def _count_rows(counts: Mapping[tuple[Kind, Any, Any], Count]) -> list[tuple[str, ...]]:
    return [
        (
            str(kind),
            str(outcome),
            str(reason),
            str(count.outputs),
            decimal(count.size_bytes),
            decimal(count.moved_bytes),
        )
        for (kind, outcome, reason), count in sorted(counts.items())
    ]


def _jobs_line(jobs: JobCounts) -> str:
    settled = f"{jobs.settled} settled, {jobs.unfinished} unfinished"
    return f"jobs: {jobs.seen} seen, {jobs.selected} selected, {settled}"


def _failure_lines(rows: Sequence[FailureRow], total: int) -> Iterable[str]:
    for row in rows[:FAILURES_SHOWN]:
        what = f"{row.reason}: {row.detail}" if row.detail else str(row.reason)
        yield f"failed: {row.output}: {what}; {row.hint}"
    if total > FAILURES_SHOWN:
        more = total - min(FAILURES_SHOWN, len(rows))
        yield f"… and {more} more failed; bulkdl status --format json lists them"


def _problem_lines(problems: Sequence[Problem], total: int) -> Iterable[str]:
    for each in problems[:FAILURES_SHOWN]:
        what = f"{each.reason}: {each.detail}" if each.detail else str(each.reason)
        yield f"problem: {each.what}: {what}; {each.hint}"
    if total > FAILURES_SHOWN:
        yield f"… and {total - min(FAILURES_SHOWN, len(problems))} more problems; --format json lists them"


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
