"""Test the support code for the command line: its checks accept an undisturbed run."""

from pathlib import Path

from bulkdl.simulator import SimulatedAccount
from support.cli_runs import cli_environment


async def test_run_without_a_stop_returns_0_without_warnings(tmp_path: Path) -> None:
    """The checks of other tests must not fail on an undisturbed run."""
    async with cli_environment(
        tmp_path, SimulatedAccount(projects=1, jobs=1, archive_bytes=50_000)
    ) as environment:
        run = await environment.bulkdl("--format", "json")
        assert await run.wait_for_exit() == 0, run.log
        assert run.has_clean_stderr()
        assert environment.has_consistent_state(0)
        assert environment.has_complete_output()
        assert run.summary["downloaded_bytes"] >= environment.sent_bytes == environment.needed_bytes
