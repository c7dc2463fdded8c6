"""The wall clock jumps during a run: tokens, signed URLs, the lease and cooldowns do not depend on it."""

from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest

from bulkdl.simulator import SimulatedAccount
from support.fault_runs import run_environment

ACCOUNT = SimulatedAccount(projects=1, jobs=6, archive_bytes=1_500_000)
MODULES = [
    "bulkdl.graph.downloader",
    "bulkdl.http.errors",
    "bulkdl.ledger.locked",
    "bulkdl.ledger.rows",
    "bulkdl.transfer.remote_files",
    "bulkdl.transfer.response_rules",
]


def jumping_datetime(jump: timedelta, after: int) -> type[datetime]:
    """Return a datetime class whose ``now`` is shifted by *jump* from call number *after* on."""
    calls = 0

    class JumpingDatetime(datetime):
        @classmethod
        def now(cls, tz=None):
            nonlocal calls
            calls += 1
            return datetime.now(tz or UTC) + (jump if calls > after else timedelta())

    return JumpingDatetime


@pytest.mark.parametrize("after", [3, 12, 40])
@pytest.mark.parametrize(
    "jump", [timedelta(hours=2), timedelta(hours=-2), timedelta(days=10_950), timedelta(days=-10_950)]
)
async def test_run_over_a_jump_of_the_wall_clock_downloads_everything_once(
    tmp_path, monkeypatch, jump, after
):
    clock = jumping_datetime(jump, after)
    for name in MODULES:
        monkeypatch.setattr(import_module(name), "datetime", clock)
    async with run_environment(tmp_path / "out", ACCOUNT) as environment:
        result = await environment.run()
        assert result.exit_code == 0
        assert environment.has_complete_output()
        assert result.downloaded_bytes == environment.needed_bytes
