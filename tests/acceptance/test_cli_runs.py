"""Tests of the support code for the command line: it accepts an undisturbed run."""

from pathlib import Path

from bulkdl.simulator import SimulatedAccount
from support.cli_runs import place


async def test_a_run_that_nobody_stops_is_in_order_and_quiet(tmp_path: Path) -> None:
    """The tests' own eyes: what they look for is not there anyway."""
    async with place(tmp_path, SimulatedAccount(projects=1, jobs=1, archive_bytes=50_000)) as here:
        ran = await here.bulkdl("--format", "json")
        assert await ran.ended() == 0, ran.log
        assert ran.is_quiet()
        assert here.is_in_order(0)
        assert here.is_right()
        assert ran.summary["downloaded_bytes"] >= here.sent_bytes == here.needed_bytes
