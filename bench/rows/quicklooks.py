"""Row 1: 10,000 quicklooks of 32 KiB, 100 per job."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from bench import check, tools
from bench.nginx import Nginx
from bench.pairs import Contender, race
from bench.result import RowResult, beside, cost
from bench.setting import Setting
from bench.site import PROJECT, Site, job_id, quicklook_name, task_id
from bench.spy import profile
from bench.tools import Link

NAME = "quicklooks"
TITLE = "10,000 quicklooks of 32 KiB, loopback"
_JOBS, _EACH, _BYTES = 100, 100, 32 << 10
_JPEG_START = b"\xff\xd8\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"  # start of image and of a scan
_JPEG_END = b"\xff\xd9"


def run(setting: Setting) -> RowResult:
    scratch = setting.fresh(NAME)
    site = Site(scratch / "site", jobs=_JOBS, quicklooks=_EACH)
    site.write()
    originals = pictures(site.root, _JOBS, _EACH)
    with Nginx(scratch / "nginx", site.root, site.locations(), site.maps()) as origin:
        contenders = _contenders(setting, origin.http_url, originals, scratch)
        courses = race(contenders, scratch, pairs=setting.pairs)
        result = RowResult(NAME, TITLE, tools.shown(_command(origin.http_url, Path("DIR"))))
        result.costs = [cost(course) for course in courses.values()]
        for peer, mark in (("aria2c -j32", 1.0), ("curl -Z", None)):
            if peer in courses:
                result.marks.append(beside(courses["bulkdl"], courses[peer], mark))
        for course in courses.values():
            if course.samples:
                rate = _JOBS * _EACH / course.median(lambda sample: sample.wall_s)
                result.facts[f"files/s of {course.name}"] = f"{rate:,.0f}"
        if setting.profiler:
            command = _command(origin.http_url, setting.fresh(f"{NAME}/profiled"))
            result.profile = profile(command, scratch, setting.profiler, tools.ENVIRONMENT)
    return result


def _command(api_url: str, folder: Path) -> list[str]:
    return tools.bulkdl("run", api_url, folder, "--only", "quicklook")


def pictures(root: Path, jobs: int, each: int) -> dict[tuple[int, int], Path]:
    """Create distinct files with the first and last bytes of a JPEG, by job and number."""
    found = {}
    for job in range(jobs):
        folder = root / f"quicklooks/{job:08x}"
        folder.mkdir(parents=True)
        for number in range(each):
            path = folder / quicklook_name(number)
            path.write_bytes(_picture())
            found[job, number] = path
    return found


def _picture() -> bytes:
    """Return a JPEG with the markers of a scan; its data are random and contain no marker."""
    data = os.urandom(_BYTES - len(_JPEG_START) - len(_JPEG_END)).replace(b"\xff", b"\x00")
    return _JPEG_START + data + _JPEG_END


def _contenders(
    setting: Setting, api_url: str, originals: dict[tuple[int, int], Path], scratch: Path
) -> list[Contender]:
    tree = {_key(job, number): path for (job, number), path in originals.items()}
    links = [Link(f"{api_url}/{_url_path(job, number)}", _key(job, number)) for job, number in originals]
    same = partial(check.same_bytes, expected=tree)
    found = [Contender("bulkdl", lambda folder: _command(api_url, folder), same, tools.ENVIRONMENT)]
    if setting.has("aria2c"):
        command = tools.aria2c(links, scratch / "aria2c.txt", "-j32")
        found.append(Contender("aria2c -j32", lambda _: command, same))
    if setting.has("curl"):
        many = tools.curl(links, scratch / "curl.txt", "--parallel-max", "32", "--create-dirs")
        found.append(Contender("curl -Z", lambda _: many, same))
    return found


def _key(job: int, number: int) -> str:
    """Return the path that bulkdl uses. All programs use it, because one large directory is slow."""
    return f"{PROJECT}/{job_id(job)}/{task_id(job, 0)}/quicklooks/{quicklook_name(number)}"


def _url_path(job: int, number: int) -> str:
    owner = f"projects/{PROJECT}/jobs/{job_id(job)}/tasks/{task_id(job, 0)}"
    return f"{owner}/outputs/quicklooks/{quicklook_name(number)}"
