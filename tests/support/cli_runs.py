"""
Run the command line as a process and stop it at a defined point.

Tests do not sleep. They wait until the simulator has received a request or sent a number of bytes, or until
the process has logged an event.
"""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bulkdl.simulator import Faults, RequestRecord, SimulatedAccount, Simulator, SimulatorOptions
from bulkdl.simulator.sender import Sender
from support.fault_runs import RunEnvironment
from support.run_processes import PROCESS_PATH

FOREVER_S = 3600.0
# Messages of the interpreter about errors and unfinished work.
UNEXPECTED_STDERR = (
    "Traceback",
    "was destroyed",
    "never retrieved",
    "never awaited",
    "Unclosed",
    "Exception ignored",
)
SLACK_BYTES = 300_000  # maximum content of the socket buffers of all connections
SOCKETS_BYTES = 128 << 10  # maximum content of the buffers of one closed connection


class ActivitySignal:
    """Wake waiting tests after each activity of the simulator or of a process."""

    def __init__(self) -> None:
        self._stirred = asyncio.Event()

    def notify(self) -> None:
        self._stirred.set()

    async def wait_until(self, fits: Callable[[], object], unless: Callable[[], object]) -> None:
        """Return when *fits* is true. Fail if *unless* becomes true first."""
        async with asyncio.timeout(30):
            while not fits():
                assert not unless(), "the process has exited"
                self._stirred.clear()
                await self._stirred.wait()


@contextmanager
def signal_simulator_activity() -> Iterator[ActivitySignal]:
    """Notify the yielded signal about requests and sent bytes of all simulators."""
    seeing = ActivitySignal()
    put, note = Sender._put, Simulator._record_request

    async def seen_put(sender: Sender, request: Any, data: bytes, chunked: bool) -> None:
        await put(sender, request, data, chunked)
        seeing.notify()

    def seen_note(simulator: Simulator, call: Any) -> RequestRecord:
        seeing.notify()
        return note(simulator, call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sender, "_put", seen_put)
        patch.setattr(Simulator, "_record_request", seen_note)
        yield seeing


class BulkdlProcess:
    """A process whose output is read continuously, so that its pipes never fill."""

    def __init__(self, process: Process, sight: ActivitySignal) -> None:
        self.process, self._sight = process, sight
        self.out, self.log = "", ""
        self._reading = [
            asyncio.create_task(self._read(process.stdout, "out")),
            asyncio.create_task(self._read(process.stderr, "log")),
        ]
        self._stopped_at = 0.0

    async def _read(self, stream: asyncio.StreamReader | None, name: str) -> None:
        assert stream is not None
        while line := await stream.readline():
            setattr(self, name, getattr(self, name) + line.decode())
            self._sight.notify()
        self._sight.notify()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines(keepends=True) if line.endswith("}\n")]

    def find_events(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.events if entry["event"] == event]

    async def wait_until(self, fits: Callable[[], object]) -> None:
        await self._sight.wait_until(fits, self._reading[1].done)

    def send_signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._stopped_at = time.monotonic()
        self.process.send_signal(number)

    async def wait_for_exit(self, within_s: float = 30) -> int:
        """Return the exit code. Fail after *within_s* from the last signal, or from now."""
        try:
            async with asyncio.timeout(within_s):
                await asyncio.gather(*self._reading)
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            pytest.fail(f"still running after {within_s} s:\n{self.log[-3000:]}")

    @property
    def summary(self) -> dict[str, Any]:
        """Return the document that ``--format json`` printed."""
        document: dict[str, Any] = json.loads(self.out)
        return document

    def has_clean_stderr(self) -> bool:
        """Assert that stderr contains only log lines and no messages about unfinished work."""
        assert [word for word in UNEXPECTED_STDERR if word in self.log + self.out] == [], self.log
        for line in self.log.splitlines():
            assert line.startswith("{"), self.log
        return True


class CliEnvironment(RunEnvironment):
    """A simulator, an output directory, and processes of the command line."""

    sight: ActivitySignal
    env: Mapping[str, str]

    async def start(self, *args: str, command: str = "run", code: str = "", **env: str) -> BulkdlProcess:
        """Start a process. *code* is Python code that replaces ``-m bulkdl``."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", *(("-c", code) if code else ("-m", "bulkdl"))),
            *(command, *args),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env={**self.env, **env},
        )
        return BulkdlProcess(process, self.sight)

    async def bulkdl(self, *args: str, command: str = "run", **env: str) -> BulkdlProcess:
        """Run the command and wait for its exit."""
        running = await self.start(*args, command=command, **env)
        await running.wait_for_exit()
        return running

    def set_faults(self, *rules: Mapping[str, Any]) -> None:
        """Replace the fault script with *rules*."""
        self.simulator.faults = Faults.from_rules(*rules) if rules else None

    def requests_to(self, *endpoints: str) -> list[RequestRecord]:
        return [request for request in self.simulator.requests if request.endpoint in endpoints]

    @property
    def sent_bytes(self) -> int:
        """Return the number of archive bytes sent by the storage."""
        return sum(request.sent_bytes for request in self.requests_to("object"))

    @property
    def run_reports(self) -> list[dict[str, Any]]:
        """Return the run reports, ordered by start."""
        paths = sorted((self.root / ".bulkdl" / "runs").glob("*.json"))
        found = [json.loads(path.read_text("utf-8")) for path in paths]
        return sorted(found, key=lambda report: str(report["started_at"]))

    def query_ledger(self, query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.root / ".bulkdl" / "ledger.sqlite3")
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def has_consistent_state(self, exit_code: int) -> bool:
        """Assert that report and ledger of the last run are consistent, and that its lease is released."""
        assert self.run_reports[-1]["exit_code"] == exit_code
        assert self.query_ledger("PRAGMA integrity_check") == [("ok",)]
        runs = self.query_ledger("SELECT exit_code, finished_at FROM runs ORDER BY started_at")
        assert runs[-1][0] == exit_code
        assert runs[-1][1]
        assert self.query_ledger("SELECT * FROM lease") == []
        assert self.find_wrong_files() == []
        return True


def shrink_socket_buffers(simulator: Simulator) -> None:
    """Shrink the send buffers, because their content counts as sent when a process is killed."""
    for listening in simulator._listeners["storage"]._sockets:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)


@asynccontextmanager
async def cli_environment(
    folder: Path, account: SimulatedAccount, *, simulator_options: Mapping[str, Any] | None = None, **env: str
) -> AsyncIterator[CliEnvironment]:
    """Yield an environment. Credentials in *env* replace the key of the first project."""
    with signal_simulator_activity() as sight:
        async with Simulator(account, SimulatorOptions(**(simulator_options or {}))) as simulator:
            yield create_cli_environment(simulator, folder, sight, env)


def create_cli_environment(
    simulator: Simulator, folder: Path, sight: ActivitySignal, env: Mapping[str, str]
) -> CliEnvironment:
    shrink_socket_buffers(simulator)
    environment = CliEnvironment(simulator, folder / "out")
    environment.sight = sight
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("BULKDL_", "UP42_"))}
    first = simulator.projects[0]
    own_key = {"UP42_PROJECT_ID": first.id, "UP42_PROJECT_API_KEY": first.api_key}
    environment.env = {
        **kept,
        "PYTHONPATH": PROCESS_PATH,
        "BULKDL_API_URL": simulator.api_url,
        "BULKDL_OUTPUT": str(environment.root),
        "BULKDL_RETRY_BASE_DELAY": "0.01",
        **(own_key if not any(key.startswith(("UP42_", "BULKDL_CONFIG")) for key in env) else {}),
        **env,
    }
    return environment
