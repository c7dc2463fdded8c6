import asyncio
import signal
import sys

import pytest

from bulkdl.simulator import Faults, SimulatedAccount, Simulator
from bulkdl.telemetry.textfile import read_last_run

ACCOUNT = SimulatedAccount(projects=1, jobs=8, archive_bytes=3_000_000)
# Each archive stalls in the middle.
HELD = {"fault": "stall", "at_byte": 1_500_000, "seconds": 3600.0, "endpoint": "object"}


@pytest.mark.parametrize("command", [["plan"], ["run", "--dry-run"]])
async def test_plan_does_not_listen_or_write_metrics(tmp_path, command):
    async with Simulator(ACCOUNT) as simulator:
        project = simulator.projects[0]
        env = {
            "UP42_PROJECT_ID": project.id,
            "UP42_PROJECT_API_KEY": project.api_key,
            "BULKDL_API_URL": simulator.api_url,
            "BULKDL_OUTPUT": str(tmp_path / "out"),
            "BULKDL_LISTEN": simulator.api_url.removeprefix("http://"),  # this port is already in use
            "BULKDL_METRICS_FILE": str(tmp_path / "bulkdl.prom"),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bulkdl", *command, env=env, stdout=asyncio.subprocess.DEVNULL
        )
        assert await process.wait() == 0
    assert list(tmp_path.iterdir()) == []


async def test_signal_sets_the_exit_code_in_the_metrics_file(tmp_path):
    path = tmp_path / "bulkdl.prom"
    async with Simulator(ACCOUNT, faults=Faults.from_rules(HELD)) as simulator:
        project = simulator.projects[0]
        command = [
            sys.executable,
            "-m",
            "bulkdl",
            "run",
            "-o",
            str(tmp_path / "out"),
            "--shutdown-timeout",
            "0",
        ]
        command += ["--api-url", simulator.api_url, "--metrics-file", str(path), "--listen", "127.0.0.1:0"]
        env = {"UP42_PROJECT_ID": project.id, "UP42_PROJECT_API_KEY": project.api_key}
        process = await asyncio.create_subprocess_exec(
            *command, env=env, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        assert process.stderr
        lines = [await process.stderr.readline()]
        assert b"status_page.listening" in lines[0]
        while b"transfer.completed" not in lines[-1]:
            lines.append(await process.stderr.readline())
            assert lines[-1], b"".join(lines)
        process.send_signal(signal.SIGTERM)
        lines.append(await process.stderr.read())
        assert await process.wait() == 143
    last_run = read_last_run(path)
    assert last_run is not None
    assert last_run[1] == 143
    assert project.api_key.encode() not in b"".join(lines) + path.read_bytes()
