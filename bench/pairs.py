"""
Run programs alternately in pairs, on a machine with other load.

The ratio is computed per pair, and the result is the median. A disturbance during one pair therefore does
not change the result, and a permanent disturbance affects both programs.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from bench.measure import Sample, timed

_MANY = 100


class Unverified(Exception):
    """The files of a run are missing or incorrect."""


@dataclass(frozen=True, slots=True)
class Tally:
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Contender:
    """
    One of the compared programs.

    Attributes:
        command: Returns the command line for an empty directory.
        check: Verifies the directory after the run. Raises Unverified.
        exit_codes: Exit codes that count as success.
    """

    name: str
    command: Callable[[Path], Sequence[str]]
    check: Callable[[Path], Tally]
    env: Mapping[str, str] = field(default_factory=dict)
    exit_codes: tuple[int, ...] = (0,)


@dataclass(slots=True)
class Course:
    """Samples of one program."""

    name: str
    samples: list[Sample] = field(default_factory=list)
    tally: Tally = Tally(0, 0)
    trouble: str = ""

    def median(self, what: Callable[[Sample], float]) -> float:
        return statistics.median(map(what, self.samples)) if self.samples else float("nan")


def ratios(ours: Sequence[Sample], theirs: Sequence[Sample]) -> list[float]:
    """Return the wall-clock time of *ours* divided by that of *theirs*, per pair."""
    return [mine.wall_s / other.wall_s for mine, other in zip(ours, theirs, strict=False)]


def race(
    contenders: Sequence[Contender], scratch: Path, *, pairs: int, warm: bool = True
) -> dict[str, Course]:
    """Run all *contenders* alternately, *pairs* times, after one warm-up round."""
    courses = {each.name: Course(each.name) for each in contenders}
    for number in range(-1 if warm else 0, pairs):
        turn = contenders if number % 2 == 0 else list(reversed(contenders))
        for contender in turn:
            _one(contender, courses[contender.name], scratch, counts=number >= 0)
    return courses


def _one(contender: Contender, course: Course, scratch: Path, *, counts: bool) -> None:
    if course.trouble:
        return
    folder = Path(tempfile.mkdtemp(prefix="out-", dir=scratch))
    try:
        log = scratch / f"{contender.name.replace(' ', '_').replace('/', '_')}.log"
        sample = timed(contender.command(folder), log=log, env=contender.env, cwd=folder)
        _refuse_failed(contender, sample, log)
        course.tally = contender.check(folder)
        if counts:
            course.samples.append(sample)
    except (Unverified, OSError) as error:
        course.trouble = str(error)
    finally:
        _put_away(folder)
        os.sync()  # dirty pages of this run must not slow down the next program


def _put_away(folder: Path) -> None:
    """
    Remove *folder* now if it contains few files. Otherwise it is removed after all runs.

    For several minutes, ext4 skips recently freed inodes on every allocation. After the removal of many
    files, the next program would need three times its kernel time.
    """
    if sum(1 for _ in islice(folder.rglob("*"), _MANY)) < _MANY:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_failed(contender: Contender, sample: Sample, log: Path) -> None:
    if sample.exit_code not in contender.exit_codes:
        raise Unverified(f"exit code {sample.exit_code}: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-400:].strip()
