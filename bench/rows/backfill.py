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
from bench.measure import Sample, Watch, timed
from bench.nginx import Nginx
from bench.pairs import Course, Tally
from bench.result import Mark, RowResult, bounded, cost, sample_facts
from bench.setting import Setting
from bench.site import Site
from bench.spy import profile

_TASKS, _QUICKLOOKS, _EACH = 3, 2, 10
_SUFFIXES = (".tar.gz", "_output.json", ".jpg")
_RERUN_OUTPUTS, _RERUN_S = 100_000, 5.0
_SETTLED_IN = 10_000
_FLAT_MIB, _RATE_KEPT = 20.0, 0.9


def first_run(setting: Setting) -> RowResult:
    """Measure row 8."""
    scratch = setting.fresh("backfill")
    result = RowResult("backfill", f"a first run over {setting.outputs:,} tiny outputs")
    watch = Watch()
    with _origin(scratch, setting.outputs) as origin:
        command, sample, tally = _fill(origin.http_url, scratch, setting.outputs, watch)
    result.command = tools.shown(command)
    result.costs = [cost(Course("bulkdl", [sample], tally))]
    _judge(result, list(_completions(scratch / "first.log")), watch, setting.outputs)
    if setting.profiler:
        result.profile = _profile(setting, scratch)
    shutil.rmtree(scratch / "tree")
    return result


def rerun(setting: Setting) -> RowResult:
    """Measure row 6."""
    scratch = setting.fresh("rerun")
    outputs = min(_RERUN_OUTPUTS, setting.outputs)
    result = RowResult(
        "rerun", f"a second run over {outputs:,} completed outputs in {outputs // _EACH:,} jobs"
    )
    with _origin(scratch, outputs) as origin:
        _, first, tally = _fill(origin.http_url, scratch, outputs)
    result.facts["first run"] = sample_facts(first)
    course = Course("bulkdl", tally=tally)
    with _origin(scratch, outputs, logged=True) as origin:
        command = tools.bulkdl("run", origin.http_url, scratch / "tree")
        for _ in range(setting.pairs):
            course.samples.append(timed(command, log=scratch / "again.log", env=tools.ENVIRONMENT))
            os.sync()
        if setting.profiler:
            result.profile = profile(command, scratch, setting.profiler, tools.ENVIRONMENT)
    runs = setting.pairs + bool(setting.profiler)
    asked = Counter(map(_endpoint, origin.requests_log.read_text().splitlines()))
    result.facts["requests of the second run"] = ", ".join(
        f"{n / runs:g} {name}" for name, n in asked.items()
    )
    result.command = tools.shown(command)
    result.costs = [cost(course)]
    others = sum(number for name, number in asked.items() if name not in ("job lists", "tokens"))
    result.marks = [
        bounded("time", course.median(lambda sample: sample.wall_s), _RERUN_S, "s"),
        Mark("requests other than job lists and tokens", str(others), "0", others == 0),
    ]
    shutil.rmtree(scratch / "tree")
    return result


def _origin(scratch: Path, outputs: int, *, logged: bool = False) -> Nginx:
    site = Site(scratch / "site", jobs=outputs // _EACH, tasks=_TASKS, quicklooks=_QUICKLOOKS)
    assert site.outputs == outputs, "ten outputs per job"  # noqa: S101
    site.write()
    return Nginx(scratch / "nginx", site.root, site.locations(), site.maps(), logged=logged)


def _fill(
    api_url: str, scratch: Path, outputs: int, watch: Watch | None = None
) -> tuple[list[str], Sample, Tally]:
    tree = scratch / "tree"
    command = tools.bulkdl("run", api_url, tree)
    sample = timed(command, log=scratch / "first.log", env=tools.ENVIRONMENT, watch=watch)
    os.sync()
    return command, sample, check.many(tree, _SUFFIXES, outputs)


def _profile(setting: Setting, scratch: Path) -> list[str]:
    with _origin(scratch, min(setting.outputs, 2 * _SETTLED_IN)) as origin:
        command = tools.bulkdl("run", origin.http_url, setting.fresh("backfill/profiled"))
        return profile(command, scratch, str(setting.profiler), tools.ENVIRONMENT)


def _endpoint(line: str) -> str:
    path = line.partition(" ")[2].partition("?")[0]
    if path.startswith("/bucket/"):
        return "archives"
    return {"jobs": "job lists", "token": "tokens", "tasks": "task lists"}.get(
        path.rsplit("/", 1)[-1], path.rsplit("/", 1)[-1]
    )


def _completions(log: Path) -> Iterator[float]:
    """Yield the Unix time at which each output was recorded."""
    with log.open() as lines:
        for line in lines:
            if '"transfer.completed"' in line:
                yield datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()


def _judge(result: RowResult, ended: list[float], watch: Watch, outputs: int) -> None:
    tenth = outputs // 10
    # Excludes the ramp-up at the start and the drain at the end.
    first, last = (ended[0], ended[tenth]), (ended[-1 - tenth], ended[-1])
    rates = [tenth / (until - since) for since, until in (first, last)]
    cpu_ms = [
        1000 * (watch.at(until).cpu_s - watch.at(since).cpu_s) / tenth for since, until in (first, last)
    ]
    early = watch.at(ended[min(_SETTLED_IN, outputs - 1)]).resident_bytes
    late = watch.at(ended[-1]).resident_bytes
    result.facts["outputs/s, first and last tenth"] = f"{rates[0]:,.0f} and {rates[1]:,.0f}"
    result.facts["outputs/s overall"] = f"{outputs / (ended[-1] - ended[0]):,.0f}"
    result.facts["CPU per output, first and last tenth"] = f"{cpu_ms[0]:.2f} and {cpu_ms[1]:.2f} ms"
    result.facts["memory after 10,000 outputs and at the end"] = f"{early >> 20} and {late >> 20} MiB"
    kept = rates[1] / rates[0]
    result.marks = [
        Mark("rate at the end / at the start", f"{kept:.2f}", f"≥ {_RATE_KEPT}", kept >= _RATE_KEPT),
        bounded("memory growth since output 10,000", (late - early) / (1 << 20), _FLAT_MIB, "MiB"),
    ]
