"""Rows 9 and 10: unpack one large member, and many small members."""

from __future__ import annotations

import gzip
import io
import os
import statistics
import sys
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import check
from bench.measure import MIB, run_measured
from bench.pairs import FileTotals, Program, VerificationError, run_in_pairs
from bench.result import RowResult, check_limit, compare_speedup, summarize_cost
from bench.settings import REPOSITORY, BenchSettings

_LARGE_BYTES = 1 << 30
_SMALL_MEMBERS, _SMALL_BYTES = 20_000, 8 << 10
_MAX_LAG_MS = 20.0
# The noise of a 16-bit scene: gzip reduces it to four fifths.
_NOISE = statistics.NormalDist(128, 21)
_NOISE_TABLE = bytes(round(min(255.0, max(0.0, _NOISE.inv_cdf((byte + 0.5) / 256)))) for byte in range(256))


def measure_large(settings: BenchSettings) -> RowResult:
    """Measure row 9."""
    result = RowResult("unpack-large", "unpack one member of 1 GiB from a tar.gz")
    scratch = settings.create_directory(result.name)
    original, archive = scratch / "scene.tif", scratch / "archive.tar.gz"
    with original.open("wb") as stream:
        for _ in range(_LARGE_BYTES // MIB):
            stream.write(os.urandom(MIB).translate(_NOISE_TABLE))
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(original, "output/scene.tif")
    names = {"bulkdl": "work/tree/output/scene.tif", "GNU tar": "output/scene.tif"}
    programs = [
        Program(
            name, command, partial(check.check_same_bytes, expected={names[name.split(",")[0]]: original})
        )
        for name, command in _commands(archive)
        if "extractall" not in name
    ]
    runs = run_in_pairs(programs, scratch, pairs=settings.pairs)
    result.command = "bulkdl.processors.unpack; tar -xzf ARCHIVE && sync -f ."
    result.costs = [summarize_cost(run) for run in runs.values()]
    result.metrics = [
        compare_speedup(runs["bulkdl, isal"], runs["GNU tar"], 1.2),
        compare_speedup(runs["bulkdl, zlib"], runs["GNU tar"], 1.0),
    ]
    packed = archive.stat().st_size
    result.facts = {"size of the archive / size of its member": f"{packed / _LARGE_BYTES:.2f}"}
    return result


def measure_small(settings: BenchSettings) -> RowResult:
    """Measure row 10, with the lag of an event loop in the same process."""
    result = RowResult("unpack-small", f"unpack {_SMALL_MEMBERS:,} members of 8 KiB from a tar.gz")
    scratch = settings.create_directory(result.name)
    archive = scratch / "archive.tar.gz"
    with gzip.open(archive, "wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for name, data in _small_members():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    programs = [Program(name, command, _check_small) for name, command in _commands(archive)]
    runs = run_in_pairs(programs, scratch, pairs=settings.pairs)
    result.command = "bulkdl.processors.unpack; tarfile.extractall(filter='data') and sync -f ."
    result.costs = [summarize_cost(run) for run in runs.values()]
    result.metrics = [
        compare_speedup(runs["bulkdl, isal"], runs["tarfile.extractall"], 1.0),
        compare_speedup(runs["bulkdl, zlib"], runs["tarfile.extractall"], 1.0),
        check_limit("event loop lag, p99", _measure_lag(archive, scratch), _MAX_LAG_MS, "ms"),
    ]
    return result


def _commands(archive: Path) -> Iterator[tuple[str, partial[list[str]]]]:
    """Yield the programs. All of them make the files durable, except one that shows the cost of that."""
    for library in ("isal", "zlib"):
        yield f"bulkdl, {library}", partial(_ours, library, archive)
    yield "GNU tar", partial(_shell, f"tar -xzf '{archive}' && sync -f .")
    yield "GNU tar, not durable", partial(_shell, f"tar -xzf '{archive}'")
    script = REPOSITORY / "bench/peer_tarfile.py"
    yield "tarfile.extractall", partial(_shell, f"'{sys.executable}' '{script}' '{archive}' . && sync -f .")


def _ours(library: str, archive: Path, folder: Path) -> list[str]:
    return [sys.executable, str(REPOSITORY / "bench/unpack_one.py"), library, str(archive), str(folder)]


def _shell(line: str, _folder: Path) -> list[str]:
    return ["sh", "-c", line]


def _small_members() -> Iterator[tuple[str, bytes]]:
    for number in range(_SMALL_MEMBERS):
        yield f"output/{number % 40:02d}/{number:05d}.tif", os.urandom(_SMALL_BYTES).translate(_NOISE_TABLE)


def _check_small(folder: Path) -> FileTotals:
    totals = check.check_file_count(folder, (".tif",), _SMALL_MEMBERS)
    if totals.size_bytes != _SMALL_MEMBERS * _SMALL_BYTES:
        raise VerificationError(f"{totals.size_bytes} bytes; expected {_SMALL_MEMBERS * _SMALL_BYTES}")
    return totals


def _measure_lag(archive: Path, scratch: Path) -> float:
    folder = scratch / "lag"
    folder.mkdir()
    log = scratch / "lag.log"
    sample = run_measured([*_ours("isal", archive, folder), "--lag"], log=log, cwd=folder)
    if sample.exit_code:
        raise VerificationError(f"exit code {sample.exit_code}: {log.read_text()[-400:]}")
    return float(log.with_name(log.name + ".out").read_text())
