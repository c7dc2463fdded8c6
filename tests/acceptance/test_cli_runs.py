"""Test the support code for the command line: its checks accept an undisturbed run."""

from pathlib import Path

from bulkdl.simulator import SimulatedAccount
from support.cli_runs import cli_environment


async def test_run_without_a_stop_returns_0_without_warnings(tmp_path: Path) -> None:
    """The checks of other tests must not fail on an undisturbed run."""
    async with cli_environment(tmp_path, SimulatedAccount(projects=1, jobs=1, archive_bytes=50_000)) as here:
        ran = await here.bulkdl("--format", "json")
        assert await ran.wait_for_exit() == 0, ran.log
        assert ran.has_clean_stderr()
        assert here.has_consistent_state(0)
        assert here.has_complete_output()
        assert ran.summary["downloaded_bytes"] >= here.sent_bytes == here.needed_bytes
