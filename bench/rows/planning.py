"""Row 7: memory of a plan over 1,000 and over 100,000 jobs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bench import tools
from bench.measure import timed
from bench.nginx import Nginx
from bench.pairs import Course, Tally, Unverified
from bench.result import RowResult, bounded, cost
from bench.setting import Setting
from bench.site import Site
from bench.spy import profile

NAME = "plan"
TITLE = "plan over 1,000 and over 100,000 jobs"
_FEW, _MANY = 1_000, 100_000
_GROWTH_MIB, _MOST_MIB = 20.0, 150.0


def run(setting: Setting) -> RowResult:
    result = RowResult(NAME, TITLE)
    peaks = []
    for jobs in (_FEW, _MANY):
        scratch = setting.fresh(NAME)
        site = Site(scratch / "site", jobs=jobs, tasks=2, quicklooks=1)
        site.write()
        with Nginx(scratch / "nginx", site.root, site.locations(), site.maps()) as origin:
            command = tools.bulkdl("plan", origin.http_url, Path("out"), "--format", "json")
            result.command = tools.shown(command)
            course = Course(f"bulkdl, {jobs:,} jobs")
            course.samples.append(
                timed(command, log=scratch / "plan.log", env=tools.ENVIRONMENT, cwd=scratch)
            )
            course.tally = _planned(scratch / "plan.log.out", site)
            if setting.profiler and jobs == _FEW:
                result.profile = profile(command, scratch, setting.profiler, tools.ENVIRONMENT)
        result.costs.append(cost(course))
        peaks.append(course.samples[0].peak_bytes / (1 << 20))
        shutil.rmtree(scratch)
    result.marks = [
        bounded("growth of peak memory", peaks[1] - peaks[0], _GROWTH_MIB, "MiB"),
        bounded("peak memory", peaks[1], _MOST_MIB, "MiB"),
    ]
    return result


def _planned(path: Path, site: Site) -> Tally:
    text = path.read_text()
    found = json.loads(text)["jobs"]["seen"]
    if found != site.jobs:
        raise Unverified(f"{found} of {site.jobs} jobs")
    return Tally(site.outputs, 0)
