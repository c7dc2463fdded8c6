"""
Kill the run with SIGKILL at random points, and repeat the same command until it succeeds.

The points are amounts of work (bytes and responses sent), not times. The seed is printed. ``KILL_SEED``
repeats a run.
"""

import asyncio
import os
import random
import sqlite3
import sys
from asyncio.subprocess import Process
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkdl.simulator import Faults, SimulatedAccount
from bulkdl.simulator.sender import Sender
from support.cli_runs import shrink_socket_buffers
from support.fault_runs import RunEnvironment, files_by_output, run_environment
from support.run_processes import start_run, wait_for_run

pytestmark = pytest.mark.slow

KILLS = 3
ACCOUNT = SimulatedAccount(projects=1, jobs=6, archive_bytes=12_000_000)


class Odometer:
    """Counts the bytes and responses that the simulator has sent, and sets an event at a goal."""

    def __init__(self) -> None:
        self.units = 0
        self.goal = float("inf")
        self.reached = asyncio.Event()

    def advance(self, units: int) -> None:
        self.units += units
        if self.units >= self.goal:
            self.reached.set()

    def wait_for(self, units: int) -> None:
        self.goal, self.reached = self.units + units, asyncio.Event()


@pytest.fixture
def odometer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Odometer]:
    odometer = Odometer()
    original_put, original_head = Sender._put, Sender._write_head

    async def counted_put(sender: Sender, request: object, data: bytes, chunked: bool) -> None:
        await original_put(sender, request, data, chunked)  # type: ignore[arg-type]
        odometer.advance(len(data))

    async def counted_head(sender: Sender, request: object, chunked: bool) -> None:
        await original_head(sender, request, chunked)  # type: ignore[arg-type]
        odometer.advance(20_000)  # a response counts as many bytes, so that small responses have a weight

    monkeypatch.setattr(Sender, "_put", counted_put)
    monkeypatch.setattr(Sender, "_write_head", counted_head)
    return odometer


def limit_bytes_in_transit(environment: RunEnvironment) -> None:
    """Limit the bytes in socket buffers, which are sent but lost when a process is killed."""
    environment.simulator.faults = Faults.from_rules(
        {"fault": "drip", "bytes_per_s": 20_000_000, "server": "storage"}
    )
    shrink_socket_buffers(environment.simulator)


async def start(environment: RunEnvironment, **env: str) -> Process:
    return await start_run(environment, "--archive-concurrency", "2", **env)


async def kill_after(process: Process, odometer: Odometer, units: int) -> bool:
    """Kill *process* after *units* more work. Return False if it ended before."""
    odometer.wait_for(units)
    goal = asyncio.create_task(odometer.reached.wait())
    end = asyncio.create_task(process.communicate())
    await asyncio.wait([goal, end], return_when=asyncio.FIRST_COMPLETED)
    was_running = process.returncode is None
    if was_running:
        process.kill()
    await end
    goal.cancel()
    return was_running


def count_recorded_and_files(root: Path) -> tuple[int, int]:
    """Return the number of recorded completed outputs, and the number of output files."""
    path = root / ".bulkdl" / "ledger.sqlite3"
    if not path.exists():
        return 0, 0
    connection = sqlite3.connect(path)
    try:
        recorded = connection.execute("SELECT count(*) FROM outputs WHERE state = 'completed'").fetchone()[0]
    except sqlite3.OperationalError:
        recorded = 0
    finally:
        connection.close()
    return recorded, len(files_by_output(root))


@pytest.mark.parametrize("connections", ["1", "4"])
async def test_run_killed_at_random_points_completes_with_few_repeated_bytes(
    tmp_path: Path, odometer: Odometer, connections: str
) -> None:
    seed = int(os.environ.get("KILL_SEED") or random.randrange(1_000_000))
    sys.stdout.write(f"KILL_SEED={seed}\n")
    rng = random.Random(seed)
    segment_settings = {
        "BULKDL_CONNECTIONS": connections,
        "BULKDL_SEGMENT_MIN_SIZE": str(1 << 20),
        "BULKDL_SEGMENT_IF_SLOWER_THAN": "0",
    }
    async with run_environment(tmp_path, ACCOUNT) as environment:
        limit_bytes_in_transit(environment)
        environment.remember_bodies()
        needed = environment.needed_bytes
        for _ in range(KILLS):
            await kill_after(
                await start(environment, **segment_settings), odometer, rng.randrange(1, needed // KILLS)
            )
            assert environment.find_wrong_files() == []
            recorded, files = count_recorded_and_files(tmp_path)
            assert recorded == files
        process = await start(environment, **segment_settings)
        code, log = await wait_for_run(process)
        assert code == 0, log
        assert environment.has_complete_output()
        sent = sum(
            request.sent_bytes for request in environment.simulator.requests if request.endpoint == "object"
        )
        assert sent <= 1.15 * needed
        before = len(environment.simulator.requests)
        process = await start(environment, **segment_settings)
        await process.communicate()
        assert process.returncode == 0
        assert {request.endpoint for request in list(environment.simulator.requests)[before:]} == {
            "token",
            "jobs",
        }


@pytest.mark.parametrize("units", [1, 60_000, 300_000, 1_000_000])
async def test_run_killed_early_completes(tmp_path: Path, odometer: Odometer, units: int) -> None:
    """The ledger is created, the token is requested, and the first documents are written."""
    async with run_environment(
        tmp_path, SimulatedAccount(projects=1, jobs=2, archive_bytes=20_000)
    ) as environment:
        assert await kill_after(await start(environment), odometer, units) or units > 300_000
        assert environment.find_wrong_files() == []
        process = await start(environment)
        code, log = await wait_for_run(process)
        assert code == 0, log
        assert environment.has_complete_output()
