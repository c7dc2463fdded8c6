"""Test budgets that end exactly with the last required byte."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bulkdl.graph.downloader import Downloader
from bulkdl.graph.pools import OutputDownloader
from bulkdl.models import Outcome, Result
from bulkdl.report.summary import Summary
from bulkdl.selection import Selection
from bulkdl.simulator import SimulatedAccount
from bulkdl.sources.up42_jobs.models import Kind
from bulkdl.telemetry.events import EnumerationFinished, Event
from support.fault_runs import RunEnvironment, run_environment

# Two objects and three archives: the archive of the job is a link to that of its last task.
ACCOUNT = SimulatedAccount(projects=1, jobs=1, archive_bytes=1_500_000)


class AllListed:
    """A reporter that sets an event when the enumeration has ended."""

    def __init__(self) -> None:
        self.listed = asyncio.Event()

    def report(self, event: Event) -> None:
        if isinstance(event, EnumerationFinished):
            self.listed.set()


async def archives_within(
    environment: RunEnvironment, budget_bytes: int, patch: pytest.MonkeyPatch
) -> Summary:
    """Delay all downloads until the enumeration has ended."""
    download, reporter = OutputDownloader.download, AllListed()

    async def later(output_downloader: OutputDownloader, *args: Any, **more: Any) -> Result:
        await reporter.listed.wait()
        return await download(output_downloader, *args, **more)

    patch.setattr(OutputDownloader, "download", later)
    settings = environment.downloader(archive_concurrency=1, max_transfer=budget_bytes)._settings
    async with Downloader(settings, credentials=environment.credentials(), reporter=reporter) as downloader:
        return await downloader.run(Selection(kinds=frozenset({Kind.ARCHIVE})))


@pytest.mark.parametrize("short_of_bytes", [0, 1, 1000])
async def test_run_that_uses_up_its_budget_with_the_last_byte_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_of_bytes: int
) -> None:
    async with run_environment(tmp_path, ACCOUNT) as environment:
        summary = await archives_within(environment, environment.needed_bytes - short_of_bytes, monkeypatch)
        assert (summary.exit_code, summary.stopped_by) == (0, None)
        assert summary.outputs(Outcome.COMPLETED) == summary.outputs() == 3
        assert environment.find_wrong_files() == []


async def test_run_that_uses_up_its_budget_early_reports_missing_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_environment(tmp_path, ACCOUNT) as environment:
        summary = await archives_within(environment, 1000, monkeypatch)
        assert (summary.exit_code, summary.stopped_by) == (8, 8)
        assert 0 < summary.outputs(Outcome.COMPLETED) < summary.outputs() == 3
