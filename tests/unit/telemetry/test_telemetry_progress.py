from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from bulkdl.model import Kind, Outcome, Output, Reason, Result
from bulkdl.telemetry.events import (
    EnumerationFinished,
    JobEnumerated,
    NullReporter,
    RetryScheduled,
    TransferAdvanced,
    TransferEnded,
    TransferStarted,
)
from bulkdl.telemetry.progress import REFRESH_S, RichProgress, Speedometer, progress_on

ARCHIVE = Output("p", "job-1", None, Kind.ARCHIVE)
PICTURE = Output("p", "job-1", "task-1", Kind.QUICKLOOK, "a.png")


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def drawn(*events, clock=None) -> tuple[RichProgress, str]:
    progress = RichProgress(Console(file=io.StringIO(), force_terminal=True, width=100), clock or Clock())
    for event in events:
        progress.report(event)
    progress._draw_overall(force=True)
    out = Console(file=io.StringIO(), width=100, force_terminal=False)
    out.print(progress._live.renderable)
    return progress, out.file.getvalue()


def ended(output: Output) -> TransferEnded:
    return TransferEnded(Result(output, Outcome.COMPLETED, Reason.FETCHED))


def test_the_whole_run_has_one_bar_that_counts_what_is_there_already():
    _, text = drawn(JobEnumerated("p", "j", planned=3, settled=2), ended(PICTURE))
    assert "listing jobs" in text
    assert "3/5 outputs" in text


def test_the_total_is_final_when_enumeration_is():
    _, text = drawn(JobEnumerated("p", "j", 3, 0), EnumerationFinished())
    assert "fetching" in text
    assert "0/3 outputs" in text


def test_each_archive_in_flight_has_a_bar_and_a_small_file_has_none():
    advanced = TransferAdvanced(ARCHIVE, at_bytes=500_000, total_bytes=2_000_000, moved_bytes=500_000)
    _, text = drawn(TransferStarted(ARCHIVE), TransferStarted(PICTURE), advanced)
    assert "job job-1 final" in text
    assert "500.0 kB/2.0 MB" in text
    assert "task-1" not in text
    _, text = drawn(TransferStarted(ARCHIVE), advanced, ended(ARCHIVE))
    assert "job job-1" not in text


def test_a_waiting_archive_says_what_for():
    _, text = drawn(TransferStarted(ARCHIVE), RetryScheduled(ARCHIVE, Reason.STALLED, delay_s=12.3))
    assert "stalled, again in 12 s" in text


def test_events_out_of_order_or_without_a_start_are_no_error():
    drawn(
        ended(ARCHIVE),
        TransferAdvanced(ARCHIVE, 1, None, 1),
        RetryScheduled(ARCHIVE, Reason.STALLED, 1.0),
        TransferStarted(ARCHIVE),
        TransferStarted(ARCHIVE),
        TransferAdvanced(ARCHIVE, 1, None, 1),
        ended(ARCHIVE),
        ended(ARCHIVE),
    )


def test_a_flood_of_events_touches_the_bars_a_few_times_a_second(monkeypatch):
    clock = Clock()
    progress, _ = drawn(TransferStarted(ARCHIVE), clock=clock)
    touched = []
    monkeypatch.setattr(progress._files, "update", lambda *a, **k: touched.append("file"))
    monkeypatch.setattr(progress._overall, "update", lambda *a, **k: touched.append("overall"))
    for _ in range(10_000):
        clock.now_s += 1 / 10_000
        progress.report(TransferAdvanced(ARCHIVE, 1, None, 1))
    assert len(touched) <= 2 * (1 / REFRESH_S + 1)


def test_bytes_are_all_counted_however_rarely_they_are_drawn():
    clock = Clock()
    progress, text = drawn(*[TransferAdvanced(PICTURE, n, None, 1000) for n in range(5000)], clock=clock)
    assert "5.0 MB" in text
    assert not progress._bars


def test_speed_is_that_of_the_last_seconds():
    speed = Speedometer(window_s=10)
    for second in range(100):
        speed.add(float(second), 1000)
    assert speed.rate(99.0) == pytest.approx(1000, rel=0.2)
    assert speed.rate(200.0) == 0.0


def test_speed_keeps_few_samples():
    speed = Speedometer(window_s=10)
    for number in range(100_000):
        speed.add(number / 10_000, 1)
    assert len(speed._samples) <= 10 / REFRESH_S + 2
    assert speed.rate(10.0) == pytest.approx(10_000, rel=0.1)


@pytest.mark.parametrize(
    ("is_terminal", "wanted", "bars"),
    [(True, "auto", True), (True, "never", False), (False, "auto", False), (False, "never", False)],
)
def test_bars_are_for_terminals(is_terminal, wanted, bars):
    console = Console(file=io.StringIO(), force_terminal=is_terminal, _environ={"TERM": "xterm"})
    with progress_on(console, wanted) as reporter:
        reporter.report(TransferStarted(ARCHIVE))
    assert isinstance(reporter, RichProgress) is bars
    assert bars or isinstance(reporter, NullReporter)
    assert bars or console.file.getvalue() == ""


def test_progress_label_is_neither_markup_nor_a_control_sequence():
    output = replace(ARCHIVE, job_id="[/x]\x1b[2J")
    _, text = drawn(TransferStarted(output))
    assert "[/x]\\x1b" in text
