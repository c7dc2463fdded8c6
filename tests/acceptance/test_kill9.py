"""
kill -9 at random moments, and the same command again, until it is done.

The moments are places in the work (so many bytes sent, so many requests answered), not in time. The
seed is printed; ``KILL_SEED`` repeats a run.
"""

import asyncio
import os
import random
import socket
import sqlite3
import sys
from asyncio.subprocess import Process
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkdl.simulator import Faults, SimulatedAccount
from bulkdl.simulator.sender import Sender
from support.fault_runs import RunEnvironment, files_by_output, run_environment
from support.run_processes import start_run, wait_for_run

pytestmark = pytest.mark.slow

KILLS = 3
ACCOUNT = SimulatedAccount(projects=1, jobs=6, archive_bytes=12_000_000)


class Odometer:
    """Bytes and replies that the simulator has sent; wakes who waits for so many more."""

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
    meter = Odometer()
    put, head = Sender._put, Sender._write_head

    async def counted_put(sender: Sender, request: object, data: bytes, chunked: bool) -> None:
        await put(sender, request, data, chunked)  # type: ignore[arg-type]
        meter.advance(len(data))

    async def counted_head(sender: Sender, request: object, chunked: bool) -> None:
        await head(sender, request, chunked)  # type: ignore[arg-type]
        meter.advance(20_000)  # a reply weighs as much as a few bytes, so that small ones count

    monkeypatch.setattr(Sender, "_put", counted_put)
    monkeypatch.setattr(Sender, "_write_head", counted_head)
    return meter


def with_little_under_way(here: RunEnvironment) -> None:
    """What waits in sockets when a process dies has been sent and yet never moved: let it be little."""
    here.simulator.faults = Faults.from_rules(
        {"fault": "drip", "bytes_per_s": 20_000_000, "server": "storage"}
    )
    site = here.simulator._listeners["storage"]._site
    assert site is not None
    for listening in site._server.sockets:  # type: ignore[union-attr]
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)


async def start(here: RunEnvironment, **env: str) -> Process:
    return await start_run(here, "--archive-concurrency", "2", **env)


async def killed(process: Process, odometer: Odometer, units: int) -> bool:
    """Kill *process* after so much more work; False when it was done before."""
    odometer.wait_for(units)
    goal = asyncio.create_task(odometer.reached.wait())
    end = asyncio.create_task(process.communicate())
    await asyncio.wait([goal, end], return_when=asyncio.FIRST_COMPLETED)
    was_at_work = process.returncode is None
    if was_at_work:
        process.kill()
    await end
    goal.cancel()
    return was_at_work


def told_and_there(root: Path) -> tuple[int, int]:
    """Outputs that the ledger holds for completed, and those of them whose file is there."""
    path = root / ".bulkdl" / "ledger.sqlite3"
    if not path.exists():
        return 0, 0
    connection = sqlite3.connect(path)
    try:
        told = connection.execute("SELECT count(*) FROM outputs WHERE state = 'completed'").fetchone()[0]
    except sqlite3.OperationalError:
        told = 0
    finally:
        connection.close()
    return told, len(files_by_output(root))


@pytest.mark.parametrize("connections", ["1", "4"])
async def test_killed_at_random_moments_it_ends_right_and_moves_little_twice(
    tmp_path: Path, odometer: Odometer, connections: str
) -> None:
    seed = int(os.environ.get("KILL_SEED") or random.randrange(1_000_000))
    sys.stdout.write(f"KILL_SEED={seed}\n")
    dice = random.Random(seed)
    divided = {
        "BULKDL_CONNECTIONS": connections,
        "BULKDL_SEGMENT_MIN_SIZE": str(1 << 20),
        "BULKDL_SEGMENT_IF_SLOWER_THAN": "0",
    }
    async with run_environment(tmp_path, ACCOUNT) as here:
        with_little_under_way(here)
        here.remember_bodies()
        needed = here.needed_bytes
        for _ in range(KILLS):
            await killed(await start(here, **divided), odometer, dice.randrange(1, needed // KILLS))
            assert here.find_wrong_files() == []
            told, there = told_and_there(tmp_path)
            assert told == there
        process = await start(here, **divided)
        code, log = await wait_for_run(process)
        assert code == 0, log
        assert here.has_complete_output()
        sent = sum(each.sent_bytes for each in here.simulator.requests if each.endpoint == "object")
        assert sent <= 1.15 * needed
        before = len(here.simulator.requests)
        process = await start(here, **divided)
        await process.communicate()
        assert process.returncode == 0
        assert {each.endpoint for each in list(here.simulator.requests)[before:]} == {"token", "jobs"}


@pytest.mark.parametrize("units", [1, 60_000, 300_000, 1_000_000])
async def test_killed_early_it_begins_as_if_nothing_had_been(
    tmp_path: Path, odometer: Odometer, units: int
) -> None:
    """While the ledger is made, the token is had, the first documents are written."""
    async with run_environment(tmp_path, SimulatedAccount(projects=1, jobs=2, archive_bytes=20_000)) as here:
        assert await killed(await start(here), odometer, units) or units > 300_000
        assert here.find_wrong_files() == []
        process = await start(here)
        code, log = await wait_for_run(process)
        assert code == 0, log
        assert here.has_complete_output()
