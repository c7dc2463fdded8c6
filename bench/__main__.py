"""
``python -m bench [ROW …]``: measure all rows or the given rows, and write docs/performance.md.

A row that fails does not stop the measurement. Its cause is written to the page.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import facts, peers
from bench.page import render_page
from bench.result import RowResult, load_results, store_results
from bench.rows import (
    archives,
    backfill,
    catalog,
    deliveries,
    latency,
    latency_storage,
    page,
    planning,
    quicklooks,
    unpack,
    uploads,
)
from bench.settings import REPOSITORY, BenchSettings

ROWS: dict[str, Callable[[BenchSettings], RowResult]] = {
    "quicklooks": quicklooks.measure,
    "archives": archives.measure_plain,
    "tls": archives.measure_tls,
    "latency": latency.measure,
    "latency-storage": latency_storage.measure,
    "segments": archives.measure_segments,
    "rerun": backfill.measure_rerun,
    "plan": planning.measure,
    "account": deliveries.measure,
    "backfill": backfill.measure_first_run,
    "unpack-large": unpack.measure_large,
    "unpack-small": unpack.measure_small,
    "catalog": catalog.measure,
    "page": page.measure,
    "upload-large": uploads.measure_large,
    "upload-small": uploads.measure_small,
    "upload-run": uploads.measure_run,
    "upload-rerun": uploads.measure_rerun,
}
_RESULTS = REPOSITORY / "bench/results.json"
_NOTES = REPOSITORY / "bench/notes.md"
_PAGE = REPOSITORY / "docs/performance.md"
_SOME, _FULL = 100_000, 1_000_000


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.work) as scratch:
        outputs = _FULL if options.full else options.outputs
        settings = BenchSettings(options.pairs, outputs, Path(scratch), options.profiler, options.scale)
        missing = peers.install_peers(settings)
        if missing:
            _print(f"not installed, skipped: {', '.join(missing)}")
        results = load_results(options.results)
        for name in options.rows or ROWS:
            results[name] = _measure(name, settings)
        machine = facts.describe_machine(settings)
    store_results(options.results, results, machine)
    ordered = [results[name] for name in ROWS if name in results]
    notes = _NOTES.read_text() if _NOTES.exists() else ""
    options.page.write_text(render_page(ordered, machine, "make bench", notes))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "rows", nargs="*", choices=[*ROWS, []], metavar="ROW", help=f"one of {', '.join(ROWS)}"
    )
    parser.add_argument("--pairs", type=int, default=5, help="number of pairs (default: 5)")
    parser.add_argument(
        "--outputs", type=int, default=_SOME, help=f"number of outputs of the backfill (default: {_SOME:,})"
    )
    parser.add_argument("--full", action="store_true", help=f"use {_FULL:,} outputs for the backfill")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor for the sizes of uploads, for a trial (default: 1)"
    )
    parser.add_argument("--work", type=Path, help="working directory on the measured disk")
    parser.add_argument("--profiler", help="path of py-spy; profiles an additional run of each row")
    parser.add_argument(
        "--results", type=Path, default=_RESULTS, help="file with the results of previous measurements"
    )
    parser.add_argument("--page", type=Path, default=_PAGE, help="output page (default: docs/performance.md)")
    return parser


def _measure(name: str, settings: BenchSettings) -> RowResult:
    _print(f"{name} …")
    try:
        result = ROWS[name](settings)
    except Exception as error:  # noqa: BLE001 - a failed row must not stop the measurement
        result = RowResult(name, name, facts={"not measured": f"{type(error).__name__}: {error}"})
    result.measured_at = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    result.revision = facts.read_revision()
    for cost in result.costs:
        detail = cost.error or f"{cost.wall_s:.2f} s, CPU {cost.user_s + cost.sys_s:.2f} s"
        _print(f"  {cost.name}: {detail}, {cost.peak_bytes >> 20} MiB")
    for metric in result.metrics:
        _print(f"  {metric.name}: {metric.value} (target {metric.target}; {metric.range})")
    for label, value in result.facts.items():
        _print(f"  {label}: {value}")
    return result


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - it is a command line


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
