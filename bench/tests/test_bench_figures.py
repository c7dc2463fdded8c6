"""Test the results of the bench: ratios, metrics, bounds and the page."""

import math
import sys
import threading
from dataclasses import replace

import pytest

from bench.bound import Work, compare_with_bounds, compute_bounds
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


def test_compare_time_computes_the_ratio_per_pair():
    ours, theirs = program_runs("bulkdl", 1.0, 9.0, 3.0), program_runs("other", 2.0, 9.0, 2.0)
    assert compute_ratios(ours.samples, theirs.samples) == [0.5, 1.0, 1.5]
    metric = compare_time(ours, theirs, 1.0)
    assert (metric.value, metric.target, metric.is_met, metric.range) == ("1.00", "≤ 1", True, "0.50–1.50")


def test_compare_time_without_a_target_is_neither_met_nor_missed():
    assert compare_time(program_runs("bulkdl", 2.0), program_runs("curl", 1.0), None).is_met is None


@pytest.mark.parametrize(("seconds", "reached"), [(90.0, True), (80.0, False)])
def test_compare_speedup_is_met_at_or_above_its_target(seconds, reached):
    assert (
        compare_speedup(program_runs("bulkdl", 3.0), program_runs("up42-py", seconds), 30).is_met is reached
    )


def test_failed_program_has_no_value_and_shows_its_error():
    failed = ProgramRuns("other", error="exit code 3: no such host | gone")
    metric = compare_time(program_runs("bulkdl", 1.0), failed, 1.0)
    assert (metric.value, metric.is_met) == ("not measured", None)
    assert math.isnan(summarize_cost(failed).wall_s)
    row = RowResult("row", "some work", costs=[summarize_cost(failed)], metrics=[metric])
    assert "exit code 3: no such host / gone" in render_page([row], {}, "make bench", "")


def test_check_limit_is_met_up_to_its_limit():
    assert check_limit("memory", 120.0, 150.0, "MiB").is_met
    assert not check_limit("memory", 151.0, 150.0, "MiB").is_met


def test_stored_results_are_loaded_unchanged(tmp_path):
    row = RowResult(
        "tls", "over TLS", "bulkdl run", [summarize_cost(program_runs("bulkdl", 1.0))], revision="abc1234"
    )
    row.metrics = [check_limit("time", 1.0, 5.0, "s")]
    store_results(tmp_path / "results.json", {"tls": row}, {"cores": "2"})
    assert load_results(tmp_path / "results.json") == {"tls": row}
    assert load_results(tmp_path / "none.json") == {}


def test_page_contains_metrics_costs_and_notes():
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


def test_run_measured_returns_cpu_time_and_memory_of_the_process(tmp_path):
    monitor = ProcessMonitor()
    code = "import time; x = bytearray(64 << 20); sum(range(10**6)); time.sleep(0.5); raise SystemExit(3)"
    sample = run_measured([sys.executable, "-c", code], log=tmp_path / "log", monitor=monitor)
    assert sample.exit_code == 3
    assert sample.wall_s > 0.5 > 0 < sample.cpu_s
    assert sample.peak_bytes > 64 << 20
    assert max(state.resident_bytes for state in monitor.states) > 64 << 20
    assert 0 < monitor.states[-1].cpu_s <= sample.cpu_s + 0.02


def test_state_at_returns_the_latest_state_before_the_time():
    monitor = ProcessMonitor(
        [ProcessState(10.0, 1, 0.1), ProcessState(20.0, 2, 0.2), ProcessState(30.0, 3, 0.3)]
    )
    assert [monitor.state_at(time_s).resident_bytes for time_s in (5.0, 20.0, 29.0, 99.0)] == [0, 2, 2, 3]
    assert [monitor.state_at(time_s).cpu_s for time_s in (5.0, 20.0)] == [0.0, 0.2]


def test_process_monitor_without_a_process_returns():
    ProcessMonitor().follow(2**22 + 1, threading.Event())  # no such process


def test_programs_alternate_and_a_failed_check_has_no_sample(tmp_path):
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
    assert order == ["b", "a", "a", "a"], "the warm-up runs in reverse, and a failed program is not run again"
    assert len(found["a"].samples) == 2
    assert found["b"].error == "a byte differs"
    assert not found["b"].samples


def test_unexpected_exit_code_is_reported_with_stderr(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('out of cheese')"]
    found = run_in_pairs([Program("a", lambda _: command, lambda _: FileTotals(0, 0))], tmp_path, pairs=1)
    assert found["a"].error == "exit code 1: out of cheese"


def test_compute_bounds_returns_each_lower_bound():
    request_counts = {
        "api token": 1,
        "api results": 160,
        "storage object": 120,
        "api geojson": 159,
        "api tasks": 160,
    }
    work = replace(
        Work.from_requests(request_counts, latency_s=0.1), workers={"archives": 4}, rate=80.0, burst=400
    )
    limits = compute_bounds(work)
    assert limits["critical path"] == pytest.approx(0.7)
    assert limits["pool of archives (4)"] == pytest.approx(7.0)
    requests_s = (480 - 2 - 400) / 80
    assert limits["rate limit (80/s, burst 400)"] == pytest.approx(0.2 + requests_s + 0.1), (
        "token and page before"
    )


def test_compare_with_bounds_uses_the_largest_bound_of_todays_api():
    request_counts = {"api login": 1, "api assets": 3, "api download_url": 642, "storage object": 642}
    work = replace(Work.from_storage_requests(request_counts, latency_s=0.1), rate=80.0, burst=400)
    limits = compute_bounds(work)
    assert limits["critical path"] == pytest.approx(0.6)
    assert limits["pool of assets (224)"] == pytest.approx(1284 * 0.1 / 224)
    limit_s = 0.3 + (646 - 402) / 80
    assert limits["rate limit (80/s, burst 400)"] == pytest.approx(limit_s)
    row = RowResult("row", "some work")
    for wall_s, is_met in ((limit_s * 1.2, True), (limit_s * 1.3, False)):
        compare_with_bounds(row, program_runs("bulkdl", wall_s), request_counts, work)
        assert row.metrics[-1].is_met is is_met


def test_format_command_omits_directories_and_ports(tmp_path):
    command = bulkdl("run", "http://127.0.0.1:4711", tmp_path)
    assert command[0] == BULKDL[0]
    assert format_command(command) == "bulkdl run -o DIR --api-url ORIGIN --rate 0"


def test_download_lists_contain_one_file_per_link(tmp_path):
    from bench import tools

    links = [Link("http://127.0.0.1:1/a", "a.jpg"), Link("http://127.0.0.1:1/b", "b.jpg")]
    assert tools.curl(links, tmp_path / "curl")[-1] == str(tmp_path / "curl")
    assert (tmp_path / "curl").read_text().count("output = ") == 2
    assert str(tmp_path / "aria") in tools.aria2c(links, tmp_path / "aria", "-j32")
    assert (tmp_path / "aria").read_text().count(" out=") == 2
