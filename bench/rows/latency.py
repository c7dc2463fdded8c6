"""Row 4: all outputs of 40 jobs with three tasks, from a simulator that delays each response by 100 ms."""

from __future__ import annotations

from collections import Counter
from functools import partial
from hashlib import sha256
from pathlib import Path

from bench import check, tools
from bench.bound import Work, compare_with_bounds
from bench.delayed_server import DelayedServer, run_delayed_server
from bench.pairs import FileTotals, Program, VerificationError, run_in_pairs
from bench.result import RowResult, compare_speedup, summarize_cost
from bench.settings import REPOSITORY, BenchSettings

NAME = "latency"
TITLE = "40 jobs × 3 tasks, all outputs, 100 ms per response"
_JOBS, _TASKS, _LATENCY_S = 40, 3, 0.1
_UP42, _SEED = "up42-py 0.37.2", "a shell script (curl, jq, xargs -P16)"


def measure(settings: BenchSettings) -> RowResult:
    scratch = settings.create_directory(NAME)
    result = RowResult(NAME, TITLE)
    with run_delayed_server("--jobs", str(_JOBS), "--latency", str(_LATENCY_S)) as origin:
        runs_by_name = run_in_pairs(_create_programs(settings, origin), scratch, pairs=settings.pairs)
        command = _command(origin.api_url, settings.create_directory(f"{NAME}/last"))
        result.profile = origin.record_last_run(command, scratch, settings, origin.project_environment)
    result.command = tools.format_command(command)
    result.costs = [summarize_cost(program_runs) for program_runs in runs_by_name.values()]
    ours = runs_by_name["bulkdl"]
    result.metrics = [
        compare_speedup(ours, runs_by_name[name], least)
        for name, least in ((_UP42, 30), (_SEED, 3))
        if name in runs_by_name
    ]
    work = Work.from_requests(origin.request_counts, latency_s=_LATENCY_S)
    compare_with_bounds(result, ours, origin.request_counts, work)
    return result


def _command(api_url: str, folder: Path) -> list[str]:
    """Return the command with the default rate limit, which is one of the three lower bounds."""
    return [*tools.BULKDL, "run", "-o", str(folder), "--api-url", api_url]


def _create_programs(settings: BenchSettings, origin: DelayedServer) -> list[Program]:
    found = [
        Program(
            "bulkdl",
            partial(_command, origin.api_url),
            partial(_check_all_outputs, origin),
            origin.project_environment,
        )
    ]
    if settings.peer_python.exists():
        script = [str(settings.peer_python), str(REPOSITORY / "bench/peer_up42.py"), origin.api_url]
        env = {
            **origin.project_environment,
            "PYTHONPATH": str(REPOSITORY / "tests"),
        }  # for support.point_client
        found.append(Program(_UP42, lambda folder: [*script, str(folder)], _check_up42_files, env))
    if settings.has_tool("curl") and settings.has_tool("jq"):
        seed = [str(REPOSITORY / "bench/seed_all.sh")]
        env = {"API": origin.api_url, "PROJ": origin.project["id"], "PKEY": origin.project["api_key"]}
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
