"""The process of ``bulkdl serve`` in a soak: start, kill, and measure memory and file descriptors."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import struct
import subprocess
import sys
from asyncio.subprocess import DEVNULL, Process
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).parent / "clock_shift.c"
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory and file descriptors of a process between two runs."""

    runs: int
    rss_kib: int
    descriptors: int


@dataclass(slots=True)
class Lifetime:
    """The samples of one process."""

    samples: list[Sample] = field(default_factory=list)


class Clock:
    """The wall clock of the service, which the soak can shift. Without a C compiler it cannot be shifted."""

    def __init__(self, folder: Path) -> None:
        self._path, library = folder / "clock", folder / "clock_shift.so"
        self._path.write_bytes(struct.pack("q", 0))
        compiler = shutil.which("cc") or shutil.which("gcc")
        self.is_available = compiler is not None
        self.env: dict[str, str] = {}
        if compiler is not None:
            subprocess.run(
                [compiler, "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True
            )
            self.env = {"LD_PRELOAD": str(library), "SOAK_CLOCK_FILE": str(self._path)}

    def shift(self, seconds: int) -> None:
        """Set the difference to the real time."""
        with self._path.open("r+b") as file:
            file.write(struct.pack("q", seconds))


class ServiceProcess:
    """Starts the service again and again on one output directory."""

    def __init__(self, folder: Path, args: list[str], env: dict[str, str]) -> None:
        self._folder, self._args, self._env = folder, args, env
        self._process: Process | None = None
        self.lifetimes: list[Lifetime] = []
        self.exit_codes: list[int] = []

    async def start(self) -> None:
        with (self._folder / "serve.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bulkdl", "serve", *self._args),
                env=self._env,
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=log,
            )
        self.lifetimes.append(Lifetime())

    async def end(self, number: signal.Signals) -> None:
        """Send a signal that ends the process, and wait for its end."""
        process = self._required()
        process.send_signal(number)
        self.exit_codes.append(await asyncio.wait_for(process.wait(), 120))

    def reload(self) -> None:
        self._required().send_signal(signal.SIGHUP)

    def is_alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def measure(self, runs: int) -> None:
        """Add a sample, unless the number of runs is that of the last one."""
        samples = self.lifetimes[-1].samples
        if samples and samples[-1].runs == runs:
            return
        proc = Path("/proc") / str(self._required().pid)
        pages = int((proc / "statm").read_text().split()[1])
        samples.append(Sample(runs, pages * _PAGE_KIB, len(list((proc / "fd").iterdir()))))

    def _required(self) -> Process:
        assert self._process is not None
        return self._process
