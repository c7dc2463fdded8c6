"""Two runs on one directory: the second leaves at once; the lock of a dead run is taken over."""

import asyncio
import os
import signal
import socket
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bulkdl.simulator import SimulatedAccount
from bulkdl.simulator.faults import Rule
from bulkdl.simulator.messages import ReceivedRequest
from support.fault_runs import Witness, world
from support.run_processes import start_run, wait_for_run

ACCOUNT = SimulatedAccount(projects=1, jobs=1, archive_bytes=50_000)


class Herald(Witness):
    """Tells when an archive is asked for."""

    def __init__(self, rules: list[Rule], seed: int = 0) -> None:
        super().__init__(rules, seed)
        self.at_work = asyncio.Event()

    def select_rules(self, call: ReceivedRequest) -> list[Rule]:
        if call.endpoint == "object":
            self.at_work.set()
        return super().select_rules(call)


async def test_the_second_run_leaves_at_once_and_names_the_owner(tmp_path: Path) -> None:
    async with world(tmp_path, ACCOUNT) as here:
        herald = Herald.from_rules({"fault": "stall", "at_byte": 1000, "server": "storage", "nth": 1})
        here.simulator.faults = herald
        first = await start_run(here)
        await herald.at_work.wait()
        code, told = await wait_for_run(await start_run(here))
        assert code == 11
        assert socket.gethostname() in told
        assert f"pid {first.pid}" in told
        assert f"since {datetime.now(UTC):%Y-%m-%d}" in told
        assert len(told.strip().splitlines()) == 1
        assert [each.endpoint for each in here.simulator.requests].count("token") == 1  # it asked nobody
        first.send_signal(signal.SIGKILL)
        await first.wait()
        code, told = await wait_for_run(await start_run(here))  # the owner is dead: no waiting for its lease
        assert code == 0, told
        assert here.is_right()


def hand_over(root: Path, *, host: str, pid: int, beat_at: datetime) -> None:
    """Somebody else has, or had, the directory."""
    connection = sqlite3.connect(root / ".bulkdl" / "ledger.sqlite3")
    with connection:
        connection.execute(
            "INSERT OR REPLACE INTO lease (id, run_id, host, pid, since_at, beat_at)"
            " VALUES (1, ?, ?, ?, ?, ?)",
            ("someone", host, pid, beat_at.isoformat(), beat_at.isoformat()),
        )
    connection.close()


@pytest.mark.parametrize(
    ("age_s", "exit_code"), [(5, 11), (50, 11), (70, 0), (86_400, 0), (-30, 11), (-86_400, 0)]
)
async def test_only_a_heartbeat_that_is_stale_is_taken_over(
    tmp_path: Path, age_s: int, exit_code: int
) -> None:
    """Of another host nothing is known but its heartbeat, and a clock may be wrong by a day."""
    async with world(tmp_path, ACCOUNT) as here:
        assert (await here.run()).exit_code == 0
        moment = datetime.now(UTC) - timedelta(seconds=age_s)
        hand_over(tmp_path, host="elsewhere", pid=os.getpid(), beat_at=moment)
        code, told = await wait_for_run(await start_run(here))
        assert code == exit_code, told
        assert ("elsewhere" in told) is (exit_code == 11)
