"""Tests of the support code for fault tests: it accepts a correct run and detects a wrong file."""

import asyncio
from pathlib import Path

import pytest

from support.fault_runs import SEGMENTED_SETTINGS, requested_offset, run_environment


async def test_run_without_faults_downloads_each_object_once(tmp_path: Path) -> None:
    async with run_environment(tmp_path) as environment:
        record = await environment.run()
        assert record.exit_code == 0
        assert environment.has_complete_output()
        assert record.downloaded_bytes == record.sent_bytes == environment.needed_bytes
        assert record.requested_offsets() == [[0], [0]]
        again = await environment.run()
    assert again.exit_code == 0
    assert {request.endpoint for request in again.requests} == {"token", "jobs"}


@pytest.mark.usefixtures("virtual_clock")
async def test_run_with_several_connections_splits_an_archive(tmp_path: Path) -> None:
    """One connection stalls, and the other connections download the following segments."""
    async with run_environment(tmp_path, **SEGMENTED_SETTINGS, speed_time=0.2) as environment:
        record = await environment.run({"fault": "stall", "at_byte": 500_000, "nth": 1, "server": "storage"})
        assert record.exit_code == 0
        assert environment.has_complete_output()
        assert record.downloaded_bytes == environment.needed_bytes
        assert all(max(offsets) > 1_000_000 for offsets in record.requested_offsets())
        assert all(
            "If-Range" in request.headers
            for request in record.requests_to("object")
            if requested_offset(request)
        )


async def test_find_wrong_files_detects_a_flipped_byte(tmp_path: Path) -> None:
    """The helpers of the tests must detect a flipped byte in a final file."""
    async with run_environment(tmp_path) as environment:
        await environment.run()
        victim = await asyncio.to_thread(lambda: next(tmp_path.rglob("task_output.tar.gz")))
        data = bytearray(victim.read_bytes())
        data[1000] ^= 1
        victim.write_bytes(data)
        assert str(victim.relative_to(tmp_path)) in environment.find_wrong_files()
