"""
Rows 6 and 8: a first run over many tiny outputs, and a second run over the completed outputs.

A job has three tasks and ten outputs: four archives (the archive of the job is the archive of its last
task), four GeoJSON files and two quicklooks. The bodies have a few bytes, so that the rows measure the
overhead per output.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from bench import check, tools
from bench.measure import MIB, ProcessMonitor, Sample, run_measured
from bench.nginx import Nginx
from bench.pairs import FileTotals, ProgramRuns
from bench.result import Metric, RowResult, check_limit, format_sample, summarize_cost
from bench.settings import BenchSettings
from bench.site import Site
from bench.spy import record_profile

_TASKS, _QUICKLOOKS, _EACH = 3, 2, 10
_SUFFIXES = (".tar.gz", "_output.json", ".jpg")
_RERUN_OUTPUTS, _RERUN_S = 100_000, 5.0
_STABLE_AFTER_OUTPUTS = 10_000
_FLAT_MIB, _RATE_KEPT = 20.0, 0.9


def measure_first_run(settings: BenchSettings) -> RowResult:
    """Measure row 8."""
    scratch = settings.create_directory("backfill")
    result = RowResult("backfill", f"a first run over {settings.outputs:,} tiny outputs")
    monitor = ProcessMonitor()
    with _create_origin(scratch, settings.outputs) as origin:
        command, sample, totals = _run_first(origin.http_url, scratch, settings.outputs, monitor)
    result.command = tools.format_command(command)
    result.costs = [summarize_cost(ProgramRuns("bulkdl", [sample], totals))]
    _add_metrics(result, list(_iter_completion_times(scratch / "first.log")), monitor, settings.outputs)
    if settings.profiler:
        result.profile = _profile(settings, scratch)
    shutil.rmtree(scratch / "tree")
    return result


def measure_rerun(settings: BenchSettings) -> RowResult:
    """Measure row 6."""
    scratch = settings.create_directory("rerun")
    outputs = min(_RERUN_OUTPUTS, settings.outputs)
    result = RowResult(
        "rerun", f"a second run over {outputs:,} completed outputs in {outputs // _EACH:,} jobs"
    )
    with _create_origin(scratch, outputs) as origin:
        _, first, totals = _run_first(origin.http_url, scratch, outputs)
    result.facts["first run"] = format_sample(first)
    program_runs = ProgramRuns("bulkdl", totals=totals)
    with _create_origin(scratch, outputs, logged=True) as origin:
        command = tools.bulkdl("run", origin.http_url, scratch / "tree")
        for _ in range(settings.pairs):
            program_runs.samples.append(
                run_measured(command, log=scratch / "again.log", env=tools.ENVIRONMENT)
            )
            os.sync()
        if settings.profiler:
            result.profile = record_profile(command, scratch, settings.profiler, tools.ENVIRONMENT)
    runs = settings.pairs + bool(settings.profiler)
    request_counts = Counter(map(_endpoint, origin.requests_log.read_text().splitlines()))
    result.facts["requests of the second run"] = ", ".join(
        f"{n / runs:g} {name}" for name, n in request_counts.items()
    )
    result.command = tools.format_command(command)
    result.costs = [summarize_cost(program_runs)]
    others = sum(number for name, number in request_counts.items() if name not in ("job lists", "tokens"))
    result.metrics = [
        check_limit("time", program_runs.median(lambda sample: sample.wall_s), _RERUN_S, "s"),
        Metric("requests other than job lists and tokens", str(others), "0", others == 0),
    ]
    shutil.rmtree(scratch / "tree")
    return result


def _create_origin(scratch: Path, outputs: int, *, logged: bool = False) -> Nginx:
    site = Site(scratch / "site", jobs=outputs // _EACH, tasks=_TASKS, quicklooks=_QUICKLOOKS)
    assert site.outputs == outputs, "ten outputs per job"  # noqa: S101
    site.write()
    return Nginx(scratch / "nginx", site.root, site.locations(), site.maps(), logged=logged)


def _run_first(
    api_url: str, scratch: Path, outputs: int, monitor: ProcessMonitor | None = None
) -> tuple[list[str], Sample, FileTotals]:
    tree = scratch / "tree"
    command = tools.bulkdl("run", api_url, tree)
    sample = run_measured(command, log=scratch / "first.log", env=tools.ENVIRONMENT, monitor=monitor)
    os.sync()
    return command, sample, check.check_file_count(tree, _SUFFIXES, outputs)


def _profile(settings: BenchSettings, scratch: Path) -> list[str]:
    with _create_origin(scratch, min(settings.outputs, 2 * _STABLE_AFTER_OUTPUTS)) as origin:
        command = tools.bulkdl("run", origin.http_url, settings.create_directory("backfill/profiled"))
        return record_profile(command, scratch, str(settings.profiler), tools.ENVIRONMENT)


def _endpoint(line: str) -> str:
    path = line.partition(" ")[2].partition("?")[0]
    if path.startswith("/bucket/"):
        return "archives"
    return {"jobs": "job lists", "token": "tokens", "tasks": "task lists"}.get(
        path.rsplit("/", 1)[-1], path.rsplit("/", 1)[-1]
    )


def _iter_completion_times(log: Path) -> Iterator[float]:
    """Yield the Unix time at which each output was recorded."""
    with log.open() as lines:
        for line in lines:
            if '"transfer.completed"' in line:
                yield datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()


def _add_metrics(result: RowResult, completed_at: list[float], monitor: ProcessMonitor, outputs: int) -> None:
    tenth = outputs // 10
    # Excludes the ramp-up at the start and the drain at the end.
    first, last = (completed_at[0], completed_at[tenth]), (completed_at[-1 - tenth], completed_at[-1])
    rates = [tenth / (until - since) for since, until in (first, last)]
    cpu_ms = [
        1000 * (monitor.state_at(until).cpu_s - monitor.state_at(since).cpu_s) / tenth
        for since, until in (first, last)
    ]
    early = monitor.state_at(completed_at[min(_STABLE_AFTER_OUTPUTS, outputs - 1)]).resident_bytes
    late = monitor.state_at(completed_at[-1]).resident_bytes
    result.facts["outputs/s, first and last tenth"] = f"{rates[0]:,.0f} and {rates[1]:,.0f}"
    result.facts["outputs/s overall"] = f"{outputs / (completed_at[-1] - completed_at[0]):,.0f}"
    result.facts["CPU per output, first and last tenth"] = f"{cpu_ms[0]:.2f} and {cpu_ms[1]:.2f} ms"
    result.facts["memory after 10,000 outputs and at the end"] = f"{early >> 20} and {late >> 20} MiB"
    kept = rates[1] / rates[0]
    result.metrics = [
        Metric("rate at the end / at the start", f"{kept:.2f}", f"≥ {_RATE_KEPT}", kept >= _RATE_KEPT),
        check_limit("memory growth since output 10,000", (late - early) / MIB, _FLAT_MIB, "MiB"),
    ]
