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

from bench.measure import Sample, run_measured

_MAX_REMOVED_FILES = 100


class VerificationError(Exception):
    """The files of a run are missing or incorrect."""


@dataclass(frozen=True, slots=True)
class FileTotals:
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Program:
    """
    One of the compared programs.

    Attributes:
        command: Returns the command line for an empty directory.
        check: Verifies the directory after the run. Raises Unverified.
        exit_codes: Exit codes that count as success.
    """

    name: str
    command: Callable[[Path], Sequence[str]]
    check: Callable[[Path], FileTotals]
    env: Mapping[str, str] = field(default_factory=dict)
    exit_codes: tuple[int, ...] = (0,)


@dataclass(slots=True)
class ProgramRuns:
    """Samples of one program."""

    name: str
    samples: list[Sample] = field(default_factory=list)
    totals: FileTotals = FileTotals(0, 0)
    error: str = ""

    def median(self, value_of: Callable[[Sample], float]) -> float:
        return statistics.median(map(value_of, self.samples)) if self.samples else float("nan")


def compute_ratios(ours: Sequence[Sample], theirs: Sequence[Sample]) -> list[float]:
    """Return the wall-clock time of *ours* divided by that of *theirs*, per pair."""
    return [mine.wall_s / other.wall_s for mine, other in zip(ours, theirs, strict=False)]


def run_in_pairs(
    programs: Sequence[Program], scratch: Path, *, pairs: int, warm_up: bool = True
) -> dict[str, ProgramRuns]:
    """Run all *programs* alternately, *pairs* times, after one warm-up round."""
    runs_by_name = {program.name: ProgramRuns(program.name) for program in programs}
    for number in range(-1 if warm_up else 0, pairs):
        turn = programs if number % 2 == 0 else list(reversed(programs))
        for program in turn:
            _run_once(program, runs_by_name[program.name], scratch, counts=number >= 0)
    return runs_by_name


def _run_once(program: Program, program_runs: ProgramRuns, scratch: Path, *, counts: bool) -> None:
    if program_runs.error:
        return
    folder = Path(tempfile.mkdtemp(prefix="out-", dir=scratch))
    try:
        log = scratch / f"{program.name.replace(' ', '_').replace('/', '_')}.log"
        sample = run_measured(program.command(folder), log=log, env=program.env, cwd=folder)
        _check_exit_code(program, sample, log)
        program_runs.totals = program.check(folder)
        if counts:
            program_runs.samples.append(sample)
    except (VerificationError, OSError) as error:
        program_runs.error = str(error)
    finally:
        _remove_if_small(folder)
        os.sync()  # dirty pages of this run must not slow down the next program


def _remove_if_small(folder: Path) -> None:
    """
    Remove *folder* now if it contains few files. Otherwise it is removed after all runs.

    For several minutes, ext4 skips recently freed inodes on every allocation. After the removal of many
    files, the next program would need three times its kernel time.
    """
    if sum(1 for _ in islice(folder.rglob("*"), _MAX_REMOVED_FILES)) < _MAX_REMOVED_FILES:
        shutil.rmtree(folder, ignore_errors=True)


def _check_exit_code(program: Program, sample: Sample, log: Path) -> None:
    if sample.exit_code not in program.exit_codes:
        raise VerificationError(f"exit code {sample.exit_code}: {_read_tail(log)}")


def _read_tail(log: Path) -> str:
    return log.read_text(errors="replace")[-400:].strip()
