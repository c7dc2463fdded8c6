"""Processors in runs of the library: with the stream of results, and without processors."""

import asyncio

import pytest

from support.library_runs import TAME, library_environment
from support.processing import CopyProcessor


@pytest.fixture
async def environment(tmp_path):
    async with library_environment(tmp_path, TAME) as opened:
        yield opened


class Archives(CopyProcessor):
    """Reports the first derived file."""

    def __init__(self):
        super().__init__()
        self.processed = asyncio.Event()

    def accepts(self, record):
        return record.output.kind == "archive"

    async def process(self, file, record, area):
        files = await super().process(file, record, area)
        self.processed.set()
        return files


async def test_stream_with_a_slow_consumer_does_not_delay_the_processors(environment):
    processor = Archives()
    async with environment.downloader(instances=[processor]) as downloader:
        received = []
        async with downloader.stream() as results:
            async for result in results:
                if not received:
                    async with asyncio.timeout(60):
                        await processor.processed.wait()  # the consumer waits for the processor
                received.append(result)
        summary = downloader.summary
    assert len(received) == sum(
        count.outputs for (_, outcome, reason), count in summary.counts.items() if reason != "up_to_date"
    )
    archives = [result for result in received if result.output.kind == "archive" and result.file]
    assert summary.derived["copy"].completed == len(archives) == len(processor.calls)
    for result in archives:
        derived = environment.output / f"{result.file.key}.copy"
        assert derived.read_bytes() == (environment.output / result.file.key).read_bytes()[::-1]


async def test_second_run_with_processors_requests_and_processes_nothing(environment):
    await environment.run(instances=[Archives()])
    again = Archives()
    summary = await environment.run(instances=[again])
    assert again.calls == []
    assert environment.storage_bytes() == 0
    assert summary.derived == {}


async def test_run_without_processors_has_no_stage(environment):
    async with environment.downloader() as downloader:
        assert downloader._processing is None
        summary = await downloader.run()
    assert summary.derived == {}
    assert not (environment.output / ".bulkdl" / "processing").exists()
