"""Row 7: memory of a plan over 1,000 and over 100,000 jobs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bench import tools
from bench.measure import MIB, run_measured
from bench.nginx import Nginx
from bench.pairs import FileTotals, ProgramRuns, VerificationError
from bench.result import RowResult, check_limit, summarize_cost
from bench.settings import BenchSettings
from bench.site import Site
from bench.spy import record_profile

NAME = "plan"
TITLE = "plan over 1,000 and over 100,000 jobs"
_FEW, _MANY = 1_000, 100_000
_GROWTH_MIB, _MOST_MIB = 20.0, 150.0


def measure(settings: BenchSettings) -> RowResult:
    result = RowResult(NAME, TITLE)
    peaks = []
    for jobs in (_FEW, _MANY):
        scratch = settings.create_directory(NAME)
        site = Site(scratch / "site", jobs=jobs, tasks=2, quicklooks=1)
        site.write()
        with Nginx(scratch / "nginx", site.root, site.locations(), site.maps()) as origin:
            command = tools.bulkdl("plan", origin.http_url, Path("out"), "--format", "json")
            result.command = tools.format_command(command)
            program_runs = ProgramRuns(f"bulkdl, {jobs:,} jobs")
            program_runs.samples.append(
                run_measured(command, log=scratch / "plan.log", env=tools.ENVIRONMENT, cwd=scratch)
            )
            program_runs.totals = _check_plan(scratch / "plan.log.out", site)
            if settings.profiler and jobs == _FEW:
                result.profile = record_profile(command, scratch, settings.profiler, tools.ENVIRONMENT)
        result.costs.append(summarize_cost(program_runs))
        peaks.append(program_runs.samples[0].peak_bytes / MIB)
        shutil.rmtree(scratch)
    result.metrics = [
        check_limit("growth of peak memory", peaks[1] - peaks[0], _GROWTH_MIB, "MiB"),
        check_limit("peak memory", peaks[1], _MOST_MIB, "MiB"),
    ]
    return result


def _check_plan(path: Path, site: Site) -> FileTotals:
    text = path.read_text()
    found = json.loads(text)["containers"]["seen"]
    if found != site.jobs:
        raise VerificationError(f"{found} of {site.jobs} jobs")
    return FileTotals(site.outputs, 0)
