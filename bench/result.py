"""Results of a row, stored as JSON so that rows can be measured separately."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.measure import Sample
from bench.pairs import Course, ratios


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
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """
    One metric with its target.

    Attributes:
        figure: The measured value with its unit.
        reach: The target.
        reached: None without a measured value.
        spread: Minimum and maximum of the pairs, if any.
    """

    what: str
    figure: str
    reach: str
    reached: bool | None
    spread: str = ""


@dataclass(slots=True)
class RowResult:
    name: str
    title: str
    command: str = ""
    costs: list[Cost] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    profile: list[str] = field(default_factory=list)
    measured_at: str = ""
    revision: str = ""


def cost(course: Course) -> Cost:
    size = course.median(lambda sample: sample.peak_bytes)
    return Cost(
        course.name,
        len(course.samples),
        course.median(lambda sample: sample.wall_s),
        course.median(lambda sample: sample.user_s),
        course.median(lambda sample: sample.sys_s),
        int(size) if course.samples else 0,
        course.tally.files,
        course.tally.size_bytes,
        course.trouble,
    )


def beside(ours: Course, theirs: Course, at_most: float | None, *, note: str = "") -> Mark:
    """Return the time of *ours* divided by *theirs*. Without *at_most*, the mark has no target."""
    what = f"time / {theirs.name}" + (f" ({note})" if note else "")
    reach = "–" if at_most is None else f"≤ {at_most:g}"
    return _mark(what, ratios(ours.samples, theirs.samples), reach, at_most)


def faster(ours: Course, theirs: Course, at_least: float) -> Mark:
    """Return how many times *ours* is faster than *theirs*."""
    turned = ratios(theirs.samples, ours.samples)
    return _mark(f"times faster than {theirs.name}", turned, f"≥ {at_least:g}", at_least, upwards=True)


def _mark(
    what: str, found: Sequence[float], reach: str, bound: float | None, *, upwards: bool = False
) -> Mark:
    if not found:
        return Mark(what, "not measured", reach, None)
    middle = statistics.median(found)
    reached = None if bound is None else (middle >= bound if upwards else middle <= bound)
    return Mark(what, f"{middle:.2f}", reach, reached, f"{min(found):.2f}–{max(found):.2f}")


def bounded(what: str, value: float, at_most: float, unit: str) -> Mark:
    """Return a mark for an absolute value."""
    return Mark(what, f"{value:.2f} {unit}".strip(), f"≤ {at_most:g} {unit}".strip(), value <= at_most)


def load(path: Path) -> dict[str, RowResult]:
    """Load the latest result of each row."""
    if not path.exists():
        return {}
    return {name: _row(entry) for name, entry in json.loads(path.read_text())["rows"].items()}


def store(path: Path, rows: Mapping[str, RowResult], machine: Mapping[str, str]) -> None:
    document = {"machine": dict(machine), "rows": {name: asdict(row) for name, row in sorted(rows.items())}}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _row(entry: dict[str, Any]) -> RowResult:
    costs = [Cost(**each) for each in entry.pop("costs")]
    marks = [Mark(**each) for each in entry.pop("marks")]
    return RowResult(**entry, costs=costs, marks=marks)


def sample_facts(sample: Sample) -> str:
    return f"{sample.wall_s:.1f} s, CPU {sample.cpu_s:.1f} s, peak {sample.peak_bytes / (1 << 20):.0f} MiB"
