"""Rows 2, 3 and 5: large archives over HTTP, over TLS, and from a server with a limit per connection."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bench import check, tools
from bench.measure import MIB
from bench.nginx import Nginx
from bench.pairs import Program, ProgramRuns, run_in_pairs
from bench.result import RowResult, compare_time, summarize_cost
from bench.settings import BenchSettings
from bench.site import PROJECT, Site, job_id
from bench.spy import record_profile
from bench.tools import Link

_SELECTION = ("--only", "archive", "--scope", "job")


def measure_plain(settings: BenchSettings) -> RowResult:
    """Measure row 2."""
    return _compare(
        settings,
        RowResult("archives", "3 archives of 256 MiB with x-goog-hash"),
        sizes=(256 * MIB,) * 3,
        peers={"curl -Z": 1.0, "aria2c -x4": 1.0, tools.PLAIN_AIOHTTP: None},
    )


def measure_tls(settings: BenchSettings) -> RowResult:
    """Measure row 3."""
    return _compare(
        settings,
        RowResult("tls", "3 archives of 256 MiB over TLS"),
        sizes=(256 * MIB,) * 3,
        peers={"curl -Z": 1.1, tools.PLAIN_AIOHTTP: None},
        secure=True,
    )


def measure_segments(settings: BenchSettings) -> RowResult:
    """Measure row 5."""
    return _compare(
        settings,
        RowResult("segments", "one archive of 200 MiB, 4 MB/s per connection"),
        sizes=(200 * MIB,),
        peers={"aria2c -x8 -s8": 1.0},
        rate="4000000",
        warm=False,
    )


def _compare(
    settings: BenchSettings,
    result: RowResult,
    *,
    sizes: tuple[int, ...],
    peers: Mapping[str, float | None],
    rate: str = "",
    secure: bool = False,
    warm: bool = True,
) -> RowResult:
    scratch = settings.create_directory(result.name)
    site = Site(scratch / "site", jobs=len(sizes), rate=rate)
    site.write()
    originals = [create_archive(site.root, number, size) for number, size in enumerate(sizes)]
    with Nginx(scratch / "nginx", site.root, site.locations(), site.maps()) as origin:
        api_url = origin.https_url if secure else origin.http_url
        trust = {"SSL_CERT_FILE": str(origin.certificate)} if secure else {}
        ours = _bulkdl(api_url, originals, {**tools.ENVIRONMENT, **trust})
        others = _create_peers(
            settings, peers, api_url, originals, origin.certificate if secure else None, scratch
        )
        runs_by_name = run_in_pairs([ours, *others], scratch, pairs=settings.pairs, warm_up=warm)
        if settings.profiler and not rate:
            command = ours.command(settings.create_directory(f"{result.name}/profiled"))
            result.profile = record_profile(command, scratch, settings.profiler, ours.env)
    result.command = tools.format_command(ours.command(Path("DIR")))
    result.costs = [summarize_cost(program_runs) for program_runs in runs_by_name.values()]
    result.metrics = [
        compare_time(runs_by_name["bulkdl"], runs_by_name[name], peers[name])
        for name in peers
        if name in runs_by_name
    ]
    result.facts = {
        f"MB/s of {name}": _format_speed(program_runs, sum(sizes))
        for name, program_runs in runs_by_name.items()
    }
    return result


def _format_speed(program_runs: ProgramRuns, size_bytes: int) -> str:
    if not program_runs.samples:
        return "–"
    return f"{size_bytes / program_runs.median(lambda sample: sample.wall_s) / 1e6:,.0f}"


def create_archive(root: Path, number: int, size_bytes: int) -> Path:
    """Create a tar file of exactly *size_bytes* with one incompressible member."""
    path = root / f"archives/{number:08x}-0.tgz"
    member = tarfile.TarInfo(f"output/{number}.tif")
    member.size = size_bytes - 3 * tarfile.BLOCKSIZE
    with path.open("wb") as stream:
        stream.write(member.tobuf())
        for _ in range(member.size // MIB):
            stream.write(os.urandom(MIB))
        stream.write(os.urandom(member.size % MIB))
        stream.seek(size_bytes - 1, io.SEEK_SET)
        stream.write(b"\0")
    return path


def _bulkdl(api_url: str, originals: list[Path], env: Mapping[str, str]) -> Program:
    tree = {f"{PROJECT}/{job_id(number)}/final_output.tar": path for number, path in enumerate(originals)}
    return Program(
        "bulkdl",
        lambda folder: tools.bulkdl("run", api_url, folder, *_SELECTION),
        partial(check.check_same_bytes, expected=tree),
        env,
    )


def _create_peers(
    settings: BenchSettings,
    names: Mapping[str, float | None],
    api_url: str,
    originals: list[Path],
    certificate: Path | None,
    scratch: Path,
) -> list[Program]:
    links = [
        Link(f"{api_url}/bucket/{number:08x}/0/output.tgz", f"{number}.tar")
        for number in range(len(originals))
    ]
    same = partial(
        check.check_same_bytes, expected={f"{number}.tar": path for number, path in enumerate(originals)}
    )
    found = []
    for name in names:
        if name == tools.PLAIN_AIOHTTP:
            env = {"SSL_CERT_FILE": str(certificate)} if certificate else {}
            command = tools.plain_aiohttp(links, scratch / "aiohttp.txt")
            found.append(Program(name, partial(_return_command, command), same, env))
        elif settings.has_tool(name.split()[0]):
            command = _command(name, links, scratch, certificate)
            found.append(Program(name, partial(_return_command, command), same))
    return found


def _command(name: str, links: list[Link], scratch: Path, certificate: Path | None) -> list[str]:
    program, *options = name.split()
    more = [option for option in options if option != "-Z"]
    if program == "aria2c":
        trust = [f"--ca-certificate={certificate}"] if certificate else []
        return tools.aria2c(links, scratch / "aria2c.txt", *more, *trust)
    trust = ["--cacert", str(certificate)] if certificate else []
    return tools.curl(links, scratch / "curl.txt", *more, *trust)


def _return_command(command: list[str], _folder: Path) -> list[str]:
    return command
