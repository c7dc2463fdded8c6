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
from bench.page import page
from bench.result import RowResult, load, store
from bench.rows import archives, backfill, latency, planning, quicklooks
from bench.setting import REPOSITORY, Setting

ROWS: dict[str, Callable[[Setting], RowResult]] = {
    "quicklooks": quicklooks.run,
    "archives": archives.plain,
    "tls": archives.over_tls,
    "latency": latency.run,
    "segments": archives.slow_origin,
    "rerun": backfill.rerun,
    "plan": planning.run,
    "backfill": backfill.first_run,
}
_RESULTS = REPOSITORY / "bench/results.json"
_NOTES = REPOSITORY / "bench/notes.md"
_PAGE = REPOSITORY / "docs/performance.md"
_SOME, _FULL = 100_000, 1_000_000


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.work) as scratch:
        outputs = _FULL if options.full else options.outputs
        setting = Setting(options.pairs, outputs, Path(scratch), options.profiler)
        missing = peers.set_up(setting)
        if missing:
            _say(f"not installed, skipped: {', '.join(missing)}")
        results = load(options.results)
        for name in options.rows or ROWS:
            results[name] = _measured(name, setting)
        machine = facts.machine(setting)
    store(options.results, results, machine)
    ordered = [results[name] for name in ROWS if name in results]
    notes = _NOTES.read_text() if _NOTES.exists() else ""
    options.page.write_text(page(ordered, machine, "make bench", notes))
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
    parser.add_argument("--work", type=Path, help="working directory on the measured disk")
    parser.add_argument("--profiler", help="path of py-spy; profiles an additional run of each row")
    parser.add_argument(
        "--results", type=Path, default=_RESULTS, help="file with the results of previous measurements"
    )
    parser.add_argument("--page", type=Path, default=_PAGE, help="output page (default: docs/performance.md)")
    return parser


def _measured(name: str, setting: Setting) -> RowResult:
    _say(f"{name} …")
    try:
        result = ROWS[name](setting)
    except Exception as error:  # noqa: BLE001 - a failed row must not stop the measurement
        result = RowResult(name, name, facts={"not measured": f"{type(error).__name__}: {error}"})
    result.measured_at = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    result.revision = facts.revision()
    for cost in result.costs:
        detail = cost.trouble or f"{cost.wall_s:.2f} s, CPU {cost.user_s + cost.sys_s:.2f} s"
        _say(f"  {cost.name}: {detail}, {cost.peak_bytes >> 20} MiB")
    for mark in result.marks:
        _say(f"  {mark.what}: {mark.figure} (target {mark.reach}; {mark.spread})")
    for label, value in result.facts.items():
        _say(f"  {label}: {value}")
    return result


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - it is a command line


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
