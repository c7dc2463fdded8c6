"""Row 11: the page of a catalogue with 100,000 outputs in Chromium."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from bench.measure import MIB, run_measured
from bench.pairs import VerificationError
from bench.result import Metric, RowResult, check_limit
from bench.settings import REPOSITORY, BenchSettings

_OUTPUTS = 100_000
_BROWSER_PYTHON = REPOSITORY / ".venv-browser/bin/python"
_CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
_WRITE = (
    "import sys; from pathlib import Path; from support.page_entries import generate_containers, write_page\n"
    "write_page(Path(sys.argv[1]), generate_containers(int(sys.argv[2])))"
)


def measure(settings: BenchSettings) -> RowResult:
    """Measure the row. ``make test-browser`` installs Chromium and the environment that drives it."""
    result = RowResult("page", f"open the page of {_OUTPUTS:,} outputs in Chromium")
    result.command = "index.html of bulkdl catalog, from the disk"
    scratch = settings.create_directory(result.name)
    target, log = scratch / "page", scratch / "log"
    environment = {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    written = run_measured(
        [sys.executable, "-c", _WRITE, str(target), str(_OUTPUTS)], log=log, cwd=scratch, env=environment
    )
    if written.exit_code:
        raise VerificationError(f"exit code {written.exit_code}: {log.read_text()[-400:]}")
    loads = [_load(target / "index.html") for _ in range(settings.pairs)]
    result.metrics = [
        _check(loads, "ready", "ready_ms", 2_000, "ms"),
        _check(loads, "pan, time between frames", "pan_ms", 50, "ms"),
        _check(loads, "filter, until the next frame", "filter_ms", 50, "ms"),
        _check(loads, "heap after garbage collection", "heap_bytes", 60, "MB", scale=1e6),
        _check(loads, "requests that are not file:", "other_requests", 0, ""),
    ]
    size = (target / "index.html").stat().st_size
    details_size = sum(path.stat().st_size for path in target.glob("catalog/page/*"))
    result.facts = {
        "index.html": f"{size / 1e6:.1f} MB",
        "files with details": f"{details_size / 1e6:.0f} MB",
        "write the page, with the generation of its entries": f"CPU {written.cpu_s:.1f} s, "
        f"peak {written.peak_bytes / MIB:.0f} MiB",
        "pan, 90th percentile": f"{_median(loads, 'pan_p90_ms'):.0f} ms",
        "filter, maximum": f"{_median(loads, 'filter_max_ms'):.0f} ms",
    }
    return result


def _load(index: Path) -> dict[str, float]:
    command = [str(_BROWSER_PYTHON), str(REPOSITORY / "bench/measure_page.py"), _CHROMIUM, str(index)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise VerificationError(f"exit code {done.returncode}: {done.stderr[-400:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _median(loads: list[dict[str, float]], name: str) -> float:
    return statistics.median(load[name] for load in loads)


def _check(
    loads: list[dict[str, float]], label: str, name: str, at_most: float, unit: str, scale: float = 1
) -> Metric:
    values = [load[name] / scale for load in loads]
    metric = check_limit(label, statistics.median(values), at_most, unit)
    return Metric(
        metric.name, metric.value, metric.target, metric.is_met, f"{min(values):.0f}–{max(values):.0f}"
    )
