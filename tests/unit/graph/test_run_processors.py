"""Processors on an existing directory, without network and credentials."""

import asyncio
import json

import pytest

from bulkdl import ConfigError, LedgerMissingError, ProcessorRunner, Selection, Settings, run_processors
from bulkdl.failure_policy import ExitCode
from bulkdl.ledger.locked import open_locked_ledger
from bulkdl.selection import ContainerSelector
from support.processing import CopyProcessor, processed_directory


@pytest.fixture
async def directory(tmp_path):
    async with processed_directory(tmp_path / "out", outputs=3) as opened:
        yield opened


def settings(directory, **changes):
    return Settings(output=directory.root, **changes)


async def test_run_processors_processes_every_output_once_and_writes_a_report(directory, monkeypatch):
    for name in ("UP42_PROJECT_ID", "UP42_PROJECT_API_KEY", "UP42_TOKEN", "UP42_USERNAME"):
        monkeypatch.delenv(name, raising=False)
    summary = await run_processors(settings(directory), processors=[CopyProcessor()])
    assert (summary.exit_code, summary.derived["copy"].completed) == (ExitCode.OK, 3)
    assert len(directory.derived_files()) == 3
    report = json.loads((directory.root / f".bulkdl/runs/{summary.run_id}.json").read_text())
    assert report["derived"] == [
        {"processor": "copy", "completed": 3, "skipped": 0, "failed": 0, "files": 3, "size_bytes": 27}
    ]
    again = await run_processors(settings(directory), processors=[CopyProcessor()])
    assert again.derived == {}


async def test_run_processors_with_a_selection_processes_its_outputs(directory):
    processor = CopyProcessor()
    await run_processors(
        settings(directory),
        selection=Selection(containers=(ContainerSelector("p", "j1"),)),
        processors=[processor],
    )
    assert processor.calls == ["j1"]


async def test_run_processors_without_a_ledger_fails(tmp_path):
    with pytest.raises(LedgerMissingError):
        await run_processors(Settings(output=tmp_path), processors=[CopyProcessor()])
    assert list(tmp_path.iterdir()) == []


async def test_run_processors_with_an_unknown_processor_fails(directory):
    with pytest.raises(ConfigError, match="unknown processor 'nope'"):
        await run_processors(settings(directory, processors=("nope",)))


async def test_processor_runner_when_it_is_stopped_leaves_the_rest_for_the_next_run(directory):
    runner = None

    async def stop(*_):
        runner.stop(ExitCode.TERMINATED)

    processor = CopyProcessor(before=stop)
    runner = ProcessorRunner(settings(directory, processing_threads=1), processors=[processor])
    summary = await runner.run()
    assert summary.exit_code is ExitCode.TERMINATED
    assert processor.calls == ["j0"]
    again = CopyProcessor()
    await run_processors(settings(directory), processors=[again])
    assert sorted(again.calls) == ["j1", "j2"]


async def test_run_processors_holds_the_lease_of_the_directory(directory):
    async def lock(*_):
        with pytest.raises(Exception, match="another run locks this output directory"):
            async with open_locked_ledger(directory.storage, "other"):
                raise AssertionError

    async with asyncio.timeout(60):
        summary = await run_processors(settings(directory), processors=[CopyProcessor(before=lock)])
    assert summary.exit_code is ExitCode.OK
