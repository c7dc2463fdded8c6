"""Row 11: memory of a plan over the deliveries of an account, with a million item assets in the large one."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import tools
from bench.measure import MIB, run_measured
from bench.pairs import FileTotals, ProgramRuns, VerificationError
from bench.result import RowResult, check_limit, summarize_cost
from bench.settings import BenchSettings

NAME = "account"
TITLE = "plan over 6,000 and over 300,000 assets of an account"
_FEW, _MANY = 6_000, 300_000
_GROWTH_MIB, _MOST_MIB = 20.0, 200.0
_ITEM_ASSETS_OF_MANY = 1_000_000
# One item for each delivery. The deliveries without items of their own leave 3.5 assets on average.
_SHAPE = ("--items", "1", "--item-assets", "4")


def measure(settings: BenchSettings) -> RowResult:
    result = RowResult(NAME, TITLE)
    peaks = []
    for assets in (_FEW, _MANY):
        scratch = settings.create_directory(NAME)
        with _run_simulator(assets) as (api_url, environment):
            command = tools.bulkdl("plan", api_url, Path("out"), "--format", "json", "--source", "storage")
            result.command = tools.format_command(command)
            program_runs = ProgramRuns(f"bulkdl, {assets:,} assets")
            program_runs.samples.append(
                run_measured(command, log=scratch / "plan.log", env=environment, cwd=scratch)
            )
            program_runs.totals = _check_plan(scratch / "plan.log.out", assets)
        result.costs.append(summarize_cost(program_runs))
        peaks.append(program_runs.samples[0].peak_bytes / MIB)
        shutil.rmtree(scratch)
    result.metrics = [
        check_limit("growth of peak memory", peaks[1] - peaks[0], _GROWTH_MIB, "MiB"),
        check_limit("peak memory", peaks[1], _MOST_MIB, "MiB"),
    ]
    return result


@contextmanager
def _run_simulator(assets: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the URL of a simulator with *assets* originals, and the credentials of its account."""
    command = [*tools.BULKDL, "simulate", "--assets", str(assets), *_SHAPE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        try:
            assert process.stdout is not None  # noqa: S101 - for the type checker
            line: dict[str, Any] = json.loads(process.stdout.readline())
            account = line["account"]
            environment = {"UP42_USERNAME": account["username"], "UP42_PASSWORD": account["password"]}
            yield line["api_url"], environment
        finally:
            process.terminate()


def _check_plan(path: Path, assets: int) -> FileTotals:
    document = json.loads(path.read_text())
    found: dict[str, int] = document["to_download"]
    outputs = sum(found.values())
    if document["exit_code"] != 0 or found["original"] < assets:
        raise VerificationError(f"{found['original']} of {assets} originals")
    if assets == _MANY and outputs - found["original"] < _ITEM_ASSETS_OF_MANY:
        raise VerificationError(f"{outputs - found['original']} of {_ITEM_ASSETS_OF_MANY} item assets")
    return FileTotals(outputs, 0)
