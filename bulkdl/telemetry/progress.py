"""
Bars on a terminal: one for the whole run, one for each archive in flight.

Events come in their thousands a second and are only added up; the screen is touched a few times a
second, so that looking at the run does not slow it down.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from rich.console import Console, Group
from rich.filesize import decimal
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from bulkdl.model import Kind, Output
from bulkdl.printable import printable
from bulkdl.telemetry.events import (
    EnumerationFinished,
    Event,
    HttpListening,
    JobEnumerated,
    NullReporter,
    Reporter,
    RetryScheduled,
    TransferAdvanced,
    TransferEnded,
    TransferStarted,
)

REFRESH_S = 0.2
_RATE_WINDOW_S = 10.0


class Speedometer:
    """Bytes a second over the last seconds; the moments are given by the caller."""

    def __init__(self, window_s: float = _RATE_WINDOW_S) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, now_s: float, moved_bytes: int) -> None:
        """Count *moved_bytes*; those of one refresh share a sample."""
        if self._samples and now_s - self._samples[-1][0] < REFRESH_S:
            at_s, before = self._samples.pop()
            self._samples.append((at_s, before + moved_bytes))
        else:
            self._samples.append((now_s, moved_bytes))
        self._sum += moved_bytes

    def rate(self, now_s: float) -> float:
        """Bytes a second."""
        while self._samples and now_s - self._samples[0][0] > self._window_s:
            self._sum -= self._samples.popleft()[1]
        if not self._samples:
            return 0.0
        return self._sum / max(now_s - self._samples[0][0], 1.0)


class RichProgress:
    """A reporter that draws. Use it as a context manager; outside of it events are only counted."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._overall = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} outputs"),
            TextColumn("{task.fields[moved]}"),
            console=console,
        )
        self._files = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._live = Live(
            Group(self._overall, self._files),
            console=console,
            refresh_per_second=1 / REFRESH_S,
            transient=True,
        )
        self._task = self._overall.add_task("listing jobs", total=0, moved="")
        self._bars: dict[Output, TaskID] = {}
        self._drawn_at: dict[Output, float] = {}
        self._planned = 0
        self._settled = 0
        self._moved_bytes = 0
        self._speed = Speedometer()
        self._overall_drawn_at = -REFRESH_S

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw_overall(force=True)
        self._live.stop()

    def report(self, event: Event) -> None:
        """Take in *event*; the screen follows within a moment."""
        match event:
            case JobEnumerated(planned=planned, settled=settled):
                self._planned += planned + settled
                self._settled += settled
            case HttpListening(url=url):
                self._live.console.print(Text(f"live page: {url}"))
            case EnumerationFinished():
                self._overall.update(self._task, description="fetching")
            case TransferStarted(output=output):
                self._start(output)
            case TransferAdvanced():
                self._advance(event)
            case RetryScheduled(output=output):
                self._note(output, f"{event.reason.value}, again in {event.delay_s:.0f} s")
            case TransferEnded(result=result):
                self._end(result.output)
        self._draw_overall(force=isinstance(event, EnumerationFinished))

    def _start(self, output: Output) -> None:
        if output.kind is Kind.ARCHIVE and output not in self._bars:
            self._bars[output] = self._files.add_task(_label(output), total=None, note="")

    def _advance(self, event: TransferAdvanced) -> None:
        now_s = self._clock()
        self._moved_bytes += event.moved_bytes
        self._speed.add(now_s, event.moved_bytes)
        bar = self._bars.get(event.output)
        if bar is None or now_s - self._drawn_at.get(event.output, -REFRESH_S) < REFRESH_S:
            return
        self._drawn_at[event.output] = now_s
        of = f"/{decimal(event.total_bytes)}" if event.total_bytes is not None else ""
        note = f"{decimal(event.at_bytes)}{of}"
        self._files.update(bar, completed=event.at_bytes, total=event.total_bytes, note=note)

    def _note(self, output: Output, note: str) -> None:
        if output in self._bars:
            self._files.update(self._bars[output], note=note)

    def _end(self, output: Output) -> None:
        if output.name or output.kind is not Kind.QUICKLOOK:  # a list of quicklooks was not planned
            self._settled += 1
        self._drawn_at.pop(output, None)
        bar = self._bars.pop(output, None)
        if bar is not None:
            self._files.remove_task(bar)

    def _draw_overall(self, *, force: bool) -> None:
        now_s = self._clock()
        if not force and now_s - self._overall_drawn_at < REFRESH_S:
            return
        self._overall_drawn_at = now_s
        moved = f"{decimal(self._moved_bytes)} at {decimal(int(self._speed.rate(now_s)))}/s"
        total = max(self._planned, self._settled)
        self._overall.update(self._task, total=total, completed=self._settled, moved=moved)


class _Silent(NullReporter):
    """No bars, with the shape of a context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def progress_on(console: Console, wanted: Literal["auto", "never"] = "auto") -> RichProgress | _Silent:
    """The reporter that fits *console*: bars on a terminal, nothing in a pipe or when not wanted."""
    return RichProgress(console) if has_bars(console, wanted) else _Silent()


def has_bars(console: Console, wanted: Literal["auto", "never"] = "auto") -> bool:
    """Whether bars are drawn there."""
    return wanted == "auto" and console.is_terminal and not console.is_dumb_terminal


def _label(output: Output) -> str:
    owner = f"task {output.task_id[:8]}" if output.task_id else "final"
    return printable(f"job {output.job_id[:8]} {owner}")


__all__ = ["NullReporter", "Reporter", "RichProgress", "Speedometer", "progress_on"]
