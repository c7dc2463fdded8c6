"""Results of a row, stored as JSON so that rows can be measured separately."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.measure import MIB, Sample
from bench.pairs import ProgramRuns, compute_ratios


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians over the runs of one program. *trouble* is the cause if there are none."""

    name: str
    runs: int
    wall_s: float
    user_s: float
    sys_s: float
    peak_bytes: int
    files: int
    size_bytes: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """
    One metric with its target.

    Attributes:
        figure: The measured value with its unit.
        reach: The target.
        reached: None without a measured value.
        spread: Minimum and maximum of the pairs, if any.
    """

    name: str
    value: str
    target: str
    is_met: bool | None
    range: str = ""


@dataclass(slots=True)
class RowResult:
    name: str
    title: str
    command: str = ""
    costs: list[Cost] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    profile: list[str] = field(default_factory=list)
    measured_at: str = ""
    revision: str = ""


def summarize_cost(program_runs: ProgramRuns) -> Cost:
    size = program_runs.median(lambda sample: sample.peak_bytes)
    return Cost(
        program_runs.name,
        len(program_runs.samples),
        program_runs.median(lambda sample: sample.wall_s),
        program_runs.median(lambda sample: sample.user_s),
        program_runs.median(lambda sample: sample.sys_s),
        int(size) if program_runs.samples else 0,
        program_runs.totals.files,
        program_runs.totals.size_bytes,
        program_runs.error,
    )


def compare_time(ours: ProgramRuns, theirs: ProgramRuns, at_most: float | None, *, note: str = "") -> Metric:
    """Return the time of *ours* divided by *theirs*. Without *at_most*, the metric has no target."""
    what = f"time / {theirs.name}" + (f" ({note})" if note else "")
    reach = "–" if at_most is None else f"≤ {at_most:g}"
    return _create_metric(what, compute_ratios(ours.samples, theirs.samples), reach, at_most)


def compare_speedup(ours: ProgramRuns, theirs: ProgramRuns, at_least: float) -> Metric:
    """Return how many times *ours* is faster than *theirs*."""
    turned = compute_ratios(theirs.samples, ours.samples)
    return _create_metric(
        f"times faster than {theirs.name}", turned, f"≥ {at_least:g}", at_least, upwards=True
    )


def _create_metric(
    what: str, found: Sequence[float], reach: str, bound: float | None, *, upwards: bool = False
) -> Metric:
    if not found:
        return Metric(what, "not measured", reach, None)
    middle = statistics.median(found)
    reached = None if bound is None else (middle >= bound if upwards else middle <= bound)
    return Metric(what, f"{middle:.2f}", reach, reached, f"{min(found):.2f}–{max(found):.2f}")


def check_limit(what: str, value: float, at_most: float, unit: str) -> Metric:
    """Return a metric for an absolute value."""
    return Metric(what, f"{value:.2f} {unit}".strip(), f"≤ {at_most:g} {unit}".strip(), value <= at_most)


def load_results(path: Path) -> dict[str, RowResult]:
    """Load the latest result of each row."""
    if not path.exists():
        return {}
    return {name: _parse_row(entry) for name, entry in json.loads(path.read_text())["rows"].items()}


def store_results(path: Path, rows: Mapping[str, RowResult], machine: Mapping[str, str]) -> None:
    document = {"machine": dict(machine), "rows": {name: asdict(row) for name, row in sorted(rows.items())}}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _parse_row(entry: dict[str, Any]) -> RowResult:
    costs = [Cost(**fields) for fields in entry.pop("costs")]
    metrics = [Metric(**fields) for fields in entry.pop("metrics")]
    return RowResult(**entry, costs=costs, metrics=metrics)


def format_sample(sample: Sample) -> str:
    return f"{sample.wall_s:.1f} s, CPU {sample.cpu_s:.1f} s, peak {sample.peak_bytes / MIB:.0f} MiB"
