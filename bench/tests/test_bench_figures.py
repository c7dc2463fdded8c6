"""Test the figures of the bench: ratios, marks, bounds and the page."""

import math
import sys
import threading
from dataclasses import replace

import pytest

from bench.bound import Work, compute_bounds
from bench.measure import ProcessMonitor, ProcessState, Sample, run_measured
from bench.page import render_page
from bench.pairs import FileTotals, Program, ProgramRuns, VerificationError, compute_ratios, run_in_pairs
from bench.result import (
    RowResult,
    check_limit,
    compare_speedup,
    compare_time,
    load_results,
    store_results,
    summarize_cost,
)
from bench.tools import BULKDL, Link, bulkdl, format_command

SAMPLE = Sample(2.0, 0.5, 0.25, 50 << 20, 0)


def program_runs(name, *seconds):
    return ProgramRuns(name, [replace(SAMPLE, wall_s=each) for each in seconds], FileTotals(3, 300))


def test_a_ratio_is_taken_pair_by_pair():
    ours, theirs = program_runs("bulkdl", 1.0, 9.0, 3.0), program_runs("other", 2.0, 9.0, 2.0)
    assert compute_ratios(ours.samples, theirs.samples) == [0.5, 1.0, 1.5]
    metric = compare_time(ours, theirs, 1.0)
    assert (metric.value, metric.target, metric.is_met, metric.range) == ("1.00", "≤ 1", True, "0.50–1.50")


def test_what_is_for_information_is_neither_reached_nor_missed():
    assert compare_time(program_runs("bulkdl", 2.0), program_runs("curl", 1.0), None).is_met is None


@pytest.mark.parametrize(("seconds", "reached"), [(90.0, True), (80.0, False)])
def test_times_faster_counts_upwards(seconds, reached):
    assert (
        compare_speedup(program_runs("bulkdl", 3.0), program_runs("up42-py", seconds), 30).is_met is reached
    )


def test_a_program_that_failed_has_no_figure_and_says_why():
    failed = ProgramRuns("other", error="exit code 3: no such host | gone")
    metric = compare_time(program_runs("bulkdl", 1.0), failed, 1.0)
    assert (metric.value, metric.is_met) == ("not measured", None)
    assert math.isnan(summarize_cost(failed).wall_s)
    row = RowResult("row", "some work", costs=[summarize_cost(failed)], metrics=[metric])
    assert "exit code 3: no such host / gone" in render_page([row], {}, "make bench", "")


def test_a_bound_that_is_kept():
    assert check_limit("memory", 120.0, 150.0, "MiB").is_met
    assert not check_limit("memory", 151.0, 150.0, "MiB").is_met


def test_results_survive_on_disk_and_rows_keep_their_own_revision(tmp_path):
    row = RowResult(
        "tls", "over TLS", "bulkdl run", [summarize_cost(program_runs("bulkdl", 1.0))], revision="abc1234"
    )
    row.metrics = [check_limit("time", 1.0, 5.0, "s")]
    store_results(tmp_path / "results.json", {"tls": row}, {"cores": "2"})
    assert load_results(tmp_path / "results.json") == {"tls": row}
    assert load_results(tmp_path / "none.json") == {}


def test_the_page_has_the_table_the_costs_and_the_notes():
    row = RowResult(
        "tls",
        "over TLS",
        "bulkdl run -o DIR",
        [summarize_cost(program_runs("bulkdl", 2.0))],
        revision="abc1234",
    )
    row.metrics = [compare_time(program_runs("bulkdl", 2.0), program_runs("curl -Z", 1.0), 1.1)]
    text = render_page([row], {"cores": "2"}, "make bench", "## Notes\n\nby hand\n")
    assert "| over TLS | time / curl -Z | 2.00 | 2.00–2.00 | ≤ 1.1 | **no** |" in text
    assert "| over TLS | bulkdl | 1 | 2.00 | 0.75 (0.50 + 0.25) | 50 | 3 | 0.0 |" in text
    assert text.endswith("by hand\n")


def test_a_process_is_timed_with_its_own_cpu_and_memory(tmp_path):
    watch = ProcessMonitor()
    code = "import time; x = bytearray(64 << 20); sum(range(10**6)); time.sleep(0.5); raise SystemExit(3)"
    sample = run_measured([sys.executable, "-c", code], log=tmp_path / "log", monitor=watch)
    assert sample.exit_code == 3
    assert sample.wall_s > 0.5 > 0 < sample.cpu_s
    assert sample.peak_bytes > 64 << 20
    assert max(one.resident_bytes for one in watch.states) > 64 << 20
    assert 0 < watch.states[-1].cpu_s <= sample.cpu_s + 0.02


def test_what_was_at_a_moment_is_the_latest_reading_before_it():
    watch = ProcessMonitor(
        [ProcessState(10.0, 1, 0.1), ProcessState(20.0, 2, 0.2), ProcessState(30.0, 3, 0.3)]
    )
    assert [watch.state_at(moment).resident_bytes for moment in (5.0, 20.0, 29.0, 99.0)] == [0, 2, 2, 3]
    assert [watch.state_at(moment).cpu_s for moment in (5.0, 20.0)] == [0.0, 0.2]


def test_a_watch_ends_with_its_process():
    ProcessMonitor().follow(2**22 + 1, threading.Event())  # no such process


def test_programs_take_turns_and_a_wrong_result_has_no_time(tmp_path):
    order = []

    def program(name, check):
        def command(folder):
            order.append(name)
            return [sys.executable, "-c", f"open('{name}', 'w').close()"]

        return Program(name, command, check)

    def right(folder):
        assert [path.name for path in folder.iterdir()] == ["a"], "each begins in an empty folder"
        return FileTotals(1, 0)

    def wrong(folder):
        raise VerificationError("a byte differs")

    found = run_in_pairs([program("a", right), program("b", wrong)], tmp_path, pairs=2)
    assert order == ["b", "a", "a", "a"], "the warm-up turns round; who failed is not asked again"
    assert len(found["a"].samples) == 2
    assert found["b"].error == "a byte differs"
    assert not found["b"].samples


def test_an_exit_code_that_is_no_success_is_told_with_the_last_words(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('out of cheese')"]
    found = run_in_pairs([Program("a", lambda _: command, lambda _: FileTotals(0, 0))], tmp_path, pairs=1)
    assert found["a"].error == "exit code 1: out of cheese"


def test_the_largest_of_the_bounds_is_what_a_run_is_held_against():
    asked = {"api token": 1, "api results": 160, "storage object": 120, "api geojson": 159, "api tasks": 160}
    work = replace(Work.from_requests(asked, latency_s=0.1), workers={"archives": 4}, rate=80.0, burst=400)
    limits = compute_bounds(work)
    assert limits["critical path"] == pytest.approx(0.7)
    assert limits["pool of archives (4)"] == pytest.approx(7.0)
    requests_s = (480 - 2 - 400) / 80
    assert limits["rate limit (80/s, burst 400)"] == pytest.approx(0.2 + requests_s + 0.1), (
        "token and page before"
    )


def test_a_command_is_shown_without_this_machine(tmp_path):
    command = bulkdl("run", "http://127.0.0.1:4711", tmp_path)
    assert command[0] == BULKDL[0]
    assert format_command(command) == "bulkdl run -o DIR --api-url ORIGIN --rate 0"


def test_links_have_a_file_each(tmp_path):
    from bench import tools

    links = [Link("http://127.0.0.1:1/a", "a.jpg"), Link("http://127.0.0.1:1/b", "b.jpg")]
    assert tools.curl(links, tmp_path / "curl")[-1] == str(tmp_path / "curl")
    assert (tmp_path / "curl").read_text().count("output = ") == 2
    assert str(tmp_path / "aria") in tools.aria2c(links, tmp_path / "aria", "-j32")
    assert (tmp_path / "aria").read_text().count(" out=") == 2
