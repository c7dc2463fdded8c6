"""Row 4: all outputs of 40 jobs with three tasks, from a simulator that delays each response by 100 ms."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from bench import check, tools
from bench.bound import Work, compute_bounds
from bench.pairs import FileTotals, Program, VerificationError, run_in_pairs
from bench.result import Metric, RowResult, compare_speedup, summarize_cost
from bench.settings import REPOSITORY, BenchSettings
from bench.spy import record_profile

NAME = "latency"
TITLE = "40 jobs × 3 tasks, all outputs, 100 ms per response"
_JOBS, _TASKS, _LATENCY_S = 40, 3, 0.1
_UP42, _SEED = "up42-py 0.37.2", "a shell script (curl, jq, xargs -P16)"
_MAX_BOUND_RATIO = 1.25


@dataclass(slots=True)
class DelayedServer:
    """The simulator process. *request_counts* is filled after it has exited."""

    api_url: str
    project_id: str
    api_key: str
    expected: list[list[Any]]
    process: subprocess.Popen[str]
    request_counts: Counter[str] = field(default_factory=Counter)

    @property
    def environment(self) -> dict[str, str]:
        return {"UP42_PROJECT_ID": self.project_id, "UP42_PROJECT_API_KEY": self.api_key}


@contextmanager
def run_delayed_server() -> Iterator[DelayedServer]:
    command = [sys.executable, "-m", "bench.delayed", "--jobs", str(_JOBS), "--latency", str(_LATENCY_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101 - stdout is a pipe
        line = json.loads(process.stdout.readline())
        key = line["projects"][0]
        origin = DelayedServer(line["api_url"], key["id"], key["api_key"], line["expected"], process)
        try:
            yield origin
        finally:
            process.terminate()
            origin.request_counts = Counter(json.loads(process.stdout.readline() or "{}"))


def measure(settings: BenchSettings) -> RowResult:
    scratch = settings.create_directory(NAME)
    result = RowResult(NAME, TITLE)
    with run_delayed_server() as origin:
        runs_by_name = run_in_pairs(_create_programs(settings, origin), scratch, pairs=settings.pairs)
        command = _command(origin.api_url, settings.create_directory(f"{NAME}/last"))
        origin.process.send_signal(signal.SIGUSR1)
        if settings.profiler:
            result.profile = record_profile(command, scratch, settings.profiler, origin.environment)
        else:
            subprocess.run(  # noqa: S603 - to count its requests
                command, env={**os.environ, **origin.environment}, capture_output=True, check=False
            )
    result.command = tools.format_command(command)
    result.costs = [summarize_cost(program_runs) for program_runs in runs_by_name.values()]
    ours = runs_by_name["bulkdl"]
    result.metrics = [
        compare_speedup(ours, runs_by_name[name], least)
        for name, least in ((_UP42, 30), (_SEED, 3))
        if name in runs_by_name
    ]
    _compare_with_bounds(result, ours.median(lambda sample: sample.wall_s), origin.request_counts)
    return result


def _compare_with_bounds(result: RowResult, wall_s: float, request_counts: Mapping[str, int]) -> None:
    result.facts["requests of one run"] = ", ".join(
        f"{n} {name}" for name, n in sorted(request_counts.items())
    )
    work = Work.from_requests(request_counts, latency_s=_LATENCY_S)
    limits = compute_bounds(work)
    result.facts |= {f"lower bound, {name}": f"{seconds:.2f} s" for name, seconds in limits.items()}
    ratio = wall_s / max(limits.values())
    result.metrics.append(
        Metric("time / lower bound", f"{ratio:.2f}", f"≤ {_MAX_BOUND_RATIO}", ratio <= _MAX_BOUND_RATIO)
    )


def _command(api_url: str, folder: Path) -> list[str]:
    """Return the command with the default rate limit, which is one of the three lower bounds."""
    return [*tools.BULKDL, "run", "-o", str(folder), "--api-url", api_url]


def _create_programs(settings: BenchSettings, origin: DelayedServer) -> list[Program]:
    found = [
        Program(
            "bulkdl",
            partial(_command, origin.api_url),
            partial(_check_all_outputs, origin),
            origin.environment,
        )
    ]
    if settings.peer_python.exists():
        script = [str(settings.peer_python), str(REPOSITORY / "bench/peer_up42.py"), origin.api_url]
        env = {**origin.environment, "PYTHONPATH": str(REPOSITORY / "tests")}  # for support.point_client
        found.append(Program(_UP42, lambda folder: [*script, str(folder)], _check_up42_files, env))
    if settings.has_tool("curl") and settings.has_tool("jq"):
        seed = [str(REPOSITORY / "bench/seed_all.sh")]
        env = {"API": origin.api_url, "PROJ": origin.project_id, "PKEY": origin.api_key}
        found.append(Program(_SEED, lambda _: seed, partial(_check_seed_files, origin), env))
    return found


def _check_all_outputs(origin: DelayedServer, folder: Path) -> FileTotals:
    """Verify that all outputs of the account are present."""
    have = Counter(sha256(path.read_bytes()).hexdigest() for path in check.iter_files(folder))
    want = Counter(str(entry[-1]) for entry in origin.expected)
    if missing := want - have:
        raise VerificationError(f"{missing.total()} of {want.total()} outputs are missing")
    return FileTotals(want.total(), sum(int(entry[-2]) for entry in origin.expected))


def _check_seed_files(origin: DelayedServer, folder: Path) -> FileTotals:
    """Verify archives and quicklooks by content. Count GeoJSON files, because jq reformats them."""
    have = Counter(sha256(path.read_bytes()).hexdigest() for path in check.iter_files(folder))
    want = Counter(str(entry[-1]) for entry in origin.expected if entry[2] != "geojson")
    if missing := want - have:
        raise VerificationError(f"{missing.total()} of {want.total()} outputs are missing")
    documents = check.check_file_count(folder, ("_output.json",), _JOBS * (_TASKS + 1))
    return FileTotals(want.total() + documents.files, sum(int(entry[-2]) for entry in origin.expected))


def _check_up42_files(folder: Path) -> FileTotals:
    """It unpacks the archives of tasks: their documents and those of the jobs are counted."""
    check.check_file_count(folder, ("output.tgz", "output.zip", "output.tar"), _JOBS)
    return check.check_file_count(folder, ("_output.json",), _JOBS * (_TASKS + 1))
