"""Row 1: 10,000 quicklooks of 32 KiB, 100 per job."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from bench import check, tools
from bench.nginx import Nginx
from bench.pairs import Program, run_in_pairs
from bench.result import RowResult, compare_time, summarize_cost
from bench.settings import BenchSettings
from bench.site import PROJECT, Site, job_id, quicklook_name, task_id
from bench.spy import record_profile
from bench.tools import Link

NAME = "quicklooks"
TITLE = "10,000 quicklooks of 32 KiB, loopback"
_JOBS, _EACH, _BYTES = 100, 100, 32 << 10
_JPEG_START = b"\xff\xd8\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"  # start of image and of a scan
_JPEG_END = b"\xff\xd9"


def measure(settings: BenchSettings) -> RowResult:
    scratch = settings.create_directory(NAME)
    site = Site(scratch / "site", jobs=_JOBS, quicklooks=_EACH)
    site.write()
    originals = create_pictures(site.root, _JOBS, _EACH)
    with Nginx(scratch / "nginx", site.root, site.locations(), site.maps()) as origin:
        programs = _create_programs(settings, origin.http_url, originals, scratch)
        runs_by_name = run_in_pairs(programs, scratch, pairs=settings.pairs)
        result = RowResult(NAME, TITLE, tools.format_command(_command(origin.http_url, Path("DIR"))))
        result.costs = [summarize_cost(program_runs) for program_runs in runs_by_name.values()]
        for peer, metric in (("aria2c -j32", 1.0), ("curl -Z", None)):
            if peer in runs_by_name:
                result.metrics.append(compare_time(runs_by_name["bulkdl"], runs_by_name[peer], metric))
        for program_runs in runs_by_name.values():
            if program_runs.samples:
                rate = _JOBS * _EACH / program_runs.median(lambda sample: sample.wall_s)
                result.facts[f"files/s of {program_runs.name}"] = f"{rate:,.0f}"
        if settings.profiler:
            command = _command(origin.http_url, settings.create_directory(f"{NAME}/profiled"))
            result.profile = record_profile(command, scratch, settings.profiler, tools.ENVIRONMENT)
    return result


def _command(api_url: str, folder: Path) -> list[str]:
    return tools.bulkdl("run", api_url, folder, "--only", "quicklook")


def create_pictures(root: Path, jobs: int, each: int) -> dict[tuple[int, int], Path]:
    """Create distinct files with the first and last bytes of a JPEG, by job and number."""
    found = {}
    for job in range(jobs):
        folder = root / f"quicklooks/{job:08x}"
        folder.mkdir(parents=True)
        for number in range(each):
            path = folder / quicklook_name(number)
            path.write_bytes(_random_jpeg())
            found[job, number] = path
    return found


def _random_jpeg() -> bytes:
    """Return a JPEG with the markers of a scan; its data are random and contain no marker."""
    data = os.urandom(_BYTES - len(_JPEG_START) - len(_JPEG_END)).replace(b"\xff", b"\x00")
    return _JPEG_START + data + _JPEG_END


def _create_programs(
    settings: BenchSettings, api_url: str, originals: dict[tuple[int, int], Path], scratch: Path
) -> list[Program]:
    tree = {_key(job, number): path for (job, number), path in originals.items()}
    links = [Link(f"{api_url}/{_url_path(job, number)}", _key(job, number)) for job, number in originals]
    same = partial(check.check_same_bytes, expected=tree)
    found = [Program("bulkdl", lambda folder: _command(api_url, folder), same, tools.ENVIRONMENT)]
    if settings.has_tool("aria2c"):
        command = tools.aria2c(links, scratch / "aria2c.txt", "-j32")
        found.append(Program("aria2c -j32", lambda _: command, same))
    if settings.has_tool("curl"):
        many = tools.curl(links, scratch / "curl.txt", "--parallel-max", "32", "--create-dirs")
        found.append(Program("curl -Z", lambda _: many, same))
    return found


def _key(job: int, number: int) -> str:
    """Return the path that bulkdl uses. All programs use it, because one large directory is slow."""
    return f"{PROJECT}/{job_id(job)}/{task_id(job, 0)}/quicklooks/{quicklook_name(number)}"


def _url_path(job: int, number: int) -> str:
    owner = f"projects/{PROJECT}/jobs/{job_id(job)}/tasks/{task_id(job, 0)}"
    return f"{owner}/outputs/quicklooks/{quicklook_name(number)}"
