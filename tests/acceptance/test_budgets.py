"""The limits of duration, volume and bandwidth, with the command line as a process."""

import signal
from pathlib import Path
from typing import Any

import pytest

from bulkdl.settings import Settings
from bulkdl.simulator import SimulatedAccount
from support.cli_runs import FOREVER_S, BulkdlProcess, CliEnvironment, cli_environment
from support.fault_runs import RecordingFaults

ARCHIVE_BYTES = 1_000_000
FOUR = SimulatedAccount(projects=1, jobs=4, archive_bytes=ARCHIVE_BYTES)
SLOW = {"fault": "drip", "bytes_per_s": 2_000_000, "server": "storage"}
ONE_AT_A_TIME = ("--archive-concurrency", "1", "--format", "json")


def gone(endpoint: str, status: int) -> dict[str, Any]:
    return {"fault": "status", "status": status, "endpoint": endpoint, "level": "job"}


async def run_until_complete(environment: CliEnvironment, *args: str) -> list[BulkdlProcess]:
    """Repeat the command until it exits with 0."""
    processes = [await environment.bulkdl(*args)]
    while processes[-1].process.returncode not in (0, 2) and len(processes) < 10:
        processes.append(await environment.bulkdl(*args))
    return processes


def exit_codes(processes: list[BulkdlProcess]) -> list[int | None]:
    return [process.process.returncode for process in processes]


async def test_max_transfer_exits_with_8_and_repeated_runs_download_each_byte_once(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, FOUR) as environment:
        environment.remember_bodies()
        processes = await run_until_complete(environment, "--max-transfer", "1.2M", *ONE_AT_A_TIME)
        assert set(exit_codes(processes)[:-1]) == {8}
        assert exit_codes(processes)[-1] == 0, processes[-1].log
        assert 3 <= len(processes) <= 5
        assert all(process.has_clean_stderr() for process in processes)
        assert [report["stopped_by"] for report in environment.run_reports] == [8] * (len(processes) - 1) + [
            None
        ]
        for process in processes:
            assert process.summary["downloaded_bytes"] < 1_300_000 + 2 * ARCHIVE_BYTES
            assert process.summary["outputs"]["failed"] == 0
        assert environment.has_complete_output()
        assert environment.sent_bytes == environment.needed_bytes
        assert environment.has_consistent_state(0)


async def test_max_duration_exits_with_10_and_finishes_running_downloads(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, FOUR) as environment:
        # The first archive starts before the limit, even on a busy machine, and ends after it.
        environment.set_faults({**SLOW, "bytes_per_s": 300_000})
        process = await environment.bulkdl("--max-duration", "2", *ONE_AT_A_TIME)
        assert process.process.returncode == 10
        assert process.has_clean_stderr()
        assert environment.has_consistent_state(10)
        archives = {
            row["outcome"]: row["outputs"] for row in process.summary["counts"] if row["kind"] == "archive"
        }
        assert archives["completed"] == 1
        environment.set_faults()
        again = await environment.bulkdl("--max-duration", "1h", *ONE_AT_A_TIME)
        assert again.process.returncode == 0, again.log
        assert environment.has_complete_output()
        assert environment.sent_bytes == environment.needed_bytes


async def test_max_duration_applies_while_the_api_does_not_respond(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, FOUR) as environment:
        environment.set_faults({"fault": "latency", "seconds": FOREVER_S, "endpoint": "token"})
        process = await environment.bulkdl("--max-duration", "0.2")
        assert process.process.returncode == 10
        assert environment.has_consistent_state(10)


async def test_limits_that_are_not_reached_do_not_change_the_run(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, FOUR) as environment:
        process = await environment.bulkdl(
            "--max-duration", "6h", "--max-transfer", "500G", "--format", "json"
        )
        assert process.process.returncode == 0
        assert not process.find_events("run.draining")
        assert environment.run_reports[-1]["stopped_by"] is None
        assert environment.has_complete_output()


@pytest.mark.usefixtures("virtual_clock")
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (410, 3),  # a permanent failure outranks the limit
        (503, 8),  # the limit outranks a temporary failure
    ],
)
async def test_exit_code_ranks_failures_above_limits_above_temporary_failures(
    tmp_path: Path, status: int, code: int
) -> None:
    account = SimulatedAccount(projects=1, jobs=1, archive_bytes=ARCHIVE_BYTES)
    async with cli_environment(tmp_path, account) as environment:
        record = await environment.run(
            {**SLOW, "bytes_per_s": 600_000},
            gone("geojson", status),
            max_transfer="200K",
            retries=0,
            archive_concurrency=1,
        )
        assert record.exit_code == code
        assert environment.has_consistent_state(code)
        assert environment.run_reports[-1]["stopped_by"] == 8
        assert record.summary.as_dict()["failures_total"] == 1


async def test_signal_during_the_drain_of_a_limit_sets_the_exit_code_without_an_abort(tmp_path: Path) -> None:
    """Report and process have the exit code of the signal."""
    account = SimulatedAccount(projects=1, jobs=1, archive_bytes=ARCHIVE_BYTES)
    async with cli_environment(tmp_path, account) as environment:
        environment.set_faults(SLOW)
        run = await environment.start("--max-transfer", "100K", *ONE_AT_A_TIME)
        await run.wait_until(lambda: run.find_events("run.draining"))
        assert environment.sent_bytes < ARCHIVE_BYTES
        run.send_signal(signal.SIGTERM)
        assert await run.wait_for_exit() == 143
        assert environment.has_consistent_state(143)
        assert environment.run_reports[-1]["stopped_by"] == 143
        (archive, *_) = environment.root.rglob("*.tar.gz")
        assert environment.sent_bytes >= archive.stat().st_size
        assert run.find_events("transfer.completed")


async def test_bwlimit_limits_the_bandwidth(tmp_path: Path) -> None:
    """
    The amount of one second can arrive at once. The other bytes arrive at the limit.

    Socket buffers hold whole archives before they are read. The test therefore measures the times of the
    archive requests. tests/integration/test_bandwidth.py checks that the limit is reached.
    """
    (bytes_per_s,) = (rate for _, rate in Settings(bwlimit="1.5M").bwlimit.entries)
    async with cli_environment(tmp_path, FOUR) as environment:
        environment.simulator.faults = faults = RecordingFaults([])
        run = await environment.bulkdl("--bwlimit", "1.5M", "--only", "archive", *ONE_AT_A_TIME)
        assert run.process.returncode == 0
        requested_at = [at for at, call, _ in faults.calls if call.endpoint == "object"]
        assert environment.sent_bytes == environment.needed_bytes
        sizes = [request.sent_bytes for request in environment.requests_to("object")]
    paced_bytes = sum(sizes[:-1]) - bytes_per_s
    assert paced_bytes > 0.8 * bytes_per_s
    assert paced_bytes / (requested_at[-1] - requested_at[0]) <= 1.1 * bytes_per_s
