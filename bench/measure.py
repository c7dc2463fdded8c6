"""One whole process: its wall-clock time, its own CPU, its peak memory, and its exit code."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_WATCH_S = 0.2


@dataclass(frozen=True, slots=True)
class Sample:
    """
    What one process cost.

    Attributes:
        wall_s: From its start to its end, loading included.
        user_s: CPU of itself and of the children it waited for, like *sys_s*.
        peak_bytes: Resident memory at its highest; of the largest process if there were several.
    """

    wall_s: float
    user_s: float
    sys_s: float
    peak_bytes: int
    exit_code: int

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.sys_s


@dataclass(slots=True)
class MemoryWatch:
    """Resident memory of a process over time; *readings* are (unix time, bytes)."""

    readings: list[tuple[float, int]] = field(default_factory=list)

    def follow(self, pid: int, ended: threading.Event) -> None:
        while not ended.wait(_WATCH_S):
            try:
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            except (OSError, IndexError):
                return
            self.readings.append((time.time(), pages * _PAGE_BYTES))

    def at(self, moment: float) -> int:
        """The latest reading before *moment* (unix time); 0 if there is none."""
        return next((size for when, size in reversed(self.readings) if when <= moment), 0)


def timed(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    watch: MemoryWatch | None = None,
) -> Sample:
    """Run *command* to its end; what it says goes to *log* (stderr) and ``log + .out`` (stdout)."""
    ended = threading.Event()
    with log.open("wb") as stderr, log.with_name(log.name + ".out").open("wb") as stdout:
        began_s = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - our own commands
            command, env={**os.environ, **(env or {})}, cwd=cwd, stdout=stdout, stderr=stderr
        )
        watcher = threading.Thread(target=watch.follow, args=(process.pid, ended)) if watch else None
        if watcher:
            watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began_s
        process.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    if watcher:
        watcher.join()
    return Sample(wall_s, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024, process.returncode)
