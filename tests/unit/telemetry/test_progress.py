from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from bulkdl.models import ContainerRef, Outcome, Output, Reason
from bulkdl.sources.up42_jobs.models import Kind, job_output, job_ref
from bulkdl.sources.up42_jobs.spec import SPEC
from bulkdl.sources.up42_storage.spec import SPEC as STORAGE_SPEC
from bulkdl.telemetry.consoles import show_progress
from bulkdl.telemetry.events import (
    ContainerEnumerated,
    EnumerationFinished,
    NullReporter,
    OutputProcessed,
    RetryScheduled,
    TransferAdvanced,
    TransferStarted,
    UploadAdvanced,
)
from bulkdl.telemetry.progress import MAX_LINES, RichProgress
from bulkdl.telemetry.totals import REFRESH_S, RunTotals, Speedometer, is_shown
from support.event_samples import ended

MIB = 1 << 20
ARCHIVE = job_output("p", "job-1", None, Kind.ARCHIVE)
PICTURE = job_output("p", "job-1", "task-1", Kind.QUICKLOOK, "a.png")


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def drawn(*events, clock=None, later_s=0.0, kinds=SPEC.kind_names) -> tuple[RichProgress, list[str]]:
    clock = clock or Clock()
    progress = RichProgress(Console(file=io.StringIO(), force_terminal=True, width=100), kinds, clock)
    for event in events:
        progress.report(event)
    clock.now_s += later_s
    out = Console(file=io.StringIO(), width=100, force_terminal=False)
    out.print(progress._render())
    return progress, [line.rstrip() for line in out.file.getvalue().splitlines()]


def archive(number: int) -> Output:
    return job_output("p", f"job-{number}", None, Kind.ARCHIVE)


def test_total_line_counts_outputs_that_are_present_already():
    _, lines = drawn(ContainerEnumerated(job_ref("p", "j"), planned=3, up_to_date=2), ended(PICTURE))
    assert lines[0] == "listing  3/5 outputs  0 B  0 B/s"


def test_total_line_shows_uploaded_bytes():
    _, lines = drawn(
        UploadAdvanced("a/b", 4 * MIB, 8 * MIB, 4 * MIB), UploadAdvanced("a/b", 5 * MIB, 8 * MIB, MIB)
    )
    assert lines[0].endswith("  5.0 MiB uploaded")


def test_total_line_shows_a_bar_and_failures_after_listing():
    failed = ended(ARCHIVE, Outcome.FAILED)
    _, lines = drawn(ContainerEnumerated(job_ref("p", "j"), 4, 0), failed, EnumerationFinished())
    assert "25 %  1/4 outputs" in lines[0]
    assert lines[0].endswith("1 failed")


def test_total_line_shows_rate_and_eta():
    clock = Clock()
    progress, _ = drawn(
        ContainerEnumerated(job_ref("p", "j"), 11, 0, {Kind.ARCHIVE: 11}),
        EnumerationFinished(),
        TransferStarted(ARCHIVE),
        clock=clock,
    )
    for number in range(10):
        clock.now_s += 1
        progress.report(TransferAdvanced(archive(number), MIB, MIB, MIB))
        progress.report(ended(archive(number), downloaded_bytes=MIB))
    out = Console(file=io.StringIO(), width=100, force_terminal=False)
    out.print(progress._render())
    assert re.search(r"10/11 outputs  10\.0 MiB  1\.1 MiB/s  ETA 1 s", out.file.getvalue())


def test_kind_lines_count_completed_failed_and_left():
    planned = {Kind.ARCHIVE: 3, Kind.QUICKLOOK: 7}
    failed = ended(ARCHIVE, Outcome.FAILED)
    _, lines = drawn(ContainerEnumerated(job_ref("p", "j"), 10, 0, planned), failed, ended(PICTURE))
    assert [" ".join(line.split()) for line in lines[1:3]] == [
        "archive 0 completed 1 failed 2 left 0 B/s",
        "quicklook 1 completed 0 failed 6 left 0 B/s",
    ]


def test_large_transfer_has_a_line_at_once_and_a_small_one_has_none():
    advanced = TransferAdvanced(ARCHIVE, offset=8 * MIB, total_bytes=32 * MIB, downloaded_bytes=8 * MIB)
    _, lines = drawn(TransferStarted(ARCHIVE), TransferStarted(PICTURE), advanced)
    assert lines[1:] == ["  archive of job job-1  8.0 MiB of 32.0 MiB (25 %)", "  1 more in progress"]
    _, lines = drawn(TransferStarted(ARCHIVE), advanced, ended(ARCHIVE))
    assert not any("job job-1" in line for line in lines)


def test_long_transfer_has_a_line_with_its_retry_note():
    retry = RetryScheduled(PICTURE, Reason.STALLED, delay_s=12.3)
    _, lines = drawn(TransferStarted(PICTURE), retry, later_s=2.1)
    assert lines[1:] == ["  quicklook of job job-1 task task-1  0 B  stalled, retry in 12 s"]


@pytest.mark.parametrize("transfers", [1, 4, 5, 500])
def test_display_has_at_most_eight_lines(transfers):
    planned = ContainerEnumerated(job_ref("p", "j"), 3000, 0, dict.fromkeys(Kind, 1000))
    _, lines = drawn(planned, *[TransferStarted(archive(number)) for number in range(transfers)], later_s=3)
    assert len(lines) == min(4 + transfers, MAX_LINES)
    assert (lines[-1] == f"  {transfers - 3} more in progress") is (transfers > 4)


BOTH = (*SPEC.kind_names, *STORAGE_SPEC.kind_names)
DELIVERY = ContainerRef("storage", "w", "delivery-1")
BOTH_PLANNED = (
    ContainerEnumerated(job_ref("p", "j"), 5, 0, {Kind.ARCHIVE: 2, Kind.GEOJSON: 3}),
    ContainerEnumerated(DELIVERY, 8, 0, dict.fromkeys(STORAGE_SPEC.kind_names, 2)),
)


def test_kind_lines_of_two_sources_show_one_line_for_each_source():
    original = Output(DELIVERY, "", "original", "a.tif")
    failed = ended(original, Outcome.FAILED)
    _, lines = drawn(*BOTH_PLANNED, failed, ended(ARCHIVE), kinds=BOTH)
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "jobs 1 completed 0 failed 4 left 0 B/s",
        "storage 0 completed 1 failed 7 left 0 B/s",
    ]


def test_transfer_line_of_a_delivery_names_it_with_the_words_of_its_source():
    asset = Output(DELIVERY, "item-1", "asset", "b.tif")
    _, lines = drawn(TransferStarted(asset), later_s=3, kinds=BOTH)
    assert lines[1:] == ["  asset of delivery delivery item item-1  0 B"]


@pytest.mark.parametrize("processors", [0, 4, 9])
def test_display_of_two_sources_with_processors_has_at_most_eight_lines(processors):
    results = [
        OutputProcessed(f"p{number}", ARCHIVE, Outcome.COMPLETED, 1, 1) for number in range(processors)
    ]
    transfers = [TransferStarted(archive(number)) for number in range(20)]
    _, lines = drawn(*BOTH_PLANNED, *results, *transfers, later_s=3, kinds=BOTH)
    assert len(lines) == MAX_LINES


@pytest.mark.parametrize(
    ("age_s", "received", "total", "shown"),
    [(2.1, 0, None, True), (1, 17 * MIB, None, True), (1, 0, 17 * MIB, True), (1, 0, 16 * MIB, False)],
)
def test_is_shown_needs_age_or_size(age_s, received, total, shown):
    assert is_shown(age_s, received, total) is shown


def test_eta_is_unknown_while_listing_and_before_each_kind_has_a_completed_output():
    totals = RunTotals(SPEC.kind_names)
    totals.report(ContainerEnumerated(job_ref("p", "j"), 4, 0, {Kind.ARCHIVE: 2, Kind.QUICKLOOK: 2}), 0)
    totals.report(TransferStarted(ARCHIVE), 0)
    totals.report(TransferAdvanced(ARCHIVE, 100, 100, 100), 1)
    totals.report(ended(ARCHIVE, downloaded_bytes=100), 1)
    assert totals.eta_s(1) is None
    totals.report(EnumerationFinished(), 1)
    assert totals.eta_s(1) is None
    totals.report(ended(PICTURE, downloaded_bytes=0), 2)
    assert totals.eta_s(2) == pytest.approx(2.0)


def test_events_out_of_order_or_without_a_start_are_accepted():
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


def test_events_are_counted_without_drawing(monkeypatch):
    progress, _ = drawn(TransferStarted(ARCHIVE))
    drawings = []
    monkeypatch.setattr(progress, "_render", lambda: drawings.append(1))
    for _ in range(10_000):
        progress.report(TransferAdvanced(ARCHIVE, 1, None, 1))
    assert drawings == []


def test_received_bytes_are_all_counted():
    _, lines = drawn(*[TransferAdvanced(PICTURE, n, None, 1024) for n in range(5120)])
    assert "5.0 MiB" in lines[0]


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
    ("is_terminal", "mode", "is_displayed"),
    [(True, "auto", True), (True, "never", False), (False, "auto", False), (False, "never", False)],
)
def test_progress_display_requires_a_terminal(is_terminal, mode, is_displayed):
    console = Console(file=io.StringIO(), force_terminal=is_terminal, _environ={"TERM": "xterm"})
    with show_progress(console, SPEC.kind_names, mode) as reporter:
        reporter.report(TransferStarted(ARCHIVE))
    assert isinstance(reporter, RichProgress) is is_displayed
    assert is_displayed or isinstance(reporter, NullReporter)
    assert is_displayed or console.file.getvalue() == ""


def test_progress_label_escapes_markup_and_control_sequences():
    output = job_output("p", "[/x]\x1b[2J", None, Kind.ARCHIVE)
    _, lines = drawn(TransferStarted(output), later_s=3)
    assert any("[/x]\\x1b" in line for line in lines)


def test_processor_line_counts_outputs_and_derived_files():
    _, lines = drawn(
        OutputProcessed("unpack", ARCHIVE, Outcome.COMPLETED, 3, 3 * MIB),
        OutputProcessed("unpack", PICTURE, Outcome.FAILED, 0, 0),
    )
    assert lines[1:] == ["  unpack            1 completed      1 failed         3 derived files   3.0 MiB"]
