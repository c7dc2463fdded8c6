"""Two runs on one directory: the second run exits immediately. A run takes over the lock of a dead run."""

import asyncio
import os
import signal
import socket
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bulkdl.errors import OutputLockedError
from bulkdl.ledger import lease
from bulkdl.simulator import SimulatedAccount
from bulkdl.simulator.faults import Rule
from bulkdl.simulator.messages import ReceivedRequest
from support.fault_runs import RecordingFaults, RunEnvironment, run_environment
from support.run_processes import start_run, wait_for_run

ACCOUNT = SimulatedAccount(projects=1, jobs=1, archive_bytes=50_000)
OTHER_HOST = "other-host"


class DownloadSignal(RecordingFaults):
    """Faults that set an event when an archive is requested."""

    def __init__(self, rules: list[Rule], seed: int = 0) -> None:
        super().__init__(rules, seed)
        self.requested = asyncio.Event()

    def select_rules(self, call: ReceivedRequest) -> list[Rule]:
        if call.endpoint == "object":
            self.requested.set()
        return super().select_rules(call)


async def test_second_run_on_a_locked_directory_exits_with_11_and_names_the_owner(tmp_path: Path) -> None:
    async with run_environment(tmp_path, ACCOUNT) as environment:
        faults = DownloadSignal.from_rules({"fault": "stall", "at_byte": 1000, "server": "storage", "nth": 1})
        environment.simulator.faults = faults
        first = await start_run(environment)
        await faults.requested.wait()
        code, output = await wait_for_run(await start_run(environment))
        assert code == 11
        assert socket.gethostname() in output
        assert f"pid {first.pid}" in output
        assert f"since {datetime.now(UTC):%Y-%m-%d}" in output
        assert len(output.strip().splitlines()) == 1
        # The second run sent no request.
        assert [request.endpoint for request in environment.simulator.requests].count("token") == 1
        first.send_signal(signal.SIGKILL)
        await first.wait()
        # The owner is dead, so the next run does not observe its lease.
        code, output = await wait_for_run(await start_run(environment))
        assert code == 0, output
        assert environment.has_complete_output()


def write_lease(root: Path, age_s: float) -> None:
    """Write the lease of a run on another host, with a heartbeat *age_s* before now."""
    beat_at = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat()
    connection = sqlite3.connect(root / ".bulkdl" / "ledger.sqlite3")
    with connection:
        connection.execute(
            "INSERT OR REPLACE INTO lease (id, run_id, host, pid, since_at, beat_at)"
            " VALUES (1, ?, ?, ?, ?, ?)",
            ("other-run", OTHER_HOST, os.getpid(), beat_at, beat_at),
        )
    connection.close()


async def create_directory_with_lease(environment: RunEnvironment, age_s: float) -> None:
    assert (await environment.run()).exit_code == 0
    write_lease(environment.root, age_s)


@pytest.mark.parametrize("age_s", [5, 50, -30])
async def test_run_with_a_recent_heartbeat_of_another_host_is_rejected(tmp_path: Path, age_s: float) -> None:
    async with run_environment(tmp_path, ACCOUNT) as environment:
        await create_directory_with_lease(environment, age_s)
        with pytest.raises(OutputLockedError, match=OTHER_HOST):
            await environment.run()


@pytest.mark.parametrize("age_s", [70, 86_400, -86_400])
async def test_run_with_a_stale_heartbeat_of_another_host_takes_over_after_the_observation(
    tmp_path: Path, age_s: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A negative age is a clock that is ahead. The observation is shorter here than in production."""
    monkeypatch.setattr(lease, "OBSERVATION_S", 0.3)
    caplog.set_level("INFO", "bulkdl")
    async with run_environment(tmp_path, ACCOUNT) as environment:
        await create_directory_with_lease(environment, age_s)
        assert (await environment.run()).exit_code == 0
    events = [record.msg["event"] for record in caplog.records if isinstance(record.msg, dict)]
    assert "lease.observed" in events


@pytest.mark.parametrize(("age_s", "exit_code"), [(5, 11), pytest.param(70, 0, marks=pytest.mark.slow)])
async def test_command_with_a_lease_of_another_host_observes_only_a_stale_heartbeat(
    tmp_path: Path, age_s: float, exit_code: int
) -> None:
    """The observation takes 20 s."""
    async with run_environment(tmp_path, ACCOUNT) as environment:
        await create_directory_with_lease(environment, age_s)
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        code, output = await wait_for_run(await start_run(environment))
        assert code == exit_code, output
        assert (OTHER_HOST in output) is (exit_code == 11)
        assert (loop.time() - started_at >= lease.OBSERVATION_S) is (exit_code == 0)
