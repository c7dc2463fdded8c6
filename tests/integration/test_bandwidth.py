"""Test the bandwidth limit with a clock that moves only while all work waits."""

import time
from pathlib import Path

import pytest

from bulkdl.simulator import SimulatedAccount
from support.fault_runs import run_environment

ACCOUNT = SimulatedAccount(projects=1, jobs=4, archive_bytes=1_000_000)
BYTES_PER_S = 1_500_000


@pytest.mark.usefixtures("virtual_clock")
@pytest.mark.parametrize("archive_concurrency", [1, 4])
async def test_run_with_a_bandwidth_limit_downloads_at_the_limit(
    tmp_path: Path, archive_concurrency: int
) -> None:
    """The amount of one second may arrive at once. The time of the work itself does not count."""
    settings = {"bwlimit": str(BYTES_PER_S), "only": ["archive"], "archive_concurrency": archive_concurrency}
    async with run_environment(tmp_path, ACCOUNT, **settings) as environment:
        started_s = time.monotonic()
        record = await environment.run()
        elapsed_s = time.monotonic() - started_s
        assert record.exit_code == 0
        assert record.sent_bytes == environment.needed_bytes
    limit_s = environment.needed_bytes / BYTES_PER_S
    assert limit_s - 1 <= elapsed_s <= 1.05 * limit_s
