"""All files of 200 STAC items and their originals, from a simulator that delays each response by 100 ms."""

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

NAME = "latency-storage"
TITLE = "today's API: 200 items and their originals, 100 ms per response"
_ORIGINALS, _LATENCY_S = 113, 0.1  # with 200 items
_UP42 = "up42-py 4.3.0"
_MIN_SPEEDUP = 20


def measure(settings: BenchSettings) -> RowResult:
    scratch = settings.create_directory(NAME)
    result = RowResult(NAME, TITLE)
    with run_delayed_server("--assets", str(_ORIGINALS), "--latency", str(_LATENCY_S)) as origin:
        runs_by_name = run_in_pairs(_create_programs(settings, origin), scratch, pairs=settings.pairs)
        command = _command(origin.api_url, settings.create_directory(f"{NAME}/last"))
        result.profile = origin.record_last_run(command, scratch, settings, origin.account_environment)
    result.command = tools.format_command(command)
    result.costs = [summarize_cost(program_runs) for program_runs in runs_by_name.values()]
    ours = runs_by_name["bulkdl"]
    if _UP42 in runs_by_name:
        result.metrics = [compare_speedup(ours, runs_by_name[_UP42], _MIN_SPEEDUP)]
    work = Work.from_storage_requests(origin.request_counts, latency_s=_LATENCY_S)
    compare_with_bounds(result, ours, origin.request_counts, work)
    return result


def _command(api_url: str, folder: Path) -> list[str]:
    """Return the command with the default rate limit, which is one of the lower bounds."""
    return [*tools.BULKDL, "run", "--source", "storage", "-o", str(folder), "--api-url", api_url]


def _create_programs(settings: BenchSettings, origin: DelayedServer) -> list[Program]:
    environment = origin.account_environment
    found = [
        Program("bulkdl", partial(_command, origin.api_url), partial(_check_all_files, origin), environment)
    ]
    if settings.stac_python.exists():
        script = [str(settings.stac_python), str(REPOSITORY / "bench/peer_up42_stac.py"), origin.api_url]
        env = {**environment, "PYTHONPATH": str(REPOSITORY / "tests")}  # for support.peer_storage
        found.append(
            Program(_UP42, lambda folder: [*script, str(folder)], partial(_check_stac_files, origin), env)
        )
    return found


def _check_all_files(origin: DelayedServer, folder: Path) -> FileTotals:
    """Verify that each file of the account is present in each of its places."""
    return _check_files(folder, Counter({digest: places for _, places, _, digest in origin.expected}), origin)


def _check_stac_files(origin: DelayedServer, folder: Path) -> FileTotals:
    """Verify that each file of STAC is present. This client does not know other originals."""
    return _check_files(
        folder, Counter({digest: 1 for in_stac, _, _, digest in origin.expected if in_stac}), origin
    )


def _check_files(folder: Path, want: Counter[str], origin: DelayedServer) -> FileTotals:
    have = Counter(sha256(path.read_bytes()).hexdigest() for path in check.iter_files(folder))
    if missing := want - have:
        raise VerificationError(f"{missing.total()} of {want.total()} files are missing")
    sizes = {digest: size for _, _, size, digest in origin.expected}
    return FileTotals(len(want), sum(sizes[digest] for digest in want))
