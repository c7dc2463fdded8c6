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
from bench.bound import Work, bound
from bench.pairs import Contender, Tally, Unverified, race
from bench.result import Mark, RowResult, cost, faster
from bench.setting import REPOSITORY, Setting
from bench.spy import profile

NAME = "latency"
TITLE = "40 jobs × 3 tasks, all outputs, 100 ms per response"
_JOBS, _TASKS, _LATENCY_S = 40, 3, 0.1
_UP42, _SEED = "up42-py 0.37.2", "a shell script (curl, jq, xargs -P16)"
_NEAR = 1.25


@dataclass(slots=True)
class Delayed:
    """The simulator process. *asked* is filled after it has exited."""

    api_url: str
    project_id: str
    api_key: str
    expected: list[list[Any]]
    process: subprocess.Popen[str]
    asked: Counter[str] = field(default_factory=Counter)

    @property
    def environment(self) -> dict[str, str]:
        return {"UP42_PROJECT_ID": self.project_id, "UP42_PROJECT_API_KEY": self.api_key}


@contextmanager
def delayed() -> Iterator[Delayed]:
    command = [sys.executable, "-m", "bench.delayed", "--jobs", str(_JOBS), "--latency", str(_LATENCY_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101 - stdout is a pipe
        line = json.loads(process.stdout.readline())
        key = line["projects"][0]
        origin = Delayed(line["api_url"], key["id"], key["api_key"], line["expected"], process)
        try:
            yield origin
        finally:
            process.terminate()
            origin.asked = Counter(json.loads(process.stdout.readline() or "{}"))


def run(setting: Setting) -> RowResult:
    scratch = setting.fresh(NAME)
    result = RowResult(NAME, TITLE)
    with delayed() as origin:
        courses = race(_contenders(setting, origin), scratch, pairs=setting.pairs)
        command = _command(origin.api_url, setting.fresh(f"{NAME}/last"))
        origin.process.send_signal(signal.SIGUSR1)
        if setting.profiler:
            result.profile = profile(command, scratch, setting.profiler, origin.environment)
        else:
            subprocess.run(  # noqa: S603 - to count its requests
                command, env={**os.environ, **origin.environment}, capture_output=True, check=False
            )
    result.command = tools.shown(command)
    result.costs = [cost(course) for course in courses.values()]
    ours = courses["bulkdl"]
    result.marks = [
        faster(ours, courses[name], least) for name, least in ((_UP42, 30), (_SEED, 3)) if name in courses
    ]
    _hold_against_bound(result, ours.median(lambda sample: sample.wall_s), origin.asked)
    return result


def _hold_against_bound(result: RowResult, wall_s: float, asked: Mapping[str, int]) -> None:
    result.facts["requests of one run"] = ", ".join(f"{n} {name}" for name, n in sorted(asked.items()))
    work = Work.of(asked, latency_s=_LATENCY_S)
    limits = bound(work)
    result.facts |= {f"lower bound, {name}": f"{seconds:.2f} s" for name, seconds in limits.items()}
    ratio = wall_s / max(limits.values())
    result.marks.append(Mark("time / lower bound", f"{ratio:.2f}", f"≤ {_NEAR}", ratio <= _NEAR))


def _command(api_url: str, folder: Path) -> list[str]:
    """Return the command with the default rate limit, which is one of the three lower bounds."""
    return [*tools.BULKDL, "run", "-o", str(folder), "--api-url", api_url]


def _contenders(setting: Setting, origin: Delayed) -> list[Contender]:
    found = [
        Contender("bulkdl", partial(_command, origin.api_url), partial(_whole, origin), origin.environment)
    ]
    if setting.peer_python.exists():
        script = [str(setting.peer_python), str(REPOSITORY / "bench/peer_up42.py"), origin.api_url]
        env = {**origin.environment, "PYTHONPATH": str(REPOSITORY / "tests")}  # for support.point_client
        found.append(Contender(_UP42, lambda folder: [*script, str(folder)], _up42_files, env))
    if setting.has("curl") and setting.has("jq"):
        seed = [str(REPOSITORY / "bench/seed_all.sh")]
        env = {"API": origin.api_url, "PROJ": origin.project_id, "PKEY": origin.api_key}
        found.append(Contender(_SEED, lambda _: seed, partial(_seed_files, origin), env))
    return found


def _whole(origin: Delayed, folder: Path) -> Tally:
    """Verify that all outputs of the account are present."""
    have = Counter(sha256(path.read_bytes()).hexdigest() for path in check.files_below(folder))
    want = Counter(str(entry[-1]) for entry in origin.expected)
    if missing := want - have:
        raise Unverified(f"{missing.total()} of {want.total()} outputs are missing")
    return Tally(want.total(), sum(int(entry[-2]) for entry in origin.expected))


def _seed_files(origin: Delayed, folder: Path) -> Tally:
    """Verify archives and quicklooks by content. Count GeoJSON files, because jq reformats them."""
    have = Counter(sha256(path.read_bytes()).hexdigest() for path in check.files_below(folder))
    want = Counter(str(entry[-1]) for entry in origin.expected if entry[2] != "geojson")
    if missing := want - have:
        raise Unverified(f"{missing.total()} of {want.total()} outputs are missing")
    documents = check.many(folder, ("_output.json",), _JOBS * (_TASKS + 1))
    return Tally(want.total() + documents.files, sum(int(entry[-2]) for entry in origin.expected))


def _up42_files(folder: Path) -> Tally:
    """It unpacks the archives of tasks: their documents and those of the jobs are counted."""
    check.many(folder, ("output.tgz", "output.zip", "output.tar"), _JOBS)
    return check.many(folder, ("_output.json",), _JOBS * (_TASKS + 1))
