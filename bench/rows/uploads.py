"""Uploads to SeaweedFS, an object store with the API of S3, on this machine."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench import tools
from bench.measure import MIB, run_measured
from bench.nginx import Nginx
from bench.pairs import FileTotals, Program, ProgramRuns, VerificationError, run_in_pairs
from bench.result import Metric, RowResult, check_limit, compare_time, format_sample, summarize_cost
from bench.rows.archives import create_archive
from bench.settings import REPOSITORY, BenchSettings
from bench.site import PROJECT, Site, crc32c_of, job_id

_BUCKET = "bench"
_PROGRAMS = REPOSITORY / ".venv-uploads/bin"
_LARGE_BYTES, _SMALL_FILES, _SMALL_BYTES = 1024 * MIB, 2000, 32 << 10
_MAX_LAG_MS, _MEMORY_MIB, _RERUN_S = 25.0, 256 + 60, 10.0
_RUN_ARCHIVES, _RUN_ARCHIVE_BYTES = 8, 128 * MIB


def measure_large(settings: BenchSettings) -> RowResult:
    """Compare the upload of one file of 1 GiB."""
    result = RowResult("upload-large", "upload of a file of 1 GiB to SeaweedFS")
    return _compare_programs(settings, result, {"file": settings.scaled(_LARGE_BYTES)}, (1.1, 0.9), None)


def measure_small(settings: BenchSettings) -> RowResult:
    """Compare the upload of 2,000 files of 32 KiB."""
    result = RowResult("upload-small", "upload of 2,000 files of 32 KiB to SeaweedFS")
    files = {f"{number:04}.bin": _SMALL_BYTES for number in range(settings.scaled(_SMALL_FILES))}
    return _compare_programs(settings, result, files, (1.2, None), 1.0)


def _compare_programs(
    settings: BenchSettings,
    result: RowResult,
    sizes: Mapping[str, int],
    at_most: tuple[float, float | None],
    at_most_cpu: float | None,
) -> RowResult:
    scratch = settings.create_directory(result.name)
    folder = scratch / "files"
    _write_files(folder, sizes)
    with _open_store(scratch) as server:
        env = server.env()
        check = partial(_check_objects, env, totals=FileTotals(len(sizes), sum(sizes.values())))
        script = (sys.executable, str(REPOSITORY / "bench/upload_files.py"), str(folder))
        programs = [Program("bulkdl", lambda out: [*script, _url(out)], check, env)]
        programs += _create_peers(folder, server.url, check, env)
        runs = run_in_pairs(programs, scratch, pairs=settings.pairs)
    ours = runs["bulkdl"]
    result.costs = [summarize_cost(program_runs) for program_runs in runs.values()]
    result.metrics = [
        compare_time(ours, runs[name], limit)
        for name, limit in zip(("s5cmd", "rclone"), at_most, strict=True)
        if name in runs
    ]
    if "s5cmd" in runs and at_most_cpu is not None:
        result.metrics.append(_compare_cpu(ours, runs["s5cmd"], at_most_cpu))
    if not ours.error:
        lag = json.loads((scratch / "bulkdl.log.out").read_text())
        result.metrics.append(check_limit("p99 lag of the event loop", lag["p99_ms"], _MAX_LAG_MS, "ms"))
        result.facts["maximum lag of the event loop"] = f"{lag['max_ms']:.0f} ms"
    result.command = "python upload_files.py FOLDER s3://BUCKET/PREFIX"
    return result


def _write_files(folder: Path, sizes: Mapping[str, int]) -> None:
    folder.mkdir()
    for name, size_bytes in sizes.items():
        with (folder / name).open("wb") as stream:
            for start in range(0, size_bytes, MIB):
                stream.write(os.urandom(min(MIB, size_bytes - start)))
    digests = {name: crc32c_of(folder / name) for name in sizes}
    folder.with_suffix(".json").write_text(json.dumps(digests))


def _create_peers(
    folder: Path, url: str, check: Callable[[Path], FileTotals], env: Mapping[str, str]
) -> Iterator[Program]:
    if (_PROGRAMS / "s5cmd").exists():
        s5cmd = (str(_PROGRAMS / "s5cmd"), "--log", "error", "--endpoint-url", url, "cp", f"{folder}/*")
        yield Program("s5cmd", lambda out: [*s5cmd, f"{_url(out)}/"], check, env)
    if (_PROGRAMS / "rclone").exists():
        remote = f":s3,provider=SeaweedFS,env_auth=true,no_check_bucket=true,endpoint='{url}':"
        rclone = (str(_PROGRAMS / "rclone"), "copy", "--config", "", "--transfers", "32", str(folder))
        yield Program("rclone", lambda out: [*rclone, f"{remote}{_BUCKET}/{out.name}"], check, env)


def _compare_cpu(ours: ProgramRuns, theirs: ProgramRuns, at_most: float) -> Metric:
    ratios = [mine.cpu_s / other.cpu_s for mine, other in zip(ours.samples, theirs.samples, strict=False)]
    if not ratios:
        return Metric(f"CPU time / {theirs.name}", "not measured", f"≤ {at_most:g}", None)
    middle = statistics.median(ratios)
    spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
    return Metric(f"CPU time / {theirs.name}", f"{middle:.2f}", f"≤ {at_most:g}", middle <= at_most, spread)


def measure_run(settings: BenchSettings) -> RowResult:
    """Compare a run into a bucket with the same run into a directory, and their memory."""
    size_bytes = settings.scaled(_RUN_ARCHIVE_BYTES)
    result = RowResult("upload-run", f"a run over 8 archives of {size_bytes // MIB} MiB into SeaweedFS")
    scratch = settings.create_directory(result.name)
    site = Site(scratch / "site", jobs=_RUN_ARCHIVES)
    site.write()
    for number in range(_RUN_ARCHIVES):
        create_archive(site.root, number, size_bytes)
    totals = FileTotals(_RUN_ARCHIVES, _RUN_ARCHIVES * size_bytes)
    more = ("--only", "archive", "--scope", "job", "--archive-concurrency", str(_RUN_ARCHIVES))
    with (
        Nginx(scratch / "nginx", site.root, site.locations(), site.maps()) as origin,
        _open_store(scratch) as server,
    ):
        env = {**tools.ENVIRONMENT, **server.env()}

        def run_into_bucket(out: Path) -> list[str]:
            command = tools.bulkdl("run", origin.http_url, out, *more, "--state", str(out / "state"))
            return [_url(out) if word == str(out) else word for word in command]

        bucket = Program("bulkdl", run_into_bucket, partial(_check_objects, env, totals=totals), env)
        directory = Program(
            "bulkdl into a directory",
            lambda out: tools.bulkdl("run", origin.http_url, out, *more),
            partial(_check_archives, totals=totals),
            env,
        )
        runs = run_in_pairs([bucket, directory], scratch, pairs=settings.pairs)
    ours, local = runs["bulkdl"], runs["bulkdl into a directory"]
    result.costs = [summarize_cost(ours), summarize_cost(local)]
    result.metrics = [compare_time(ours, local, 1.3)]
    if ours.samples and local.samples:
        more_bytes = _peak(ours) - _peak(local)
        result.metrics.append(check_limit("additional peak memory", more_bytes / MIB, _MEMORY_MIB, "MiB"))
    result.command = tools.format_command(tools.bulkdl("run", "ORIGIN", Path("s3:/BUCKET"), *more))
    return result


def measure_rerun(settings: BenchSettings) -> RowResult:
    """Measure a second run over completed outputs in a bucket, and its requests to the bucket."""
    outputs = min(100_000, settings.outputs)
    result = RowResult("upload-rerun", f"a second run over {outputs:,} completed outputs in SeaweedFS")
    scratch = settings.create_directory(result.name)
    site = Site(scratch / "site", jobs=outputs // 10, tasks=3, quicklooks=2)
    site.write()
    runs = ProgramRuns("bulkdl")
    with (
        Nginx(scratch / "nginx", site.root, site.locations(), site.maps()) as origin,
        _open_store(scratch) as server,
    ):
        state = scratch / "state"
        command = [*tools.bulkdl("run", origin.http_url, scratch, "--state", str(state))]
        command[command.index("-o") + 1] = f"s3://{_BUCKET}/rerun"
        env = {**tools.ENVIRONMENT, **server.env()}
        first = run_measured(command, log=scratch / "first.log", env=env)
        result.facts["first run"] = format_sample(first)
        if first.exit_code:
            raise VerificationError(
                f"exit code {first.exit_code}: {(scratch / 'first.log').read_text()[-400:]}"
            )
        for _ in range(settings.pairs):
            runs.samples.append(run_measured(command, log=scratch / "again.log", env=env))
        from support.s3_proxy import run_s3_proxy  # noqa: PLC0415 - _open_store has set the path

        with run_s3_proxy(server.url) as proxy:
            run_measured(command, log=scratch / "again.log", env={**env, "AWS_ENDPOINT_URL": proxy.url})
        paths = [path for _, path in proxy.requests]
    # The state of the run is below the same prefix, and its requests do not depend on the outputs.
    of_outputs = [path for path in paths if path.startswith(f"/{_BUCKET}/rerun/") and "/.bulkdl/" not in path]
    result.facts["requests to the bucket"] = str(len(paths))
    result.costs = [summarize_cost(runs)]
    result.metrics = [
        check_limit("time", runs.median(lambda sample: sample.wall_s), _RERUN_S, "s"),
        Metric("requests for outputs", str(len(of_outputs)), "0", not of_outputs),
    ]
    result.command = "bulkdl run -o s3://BUCKET/PREFIX --state DIR"
    return result


def _peak(runs: ProgramRuns) -> float:
    return runs.median(lambda sample: sample.peak_bytes)


@contextmanager
def _open_store(scratch: Path) -> Iterator[Any]:
    """Yield SeaweedFS with a bucket, on the measured disk. The server is that of the tests."""
    tests = str(REPOSITORY / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    from support.seaweedfs import run_seaweedfs  # noqa: PLC0415 - needs the path

    folder = scratch / "store"
    folder.mkdir()
    try:
        with run_seaweedfs(folder) as server:
            server.create_bucket(_BUCKET)
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _url(out: Path) -> str:
    return f"s3://{_BUCKET}/{out.name}"


def _check_archives(out: Path, totals: FileTotals) -> FileTotals:
    paths = [out / PROJECT / job_id(number) / "final_output.tar" for number in range(totals.files)]
    found = FileTotals(len(paths), sum(path.stat().st_size for path in paths))
    if found != totals:
        raise VerificationError(f"{found} instead of {totals}")
    return found


def _check_objects(env: Mapping[str, str], out: Path, totals: FileTotals) -> FileTotals:
    """Compare number and size of the objects of a program with *totals*, and delete them."""
    import obstore  # noqa: PLC0415 - an extra
    from obstore.store import S3Store  # noqa: PLC0415 - an extra

    config = {
        "access_key_id": env["AWS_ACCESS_KEY_ID"],
        "secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
        "endpoint": env["AWS_ENDPOINT_URL"],
        "region": env["AWS_REGION"],
    }
    store = S3Store(_BUCKET, prefix=out.name, config=config, client_options={"allow_http": True})  # type: ignore[arg-type]
    metas = [meta for page in obstore.list(store) for meta in page]
    # A run also publishes the documents of the API and its state.
    outputs = [meta for meta in metas if not meta["path"].startswith(".bulkdl/")]
    sizes = [meta["size"] for meta in outputs if not meta["path"].endswith(".json")]
    obstore.delete(store, [meta["path"] for meta in metas])
    found = FileTotals(len(sizes), sum(sizes))
    if found != totals:
        raise VerificationError(f"{found} instead of {totals}")
    return found
