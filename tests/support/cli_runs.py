"""
The command line as a process that can be stopped at a place in its work.

Nobody sleeps: a test waits until the simulator has seen a request or sent so many bytes, or until the
process has logged an event, and goes on from there.
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

from bulkdl.simulator import Faults, RequestRecord, SimulatedAccount, Simulator
from bulkdl.simulator.sender import Sender
from support.fault_runs import RunEnvironment

ROOT = Path(__file__).resolve().parents[2]
FOREVER_S = 3600.0
# What an interpreter says of work that was left lying about.
UNEXPECTED_STDERR = (
    "Traceback",
    "was destroyed",
    "never retrieved",
    "never awaited",
    "Unclosed",
    "Exception ignored",
)
SLACK_BYTES = 300_000  # what sockets on this machine may hold of all connections together
SOCKETS_BYTES = 128 << 10  # and of each that is closed with something in it


class ActivitySignal:
    """Wakes who waits whenever the simulator or a process has done something."""

    def __init__(self) -> None:
        self._stirred = asyncio.Event()

    def notify(self) -> None:
        self._stirred.set()

    async def wait_until(self, fits: Callable[[], object], unless: Callable[[], object]) -> None:
        """Return once *fits*; if *unless* comes first, that is a failure."""
        async with asyncio.timeout(30):
            while not fits():
                assert not unless(), "the process has ended before"
                self._stirred.clear()
                await self._stirred.wait()


@contextmanager
def signal_simulator_activity() -> Iterator[ActivitySignal]:
    """Simulators wake the sight until left."""
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
    """A process; its output is read as it comes, so that it never waits for us."""

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
        return [each for each in self.events if each["event"] == event]

    async def wait_until(self, fits: Callable[[], object]) -> None:
        await self._sight.wait_until(fits, self._reading[1].done)

    def send_signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._stopped_at = time.monotonic()
        self.process.send_signal(number)

    async def wait_for_exit(self, within_s: float = 30) -> int:
        """Its exit code; it has *within_s* from the last signal, or from now."""
        try:
            async with asyncio.timeout(within_s):
                await asyncio.gather(*self._reading)
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            pytest.fail(f"still at work after {within_s} s:\n{self.log[-3000:]}")

    @property
    def summary(self) -> dict[str, Any]:
        """What ``--format json`` printed."""
        document: dict[str, Any] = json.loads(self.out)
        return document

    def has_clean_stderr(self) -> bool:
        """Nothing but log lines on stderr, and nothing that was left lying about."""
        assert [word for word in UNEXPECTED_STDERR if word in self.log + self.out] == [], self.log
        for line in self.log.splitlines():
            assert line.startswith("{"), self.log
        return True


class CliEnvironment(RunEnvironment):
    """A simulator, a directory, and the command line between them."""

    sight: ActivitySignal
    env: Mapping[str, str]

    async def start(self, *args: str, command: str = "run", code: str = "", **env: str) -> BulkdlProcess:
        """*code* is Python that is executed instead of ``-m bulkdl``."""
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
        """The same, waited for."""
        running = await self.start(*args, command=command, **env)
        await running.wait_for_exit()
        return running

    def set_faults(self, *rules: Mapping[str, Any]) -> None:
        """From now on these faults and no others."""
        self.simulator.faults = Faults.from_rules(*rules) if rules else None

    def requests_to(self, *endpoints: str) -> list[RequestRecord]:
        return [each for each in self.simulator.requests if each.endpoint in endpoints]

    @property
    def sent_bytes(self) -> int:
        """Bytes of archives that have left the storage."""
        return sum(each.sent_bytes for each in self.requests_to("object"))

    @property
    def run_reports(self) -> list[dict[str, Any]]:
        """Of the runs, in their order."""
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
        """The last run has left a report and a ledger that agree, and nothing of itself."""
        assert self.run_reports[-1]["exit_code"] == exit_code
        assert self.query_ledger("PRAGMA integrity_check") == [("ok",)]
        runs = self.query_ledger("SELECT exit_code, finished_at FROM runs ORDER BY started_at")
        assert runs[-1][0] == exit_code
        assert runs[-1][1]
        assert self.query_ledger("SELECT * FROM lease") == []
        assert self.find_wrong_files() == []
        return True


def shrink_socket_buffers(simulator: Simulator) -> None:
    """What waits in sockets when a process ends has been sent and yet never come: let it be little."""
    site = simulator._listeners["storage"]._site
    assert site is not None
    for listening in site._server.sockets:  # type: ignore[union-attr]
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)


@asynccontextmanager
async def cli_environment(
    folder: Path, account: SimulatedAccount, *, simulator_options: Mapping[str, Any] | None = None, **env: str
) -> AsyncIterator[CliEnvironment]:
    """*env* replaces the credentials of the first project, if it has others."""
    with signal_simulator_activity() as sight:
        async with Simulator(account, **(simulator_options or {})) as simulator:
            yield create_cli_environment(simulator, folder, sight, env)


def create_cli_environment(
    simulator: Simulator, folder: Path, sight: ActivitySignal, env: Mapping[str, str]
) -> CliEnvironment:
    shrink_socket_buffers(simulator)
    here = CliEnvironment(simulator, folder / "out")
    here.sight = sight
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("BULKDL_", "UP42_"))}
    first = simulator.projects[0]
    own_key = {"UP42_PROJECT_ID": first.id, "UP42_PROJECT_API_KEY": first.api_key}
    here.env = {
        **kept,
        "PYTHONPATH": str(ROOT),
        "BULKDL_API_URL": simulator.api_url,
        "BULKDL_OUTPUT": str(here.root),
        "BULKDL_RETRY_BASE_DELAY": "0.01",
        **(own_key if not any(key.startswith(("UP42_", "BULKDL_CONFIG")) for key in env) else {}),
        **env,
    }
    return here
