"""
Summaries, plans and ledger states on stdout.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bulkdl.cli.output import emit_json, emit_lines, emit_rows
from bulkdl.failure_policy import ExitCode
from bulkdl.models import Kind, Outcome
from bulkdl.report.models import Count, FailureRow, JobCounts, Problem
from bulkdl.report.plan import Plan
from bulkdl.report.status import Status
from bulkdl.report.summary import Summary
from bulkdl.report.verification import FINDINGS_KEPT, Verification, storable
from bulkdl.units import format_clock, format_rate, format_size

FAILURES_SHOWN = 20
_RESUMABLE = {
    ExitCode.TEMPORARY,
    ExitCode.MAX_DURATION,
    ExitCode.MAX_TRANSFER,
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
}
_COUNT_HEADER = ("kind", "outcome", "reason", "outputs", "size", "downloaded")
_NUMBERS = ("outputs", "size", "downloaded", "to download", "up to date")


def show_summary(summary: Summary, output: Path, result_format: str = "table") -> None:
    """Print a run: counts by kind and outcome, each failure with a hint, and the next step."""
    if result_format == "json":
        emit_json(summary.as_dict())
        return
    if summary.counts:
        emit_rows(_COUNT_HEADER, _count_rows(summary.counts), numbers=_NUMBERS)
        emit_lines("")
    lines = [
        *_problem_lines(summary.problems, summary.problems_total),
        *_failure_lines(summary.failures, summary.failures_total),
        *_absent_lines(summary.not_available),
        _jobs_line(summary.jobs),
        headline(summary),
        *_next_step(summary, output),
    ]
    emit_lines(*lines)


def _next_step(summary: Summary, output: Path) -> Iterable[str]:
    """Say which commands list and retry the failures of a run."""
    failed = summary.outputs(Outcome.FAILED)
    directory = shlex.quote(str(output))
    if failed:
        yield (
            f"{_many(failed, 'output')} failed: `bulkdl status --failures -o {directory}` lists them, "
            f"`bulkdl retry -o {directory}` downloads them again"
        )
    elif summary.exit_code in _RESUMABLE:
        yield "run the same command again to download the remaining outputs"


def show_plan(plan: Plan, result_format: str = "table") -> None:
    """Print what a run would download."""
    if result_format == "json":
        emit_json(plan.as_dict())
        return
    rows = [(str(kind), str(plan.to_download[kind]), str(plan.up_to_date[kind])) for kind in Kind]
    emit_rows(("kind", "to download", "up to date"), rows, numbers=_NUMBERS)
    lines = [*_problem_lines(plan.problems, plan.summary.problems_total), _jobs_line(plan.jobs)]
    emit_lines("", *lines, f"{_many(plan.to_download.total(), 'output')} to download")


def show_status(status: Status, result_format: str = "table") -> None:
    """Print the content of the ledgers."""
    if result_format == "json":
        emit_json(status.as_dict())
        return
    rows = [row[:-1] for row in _count_rows(status.counts)]
    emit_rows(("kind", "state", "reason", "outputs", "size"), rows, title=status.output, numbers=_NUMBERS)
    jobs = ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in status.jobs.items())
    last = status.last_run_at.isoformat(timespec="seconds") if status.last_run_at else "none has ended"
    lines = [
        *_failure_lines(status.failures, status.failures_total),
        *_unlisted_lines(status.listing_failed_total),
        *_absent_lines(status.not_available),
        f"jobs: {jobs or 'none'}",
        *([f"ledgers: {len(status.ledgers)}"] if len(status.ledgers) > 1 else []),
        f"last run: {last}",
        *_work_lines(status),
    ]
    emit_lines("", *lines)


def show_verification(verification: Verification, result_format: str = "table") -> None:
    """Print the result of a verification or of a rebuild."""
    if result_format == "json":
        emit_json(verification.as_dict())
        return
    rows = [
        (str(kind), str(state), str(count.outputs), format_size(count.size_bytes))
        for (kind, state), count in sorted(verification.counts.items())
    ]
    title = storable(verification.output)
    emit_rows(("kind", "state", "outputs", "size"), rows, title=title, numbers=_NUMBERS)
    emit_lines("", *_finding_lines(verification), verification_headline(verification))


def verification_headline(verification: Verification) -> str:
    """One line."""
    parts = [f"{verification.findings_total} wrong"]
    if verification.mode == "rebuild":
        parts.append(f"a ledger of {_many(verification.jobs, 'job')} written")
    if verification.repaired:
        parts.append(f"{verification.repaired} marked for download by bulkdl retry or run")
    parts.append(f"exit code {int(verification.exit_code)}")
    return f"verified ({verification.mode}): {', '.join(parts)}"


def headline(summary: Summary) -> str:
    """The run in one line."""
    parts = [f"{summary.outputs(Outcome.COMPLETED)} completed"]
    parts += [
        f"{summary.outputs(outcome)} {outcome}"
        for outcome in (Outcome.SKIPPED, Outcome.FAILED, Outcome.CANCELLED)
        if summary.outputs(outcome)
    ]
    moved = f"{format_size(summary.downloaded_bytes)} in {format_clock(summary.duration_s)}"
    rate = format_rate(summary.bytes_per_s)
    return f"run {summary.run_id}: {', '.join(parts)}; {moved} ({rate}); exit code {int(summary.exit_code)}"


def _count_rows(counts: Mapping[tuple[Kind, Any, Any], Count]) -> list[tuple[str, ...]]:
    return [
        (
            str(kind),
            str(outcome),
            str(reason),
            str(count.outputs),
            format_size(count.size_bytes),
            format_size(count.downloaded_bytes),
        )
        for (kind, outcome, reason), count in sorted(counts.items())
    ]


def _jobs_line(jobs: JobCounts) -> str:
    settled = f"{jobs.up_to_date} up to date, {jobs.unfinished} unfinished"
    return f"jobs: {jobs.seen} seen, {jobs.selected} selected, {settled}"


def _failure_lines(rows: Sequence[FailureRow], total: int) -> Iterable[str]:
    for row in rows[:FAILURES_SHOWN]:
        what = f"{row.reason}: {row.detail}" if row.detail else str(row.reason)
        yield f"failed: {row.output}: {what}; {row.hint}"
    if total > FAILURES_SHOWN:
        more = total - min(FAILURES_SHOWN, len(rows))
        yield f"… and {more} more failed; bulkdl status --failures lists them"


def _problem_lines(problems: Sequence[Problem], total: int) -> Iterable[str]:
    for each in problems[:FAILURES_SHOWN]:
        what = f"{each.reason}: {each.detail}" if each.detail else str(each.reason)
        yield f"problem: {each.what}: {what}; {each.hint}"
    if total > FAILURES_SHOWN:
        yield f"… and {total - min(FAILURES_SHOWN, len(problems))} more problems; --format json lists them"


def _finding_lines(verification: Verification) -> Iterable[str]:
    if verification.damaged_ledger:
        yield f"the ledger could not be read; it is kept as {storable(verification.damaged_ledger)}"
    for finding in verification.findings[:FAILURES_SHOWN]:
        yield f"{finding.state}: {finding.key}: {finding.detail}; {finding.hint}"
    more = verification.findings_total - min(FAILURES_SHOWN, len(verification.findings))
    if more:
        yield f"… and {more} more; --format json lists the first {FINDINGS_KEPT}"
    for key in verification.untracked[:FAILURES_SHOWN]:
        yield f"untracked: {storable(key)}"
    more = verification.untracked_total - min(FAILURES_SHOWN, len(verification.untracked))
    if more:
        yield f"… and {more} more untracked files"


def _absent_lines(outputs: int) -> Iterable[str]:
    if outputs:
        yield f"not available: {_many(outputs, 'output')} not found by UP42; bulkdl retry requests them again"


def _unlisted_lines(unlisted: int) -> Iterable[str]:
    if unlisted:
        yield f"failed: {_many(unlisted, 'job')} could not be listed; bulkdl status --failures names them"


def _work_lines(status: Status) -> Iterable[str]:
    for ledger in status.ledgers:
        held = ledger.owner
        if held is None:
            continue
        what = "at work" if held.alive else "gone without a word (the next run takes over)"
        since = held.since_at.isoformat(timespec="seconds")
        where = "" if ledger.output == "." else f" in {ledger.output}"
        yield f"{what}: {held.run_id}{where} since {since} (host {held.host}, pid {held.pid})"


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
