"""
The progress display on a terminal: at most eight lines, whatever the size of the run.

A run reports thousands of events per second. They are only counted; a thread of rich draws the display a few
times per second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from bulkdl.models import Outcome, Output
from bulkdl.printable import printable
from bulkdl.source_spec import source_labels, source_of_kind
from bulkdl.telemetry.events import (
    ContainerEnumerated,
    Event,
    RetryScheduled,
    StatusPageListening,
    TransferAdvanced,
    TransferEnded,
    TransferStarted,
)
from bulkdl.telemetry.totals import REFRESH_S, KindTotals, ProcessorTotals, RunTotals, is_shown
from bulkdl.units import format_clock, format_rate, format_size

MAX_LINES = 8
_BAR_CHARS = 24


@dataclass(slots=True)
class _Transfer:
    started_s: float
    received_bytes: int = 0
    total_bytes: int | None = None
    note: str = ""


class RichProgress:
    """A reporter that draws on a terminal while it is entered as a context manager."""

    def __init__(
        self, console: Console, kinds: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        # The thread that draws reads what report() writes.
        self._lock = threading.Lock()
        self._totals = RunTotals(kinds)
        self._expected = 0
        self._finished = 0
        self._failed = 0
        self._transfers: dict[Output, _Transfer] = {}
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=1 / REFRESH_S,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def report(self, event: Event) -> None:
        """Count *event*; the display follows with its next refresh."""
        if isinstance(event, StatusPageListening):
            self._live.console.print(Text(f"status page: {event.url}"))
            return
        now_s = self._clock()
        with self._lock:
            self._totals.report(event, now_s)
            self._count(event, now_s)

    def _count(self, event: Event, now_s: float) -> None:
        match event:
            case ContainerEnumerated(planned=planned, up_to_date=up_to_date):
                self._expected += planned + up_to_date
                self._finished += up_to_date
            case TransferStarted(output=output):
                self._transfers.setdefault(output, _Transfer(now_s))
            case TransferAdvanced(output=output) if transfer := self._transfers.get(output):
                transfer.received_bytes, transfer.total_bytes = event.offset, event.total_bytes
                transfer.note = ""
            case RetryScheduled(output=output) if transfer := self._transfers.get(output):
                transfer.note = f"{event.reason.value}, retry in {event.delay_s:.0f} s"
            case TransferEnded(result=result):
                self._finished += 1
                self._failed += result.outcome is Outcome.FAILED
                self._transfers.pop(result.output, None)

    def _render(self) -> Group:
        now_s = self._clock()
        with self._lock:
            lines = [self._total_line(now_s), *self._kind_lines(now_s), *self._processor_lines()]
            lines = lines[:MAX_LINES]
            lines += self._transfer_lines(now_s, MAX_LINES - len(lines))
        return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))

    def _total_line(self, now_s: float) -> str:
        total = max(self._expected, self._finished)
        share = self._finished / total if total else 0.0
        parts = [
            _bar(share) if self._totals.is_listed else "listing",
            f"{self._finished:,}/{total:,} outputs",
            format_size(self._totals.downloaded_bytes),
            format_rate(self._totals.speed.rate(now_s)),
        ]
        if self._totals.uploaded_bytes:
            parts.append(f"{format_size(self._totals.uploaded_bytes)} uploaded")
        eta_s = self._totals.eta_s(now_s)
        if eta_s is not None:
            parts.append(f"ETA {format_clock(eta_s, decimals=0)}")
        if self._failed:
            parts.append(f"{self._failed:,} failed")
        return "  ".join(parts)

    def _kind_lines(self, now_s: float) -> list[str]:
        """Show one line for each kind, or for each source if the run has several sources."""
        shown = {kind: each for kind, each in self._totals.kinds.items() if each.planned or each.finished}
        by_source: dict[str, list[KindTotals]] = {}
        for kind in self._totals.kinds:
            by_source.setdefault(source_of_kind(kind) or "", [])
        for kind, totals in shown.items():
            by_source[source_of_kind(kind) or ""].append(totals)
        if len(by_source) > 1:
            return [_kind_line(name, totals, now_s) for name, totals in by_source.items() if totals]
        return [_kind_line(kind, [totals], now_s) for kind, totals in shown.items()]

    def _processor_lines(self) -> list[str]:
        return [_processor_line(name, totals) for name, totals in self._totals.processors.items()]

    def _transfer_lines(self, now_s: float, max_lines: int) -> list[str]:
        """Show the oldest of the large and long transfers; at most *max_lines* lines."""
        shown = [
            (output, transfer)
            for output, transfer in self._transfers.items()
            if is_shown(now_s - transfer.started_s, transfer.received_bytes, transfer.total_bytes)
        ]
        if max_lines <= 0:
            return []
        more = len(self._transfers) - len(shown)
        if len(shown) + bool(more) > max_lines:
            more += len(shown) - (max_lines - 1)
            shown = shown[: max_lines - 1]
        lines = [_transfer_line(output, transfer) for output, transfer in shown]
        return [*lines, f"  {more:,} more in progress"] if more else lines


def _bar(share: float) -> str:
    full = int(share * _BAR_CHARS)
    return "━" * full + "╌" * (_BAR_CHARS - full) + f" {int(100 * share):3} %"


def _kind_line(name: str, totals: Sequence[KindTotals], now_s: float) -> str:
    completed = sum(each.outcomes[Outcome.COMPLETED] for each in totals)
    failed = sum(each.outcomes[Outcome.FAILED] for each in totals)
    counts = f"{completed:>9,} completed{failed:>7,} failed{sum(each.left for each in totals):>10,} left"
    return f"  {name:<10}{counts}   {format_rate(sum(each.speed.rate(now_s) for each in totals))}"


def _processor_line(name: str, totals: ProcessorTotals) -> str:
    counts = f"{totals.states[Outcome.COMPLETED]:>9,} completed{totals.states[Outcome.FAILED]:>7,} failed"
    return f"  {name:<10}{counts}{totals.files:>10,} derived files   {format_size(totals.size_bytes)}"


def _transfer_line(output: Output, transfer: _Transfer) -> str:
    size = format_size(transfer.received_bytes)
    if transfer.total_bytes:
        size += f" of {format_size(transfer.total_bytes)}"
        size += f" ({int(100 * transfer.received_bytes / transfer.total_bytes)} %)"
    return "  ".join(filter(None, [f"  {_label(output)}", size, transfer.note]))


def _label(output: Output) -> str:
    return printable(f"{output.kind} of {source_labels(output.container.source).describe_parts(output)}")
