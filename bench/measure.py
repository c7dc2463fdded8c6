"""Measure a process: wall-clock time, CPU time, peak memory and exit code."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_INTERVAL_S = 0.2


@dataclass(frozen=True, slots=True)
class Sample:
    """
    Resources of one process.

    Attributes:
        wall_s: From start to exit, including imports.
        user_s: CPU time of the process and of its children, like *sys_s*.
        peak_bytes: Maximum resident memory. With several processes, that of the largest.
    """

    wall_s: float
    user_s: float
    sys_s: float
    peak_bytes: int
    exit_code: int

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.sys_s


@dataclass(frozen=True, slots=True)
class ProcessState:
    """
    State of a running process.

    Attributes:
        at: Unix time.
        resident_bytes: Resident memory.
        cpu_s: CPU time so far, user and system.
    """

    measured_at: float
    resident_bytes: int
    cpu_s: float


@dataclass(slots=True)
class ProcessMonitor:
    """Record the state of a process over time."""

    states: list[ProcessState] = field(default_factory=list)

    def follow(self, pid: int, ended: threading.Event) -> None:
        while not ended.wait(_INTERVAL_S):
            try:
                self.states.append(_read_state(Path(f"/proc/{pid}")))
            except (OSError, IndexError):
                return

    def state_at(self, time_s: float) -> ProcessState:
        """Return the latest state before *time_s* (Unix time), or an empty state."""
        return next(
            (state for state in reversed(self.states) if state.measured_at <= time_s),
            ProcessState(time_s, 0, 0.0),
        )


def _read_state(proc: Path) -> ProcessState:
    pages = int((proc / "statm").read_text().split()[1])
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    return ProcessState(time.time(), pages * _PAGE_BYTES, (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS)


def run_measured(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    monitor: ProcessMonitor | None = None,
) -> Sample:
    """Run *command* and wait for it. Write stderr to *log* and stdout to ``log + .out``."""
    ended = threading.Event()
    environment = {**os.environ, **(env or {})}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed programs have bytecode
    with log.open("wb") as stderr, log.with_name(log.name + ".out").open("wb") as stdout:
        began_s = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - our own commands
            command, env=environment, cwd=cwd, stdout=stdout, stderr=stderr
        )
        watcher = threading.Thread(target=monitor.follow, args=(process.pid, ended)) if monitor else None
        if watcher:
            watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began_s
        process.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    if watcher:
        watcher.join()
    return Sample(wall_s, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024, process.returncode)
