"""A program that uses the public API of bulkdl. test_public_api.py checks its types with mypy."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import assert_type

from bulkdl import (
    BaseProcessor,
    CompletedOutput,
    ConfigError,
    DerivedFile,
    Downloader,
    DownloadError,
    Event,
    LocalFile,
    Outcome,
    Output,
    OutputArea,
    OutputLockedError,
    Plan,
    Processor,
    Reason,
    Reporter,
    Result,
    Selection,
    Settings,
    Summary,
    run_processors,
)


class CountingReporter:
    """A reporter of an application."""

    def __init__(self) -> None:
        self.events = 0

    def report(self, event: Event) -> None:
        self.events += 1


class SizeProcessor(BaseProcessor):
    """A processor of an application."""

    name = "size"
    version = 1

    async def process(
        self, file: LocalFile, record: CompletedOutput, area: OutputArea
    ) -> Sequence[DerivedFile]:
        size_bytes = await area.run(lambda _stop: file.path.stat().st_size)
        assert_type(size_bytes, int)
        return [await area.write(f"{record.file.key}.size", b"%d" % size_bytes)]


async def process_again(output: Path) -> int:
    processor: Processor = SizeProcessor()
    summary = await run_processors(Settings(output=output), processors=[processor])
    assert_type(summary, Summary)
    return summary.derived["size"].completed


async def list_failures(output: Path) -> list[Output]:
    settings = Settings(output=output, only=frozenset({"archive"}))
    reporter: Reporter = CountingReporter()
    failed: list[Output] = []
    async with Downloader(settings, reporter=reporter) as downloader:
        assert_type(await downloader.plan(Selection.of(settings)), Plan)
        async with downloader.stream() as results:
            async for result in results:
                assert_type(result, Result)
                assert_type(result.reason, Reason)
                if result.outcome is Outcome.FAILED:
                    failed.append(result.output)
        assert_type(downloader.summary, Summary | None)
    return failed


def main() -> int:
    try:
        asyncio.run(list_failures(Path("outputs")))
    except OutputLockedError as error:
        print(error.host, error.pid)  # noqa: T201
        return 1
    except DownloadError as error:
        assert_type(error.reason, Reason)
        return 1
    except ConfigError as error:
        assert_type(error.problem, str)
        return 2
    return 0
