"""
Interleaved pairs: each program once, in turn, again and again, on a machine that others use too.

The ratio is taken pair by pair and its median told, so that a disturbance that lasts for one pair
cannot tip the result, and one that lasts for all of them meets both sides.
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
    """A run ended, but what it left is not what it should have left."""


@dataclass(frozen=True, slots=True)
class Tally:
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Contender:
    """
    One program.

    Attributes:
        command: Its command line for a fresh folder.
        check: Looks at what it left there; raises Unverified.
        exit_codes: Those that are a success.
    """

    name: str
    command: Callable[[Path], Sequence[str]]
    check: Callable[[Path], Tally]
    env: Mapping[str, str] = field(default_factory=dict)
    exit_codes: tuple[int, ...] = (0,)


@dataclass(slots=True)
class Course:
    """What the runs of one contender cost."""

    name: str
    samples: list[Sample] = field(default_factory=list)
    tally: Tally = Tally(0, 0)
    trouble: str = ""

    def median(self, what: Callable[[Sample], float]) -> float:
        return statistics.median(map(what, self.samples)) if self.samples else float("nan")


def ratios(ours: Sequence[Sample], theirs: Sequence[Sample]) -> list[float]:
    """Wall-clock time of *ours* in units of *theirs*, pair by pair."""
    return [mine.wall_s / other.wall_s for mine, other in zip(ours, theirs, strict=False)]


def race(
    contenders: Sequence[Contender], scratch: Path, *, pairs: int, warm: bool = True
) -> dict[str, Course]:
    """Run all *contenders* in turn, *pairs* times, after one round that does not count."""
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
        os.sync()  # nobody pays for what another has left to be written


def _put_away(folder: Path) -> None:
    """
    Remove *folder* now, or, if it holds many files, leave it to be removed with all the rest.

    For minutes after an inode was freed, ext4 steps over it when it gives out one, each time anew: a
    program that follows upon the removal of many files would pay for that (3 × its time in the kernel).
    """
    if sum(1 for _ in islice(folder.rglob("*"), _MANY)) < _MANY:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_failed(contender: Contender, sample: Sample, log: Path) -> None:
    if sample.exit_code not in contender.exit_codes:
        raise Unverified(f"exit code {sample.exit_code}: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-400:].strip()
