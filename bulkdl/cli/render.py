"""
Write results to stdout: tables on a terminal, plain lines in a pipe, CSV, or one JSON object.
"""

from __future__ import annotations

import csv
import io
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulkdl.failure_policy import ExitCode
from bulkdl.models import Outcome
from bulkdl.printable import json_text, printable, storable
from bulkdl.report.models import MAX_LISTED, Count, DerivedCount, FailureRow, Problem
from bulkdl.report.summary import SourceSummary, Summary
from bulkdl.source_spec import source_labels, source_of_kind
from bulkdl.units import format_clock, format_rate, format_size

if TYPE_CHECKING:
    from bulkdl.report.plan import Plan
    from bulkdl.report.status import Status
    from bulkdl.report.verification import Verification

Row = Sequence[str]

FAILURES_SHOWN = 20
_RESUMABLE = {
    ExitCode.TEMPORARY,
    ExitCode.MAX_DURATION,
    ExitCode.MAX_TRANSFER,
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
}
_COUNT_HEADER = ("source", "kind", "outcome", "reason", "outputs", "size", "downloaded")
_NUMBERS = ("outputs", "size", "downloaded", "to download", "up to date")
# Spreadsheets evaluate cells with such a first character; a quote makes them text (OWASP: CSV injection)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_json(document: object) -> None:
    """Write *document* as one line of JSON."""
    _write(json_text(document, encoding=sys.stdout.encoding or "utf-8"))


def write_lines(*lines: str) -> None:
    """Write *lines* with control characters escaped."""
    _write("\n".join(map(printable, lines)))


def write_csv(header: Sequence[str], rows: Iterable[Sequence[object]], *, with_header: bool = True) -> None:
    """Write *rows* as CSV after a line of column names. Spreadsheets do not evaluate a cell as a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header] if with_header else [])
    writer.writerows([[_csv_cell(value) for value in row] for row in rows])
    if text.tell():
        _write(text.getvalue().removesuffix("\n"))


def write_table(
    header: Row, rows: Sequence[Row], *, title: str | None = None, numbers: Sequence[str] = ()
) -> None:
    """Write a table on a terminal, otherwise plain lines. The columns *numbers* are aligned to the right."""
    if not sys.stdout.isatty():
        write_lines(*format_rows(header, rows, title=title))
        return
    from rich.console import Console  # noqa: PLC0415 - only for a terminal
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(
        title=Text(printable(title)) if title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for column in header:
        right = column in numbers
        table.add_column(column, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(file=sys.stdout).print(table)


def format_rows(header: Row, rows: Sequence[Row], *, title: str | None = None) -> list[str]:
    """Format a table as lines of text with two spaces between columns."""
    cells = [tuple(map(printable, row)) for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return [title, *lines] if title else lines


def _csv_cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value.startswith(_FORMULA_STARTS) else printable(value)


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show_summary(summary: Summary, output: Path | str, result_format: str = "table") -> None:
    """Print a run: counts by kind and outcome, each failure with a hint, and the next step."""
    if result_format == "json":
        write_json(summary.as_dict())
        return
    if summary.counts:
        write_table(_COUNT_HEADER, _count_rows(summary.counts), numbers=_NUMBERS)
        write_lines("")
    lines = [
        *_problem_lines(summary.problems, summary.problems_total),
        *_failure_lines(summary.failures, summary.failures_total),
        *_absent_lines(summary.not_available),
        *_container_lines(summary.sources),
        *_derived_lines(summary.derived),
        headline(summary),
        *_next_step(summary, output),
    ]
    write_lines(*lines)


def _next_step(summary: Summary, output: Path | str) -> Iterable[str]:
    """Say which commands list and retry the failures of a run."""
    failed = summary.outputs(Outcome.FAILED)
    directory = shlex.quote(str(output))
    if failed:
        yield (
            f"{_plural(failed, 'output')} failed: `bulkdl status --failures -o {directory}` lists them, "
            f"`bulkdl retry -o {directory}` downloads them again"
        )
    elif summary.exit_code in _RESUMABLE:
        yield "run the same command again to download the remaining outputs"


def show_plan(plan: Plan, result_format: str = "table") -> None:
    """Print what a run would download."""
    if result_format == "json":
        write_json(plan.as_dict())
        return
    rows = [
        (source_of_kind(kind) or "", kind, str(count), str(plan.up_to_date[kind]))
        for kind, count in plan.to_download.items()
    ]
    write_table(("source", "kind", "to download", "up to date"), rows, numbers=_NUMBERS)
    lines = [
        *_problem_lines(plan.problems, plan.summary.problems_total),
        *_container_lines(plan.summary.sources),
    ]
    write_lines("", *lines, f"{_plural(plan.to_download.total(), 'output')} to download")


def show_status(status: Status, result_format: str = "table") -> None:
    """Print the content of the ledgers."""
    if result_format == "json":
        write_json(status.as_dict())
        return
    rows = [row[:-1] for row in _count_rows(status.counts)]
    write_table(
        ("source", "kind", "state", "reason", "outputs", "size"), rows, title=status.output, numbers=_NUMBERS
    )
    last = status.last_run_at.isoformat(timespec="seconds") if status.last_run_at else "no run has finished"
    lines = [
        *_failure_lines(status.failures, status.failures_total),
        *_unlisted_lines(status.listing_failed_total),
        *_absent_lines(status.not_available),
        *_state_lines(status.containers),
        *_derived_lines(status.derived),
        *([f"ledgers: {len(status.ledgers)}"] if len(status.ledgers) > 1 else []),
        f"last run: {last}",
        *_work_lines(status),
    ]
    write_lines("", *lines)


def show_verification(verification: Verification, result_format: str = "table") -> None:
    """Print the result of a verification or of a rebuild."""
    if result_format == "json":
        write_json(verification.as_dict())
        return
    rows = [
        (source_of_kind(kind) or "", kind, str(state), str(count.outputs), format_size(count.size_bytes))
        for (kind, state), count in verification.counts.items()
    ]
    title = storable(verification.output)
    write_table(("source", "kind", "state", "outputs", "size"), sorted(rows), title=title, numbers=_NUMBERS)
    write_lines("", *_finding_lines(verification), verification_headline(verification))


def verification_headline(verification: Verification) -> str:
    """Return the result of a verification in one line."""
    parts = [f"{verification.findings_total} wrong"]
    if verification.mode == "rebuild":
        counts = [
            source_labels(source).count_containers(number)
            for source, number in sorted(verification.containers.items())
        ]
        parts.append(f"ledger with {' and '.join(counts) or 'no containers'} recreated")
    if verification.repaired:
        parts.append(f"{verification.repaired} marked for download by bulkdl retry or run")
    parts.append(f"exit code {int(verification.exit_code)}")
    return f"verified ({verification.mode}): {', '.join(parts)}"


def headline(summary: Summary) -> str:
    """Return the result of a run in one line."""
    parts = [f"{summary.outputs(Outcome.COMPLETED)} completed"]
    parts += [
        f"{summary.outputs(outcome)} {outcome}"
        for outcome in (Outcome.SKIPPED, Outcome.FAILED, Outcome.CANCELLED)
        if summary.outputs(outcome)
    ]
    transferred = f"{format_size(summary.downloaded_bytes)} in {format_clock(summary.duration_s)}"
    transferred += f" ({format_rate(summary.bytes_per_s)})"
    return f"run {summary.run_id}: {', '.join(parts)}; {transferred}; exit code {int(summary.exit_code)}"


def _count_rows(counts: Mapping[tuple[str, Any, Any], Count]) -> list[tuple[str, ...]]:
    rows = [
        (
            source_of_kind(kind) or "",
            kind,
            str(outcome),
            str(reason),
            str(count.outputs),
            format_size(count.size_bytes),
            format_size(count.downloaded_bytes),
        )
        for (kind, outcome, reason), count in counts.items()
    ]
    return sorted(rows)


def _container_lines(sources: Mapping[str, SourceSummary]) -> Iterable[str]:
    for source, part in sources.items():
        counts = part.containers
        yield (
            f"{source_labels(source).containers}: {counts.seen} seen, {counts.selected} selected, "
            f"{counts.up_to_date} up to date, {counts.unfinished} unfinished"
        )


def _state_lines(containers: Mapping[str, Mapping[str, int]]) -> Iterable[str]:
    """Return a line with the containers of each source in the ledger."""
    for source, states in sorted(containers.items()):
        counts = ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in states.items())
        yield f"{source_labels(source).containers}: {counts}"


def _derived_lines(derived: Mapping[str, DerivedCount]) -> Iterable[str]:
    for name, count in sorted(derived.items()):
        states = [f"{count.completed} completed"]
        states += [f"{count.skipped} skipped"] if count.skipped else []
        states += [f"{count.failed} failed"] if count.failed else []
        files = f"{_plural(count.files, 'derived file')} ({format_size(count.size_bytes)})"
        yield f"{name}: {', '.join(states)}; {files}"


def _failure_lines(rows: Sequence[FailureRow], total: int) -> Iterable[str]:
    for row in rows[:FAILURES_SHOWN]:
        cause = f"{row.reason}: {row.detail}" if row.detail else str(row.reason)
        yield f"failed: {row.output}: {cause}; {row.hint}"
    if total > FAILURES_SHOWN:
        more = total - min(FAILURES_SHOWN, len(rows))
        yield f"… and {more} more failed; bulkdl status --failures lists them"


def _problem_lines(problems: Sequence[Problem], total: int) -> Iterable[str]:
    for problem in problems[:FAILURES_SHOWN]:
        cause = f"{problem.reason}: {problem.detail}" if problem.detail else str(problem.reason)
        yield f"problem: {problem.subject}: {cause}; {problem.hint}"
    if total > FAILURES_SHOWN:
        yield f"… and {total - min(FAILURES_SHOWN, len(problems))} more problems; --format json lists them"


def _finding_lines(verification: Verification) -> Iterable[str]:
    if verification.damaged_ledger:
        yield f"the old ledger cannot be read and was renamed to {storable(verification.damaged_ledger)}"
    for finding in verification.findings[:FAILURES_SHOWN]:
        yield f"{finding.state}: {finding.key}: {finding.detail}; {finding.hint}"
    more = verification.findings_total - min(FAILURES_SHOWN, len(verification.findings))
    if more:
        yield f"… and {more} more; --format json lists the first {MAX_LISTED}"
    for key in verification.untracked[:FAILURES_SHOWN]:
        yield f"untracked: {storable(key)}"
    more = verification.untracked_total - min(FAILURES_SHOWN, len(verification.untracked))
    if more:
        yield f"… and {more} more untracked files"


def _absent_lines(outputs: int) -> Iterable[str]:
    if outputs:
        number = _plural(outputs, "output")
        yield f"not available: {number} not found by the source; bulkdl retry requests them again"


def _unlisted_lines(unlisted: int) -> Iterable[str]:
    if unlisted:
        number = _plural(unlisted, "container")
        yield f"failed: {number} could not be listed; bulkdl status --failures names them"


def _work_lines(status: Status) -> Iterable[str]:
    for ledger in status.ledgers:
        owner = ledger.owner
        if owner is None:
            continue
        state = "running" if owner.alive else "stale lock, the next run takes over"
        since = owner.since_at.isoformat(timespec="seconds")
        directory = "" if ledger.output == "." else f" in {ledger.output}"
        yield f"{state}: {owner.run_id}{directory} since {since} (host {owner.host}, pid {owner.pid})"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
