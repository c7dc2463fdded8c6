"""Profile an additional run with py-spy."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.measure import run_measured

_RATE = 200
# Threads that wait for work. py-spy does not always detect them as idle.
_WAITING = ("_worker (concurrent", "EpollSelector.select ", "Thread._bootstrap ")
_ROWS = 12


def record_profile(command: Sequence[str], scratch: Path, profiler: str, env: Mapping[str, str]) -> list[str]:
    """Return the shares of the samples without idle threads: by function, then including called functions."""
    stacks = scratch / "stacks.txt"
    spy = [profiler, "record", "-r", str(_RATE), "-f", "raw", "-o", str(stacks), "--"]
    try:
        run_measured([*spy, *command], log=scratch / "profile.log", env=env)
        lines = stacks.read_text().splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        return [f"no profile: {error}"]
    return [*_top_frames("self", lines, innermost=True), *_top_frames("with callees", lines, innermost=False)]


def _top_frames(label: str, lines: Sequence[str], *, innermost: bool) -> list[str]:
    counts: Counter[str] = Counter()
    total = 0
    for line in lines:
        stack, _, samples = line.rpartition(" ")
        frames = [frame.rsplit(":", 1)[0] for frame in stack.split(";")]
        if frames[-1].startswith(_WAITING):
            continue
        total += int(samples)
        for frame in {frames[-1]} if innermost else set(frames):
            counts[frame] += int(samples)
    shown = counts.most_common(_ROWS if innermost else 4 * _ROWS)
    return [f"{label} {count / total:.1%} {frame})" for frame, count in shown]
