"""Rows 2, 3 and 5: large archives over HTTP, over TLS, and from a server with a limit per connection."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bench import check, tools
from bench.nginx import Nginx
from bench.pairs import Contender, Course, race
from bench.result import RowResult, beside, cost
from bench.setting import Setting
from bench.site import PROJECT, Site, job_id
from bench.spy import profile
from bench.tools import Link

_MIB = 1 << 20
_ONLY = ("--only", "archive", "--scope", "job")


def plain(setting: Setting) -> RowResult:
    """Measure row 2."""
    return _compare(
        setting,
        RowResult("archives", "3 archives of 256 MiB with x-goog-hash"),
        sizes=(256 * _MIB,) * 3,
        peers={"curl -Z": 1.0, "aria2c -x4": 1.0, tools.BARE: None},
    )


def over_tls(setting: Setting) -> RowResult:
    """Measure row 3."""
    return _compare(
        setting,
        RowResult("tls", "3 archives of 256 MiB over TLS"),
        sizes=(256 * _MIB,) * 3,
        peers={"curl -Z": 1.1, tools.BARE: None},
        secure=True,
    )


def slow_origin(setting: Setting) -> RowResult:
    """Measure row 5."""
    return _compare(
        setting,
        RowResult("segments", "one archive of 200 MiB, 4 MB/s per connection"),
        sizes=(200 * _MIB,),
        peers={"aria2c -x8 -s8": 1.0},
        rate="4000000",
        warm=False,
    )


def _compare(
    setting: Setting,
    result: RowResult,
    *,
    sizes: tuple[int, ...],
    peers: Mapping[str, float | None],
    rate: str = "",
    secure: bool = False,
    warm: bool = True,
) -> RowResult:
    scratch = setting.fresh(result.name)
    site = Site(scratch / "site", jobs=len(sizes), rate=rate)
    site.write()
    originals = [_archive(site.root, number, size) for number, size in enumerate(sizes)]
    with Nginx(scratch / "nginx", site.root, site.locations(), site.maps()) as origin:
        api_url = origin.https_url if secure else origin.http_url
        trust = {"SSL_CERT_FILE": str(origin.certificate)} if secure else {}
        ours = _bulkdl(api_url, originals, {**tools.ENVIRONMENT, **trust})
        others = _peers(setting, peers, api_url, originals, origin.certificate if secure else None, scratch)
        courses = race([ours, *others], scratch, pairs=setting.pairs, warm=warm)
        if setting.profiler and not rate:
            command = ours.command(setting.fresh(f"{result.name}/profiled"))
            result.profile = profile(command, scratch, setting.profiler, ours.env)
    result.command = tools.shown(ours.command(Path("DIR")))
    result.costs = [cost(course) for course in courses.values()]
    result.marks = [
        beside(courses["bulkdl"], courses[name], peers[name]) for name in peers if name in courses
    ]
    result.facts = {f"MB/s of {name}": _speed(course, sum(sizes)) for name, course in courses.items()}
    return result


def _speed(course: Course, size_bytes: int) -> str:
    if not course.samples:
        return "–"
    return f"{size_bytes / course.median(lambda sample: sample.wall_s) / 1e6:,.0f}"


def _archive(root: Path, number: int, size_bytes: int) -> Path:
    """Create a tar file of exactly *size_bytes* with one incompressible member."""
    path = root / f"archives/{number:08x}-0.tgz"
    member = tarfile.TarInfo(f"output/{number}.tif")
    member.size = size_bytes - 3 * tarfile.BLOCKSIZE
    with path.open("wb") as stream:
        stream.write(member.tobuf())
        for _ in range(member.size // _MIB):
            stream.write(os.urandom(_MIB))
        stream.write(os.urandom(member.size % _MIB))
        stream.seek(size_bytes - 1, io.SEEK_SET)
        stream.write(b"\0")
    return path


def _bulkdl(api_url: str, originals: list[Path], env: Mapping[str, str]) -> Contender:
    tree = {f"{PROJECT}/{job_id(number)}/final_output.tar": path for number, path in enumerate(originals)}
    return Contender(
        "bulkdl",
        lambda folder: tools.bulkdl("run", api_url, folder, *_ONLY),
        partial(check.same_bytes, expected=tree),
        env,
    )


def _peers(
    setting: Setting,
    names: Mapping[str, float | None],
    api_url: str,
    originals: list[Path],
    certificate: Path | None,
    scratch: Path,
) -> list[Contender]:
    links = [
        Link(f"{api_url}/bucket/{number:08x}/0/output.tgz", f"{number}.tar")
        for number in range(len(originals))
    ]
    same = partial(
        check.same_bytes, expected={f"{number}.tar": path for number, path in enumerate(originals)}
    )
    found = []
    for name in names:
        if name == tools.BARE:
            env = {"SSL_CERT_FILE": str(certificate)} if certificate else {}
            command = tools.bare_aiohttp(links, scratch / "aiohttp.txt")
            found.append(Contender(name, partial(_always, command), same, env))
        elif setting.has(name.split()[0]):
            command = _command(name, links, scratch, certificate)
            found.append(Contender(name, partial(_always, command), same))
    return found


def _command(name: str, links: list[Link], scratch: Path, certificate: Path | None) -> list[str]:
    program, *options = name.split()
    more = [option for option in options if option != "-Z"]
    if program == "aria2c":
        trust = [f"--ca-certificate={certificate}"] if certificate else []
        return tools.aria2c(links, scratch / "aria2c.txt", *more, *trust)
    trust = ["--cacert", str(certificate)] if certificate else []
    return tools.curl(links, scratch / "curl.txt", *more, *trust)


def _always(command: list[str], _folder: Path) -> list[str]:
    return command
