"""Test the lifecycle of a Downloader: open, run, leave early, stop, run again, close."""

import asyncio
import gc
import random
import sqlite3
import threading

import pytest

from bulkdl import Downloader, Settings
from bulkdl.errors import DownloaderStateError, LedgerError, OutputLockedError
from bulkdl.failure_policy import ExitCode
from bulkdl.models import Outcome, Result
from bulkdl.simulator import Faults
from support.library_runs import TAME, LibraryEnvironment, library_environment

SLOW_S = 0.01


@pytest.fixture
async def slow(tmp_path):
    """Return an environment with a slow API, so that a run takes some time."""
    async with library_environment(tmp_path, TAME, latency_s=SLOW_S) as made:
        yield made


def lease_rows(site: LibraryEnvironment) -> int:
    path = site.output / ".bulkdl" / "ledger.sqlite3"
    if not path.exists():
        return 0
    connection = sqlite3.connect(path)
    try:
        tables = "SELECT count(*) FROM sqlite_master WHERE name = 'lease'"
        if not connection.execute(tables).fetchone()[0]:
            return 0
        return int(connection.execute("SELECT count(*) FROM lease").fetchone()[0])
    finally:
        connection.close()


def internal_failures(site: LibraryEnvironment) -> int:
    connection = sqlite3.connect(site.output / ".bulkdl" / "ledger.sqlite3")
    try:
        return int(connection.execute("SELECT count(*) FROM outputs WHERE reason = 'internal'").fetchone()[0])
    finally:
        connection.close()


def other_tasks() -> set[asyncio.Task]:
    """Return the tasks of the library that are not done, without the servers of the simulator."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return {task for task in tasks if "RequestHandler" not in str(task.get_coro())}


async def take(downloader: Downloader, number: int, *, error: type[Exception] | None = None) -> list[Result]:
    """Take *number* results of a run, then leave it, or raise *error* inside of its block."""
    taken: list[Result] = []
    async with downloader.stream() as results:
        async for result in results:
            taken.append(result)
            if len(taken) == number:
                break
        if error is not None:
            raise error
    return taken


async def seen_by(site: LibraryEnvironment, endpoint: str) -> None:
    """Wait until the simulator has received a request for *endpoint*."""
    async with asyncio.timeout(10):
        while not any(request.endpoint == endpoint for request in site.simulator.requests):  # noqa: ASYNC110
            await asyncio.sleep(SLOW_S)


async def test_stream_break_stops_the_run_and_the_next_run_works(slow):
    async with slow.downloader() as downloader:
        assert len(await take(downloader, 1)) == 1
        assert other_tasks() == set()
        assert lease_rows(slow) == 0
        assert len(slow.read_files()) < len(slow.expected_files())
        assert (await downloader.run()).exit_code is ExitCode.OK
    assert slow.read_files() == slow.expected_files()
    assert internal_failures(slow) == 0


async def test_stream_exception_in_the_block_stops_the_run(slow):
    async with slow.downloader() as downloader:
        with pytest.raises(ZeroDivisionError):
            await take(downloader, 1, error=ZeroDivisionError)
        assert other_tasks() == set()
        assert lease_rows(slow) == 0
        assert (await downloader.run()).exit_code is ExitCode.OK


async def test_stream_cancelled_task_stops_the_run(slow):
    first = asyncio.Event()

    async def work(downloader):
        async with downloader.stream() as results:
            async for _ in results:
                first.set()

    async with slow.downloader() as downloader:
        task = asyncio.create_task(work(downloader))
        await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert other_tasks() == set()
        assert lease_rows(slow) == 0
        assert (await downloader.run()).exit_code is ExitCode.OK
    assert internal_failures(slow) == 0


async def test_stream_abandoned_iterator_ends_with_the_downloader(slow):
    """The caller does not iterate to the end and does not leave the block."""
    async with slow.downloader() as downloader:
        block = downloader.stream()
        results = await block.__aenter__()
        await anext(aiter(results))
    assert other_tasks() == set()
    assert lease_rows(slow) == 0
    assert internal_failures(slow) == 0
    del results, block
    gc.collect()
    await asyncio.sleep(0)
    assert (await slow.run()).exit_code is ExitCode.OK


async def test_downloader_left_during_a_run_cancels_it(slow):
    async with slow.downloader() as downloader:
        run = asyncio.create_task(downloader.run())
        await seen_by(slow, "tasks")
    with pytest.raises(DownloaderStateError, match="closed while"):
        await run
    assert other_tasks() == set()
    assert lease_rows(slow) == 0
    assert internal_failures(slow) == 0


async def test_stream_raises_the_error_of_the_run(slow):
    async with slow.downloader() as one, slow.downloader() as other, one.stream() as results:
        await anext(aiter(results))
        with pytest.raises(OutputLockedError):
            await take(other, 1)
        with pytest.raises(OutputLockedError):
            async with other.stream():
                await asyncio.sleep(0.5)  # the block does not iterate: leaving it raises the error


async def test_stream_summary_is_that_of_its_own_run(tmp_path):
    async with library_environment(tmp_path, TAME) as site, site.downloader() as downloader:
        await downloader.run()
        assert downloader.summary is not None
        async with downloader.stream() as results:
            assert downloader.summary is None
            async for _ in results:
                pass
        assert downloader.summary is not None
        assert downloader.summary.outputs(Outcome.COMPLETED) == 0


async def test_run_after_stop_is_not_stopped(slow):
    async with slow.downloader() as downloader:
        async with downloader.stream() as results:
            async for _ in results:
                downloader.stop()
        assert downloader.summary is not None
        assert downloader.summary.exit_code is ExitCode.INTERRUPTED
        assert (await downloader.run()).exit_code is ExitCode.OK
    assert slow.read_files() == slow.expected_files()


@pytest.mark.usefixtures("virtual_clock")
async def test_run_after_a_used_budget_has_a_new_budget(tmp_path):
    async with (
        library_environment(tmp_path, TAME) as site,
        site.downloader(
            max_transfer=1, archive_concurrency=1, quicklook_concurrency=1, geojson_concurrency=1
        ) as downloader,
    ):
        summaries = [await downloader.run() for _ in range(2)]
    assert [summary.exit_code for summary in summaries] == [ExitCode.MAX_TRANSFER] * 2
    assert all(summary.downloaded_bytes for summary in summaries)


async def test_stop_before_a_run_drains_the_next_run_only(slow):
    async with slow.downloader() as downloader:
        downloader.stop(ExitCode.TERMINATED)
        assert (await downloader.run()).exit_code is ExitCode.TERMINATED
        assert (await downloader.plan()).summary.exit_code is ExitCode.OK
        assert (await downloader.run()).exit_code is ExitCode.OK


async def test_stop_from_another_thread_ends_the_run(slow):
    slow.simulator.faults = Faults.from_rules({"fault": "latency", "seconds": 30, "endpoint": "tasks"})
    async with slow.downloader() as downloader:

        def stop_twice():
            downloader.stop()
            downloader.stop()

        run = asyncio.create_task(downloader.run())
        await seen_by(slow, "tasks")
        thread = threading.Thread(target=stop_twice)
        thread.start()
        async with asyncio.timeout(10):
            summary = await run
        thread.join()
    assert summary.exit_code is ExitCode.INTERRUPTED


@pytest.mark.parametrize("is_closed", [False, True], ids=["before", "after"])
async def test_downloader_not_open_is_a_clear_error(tmp_path, is_closed):
    async with library_environment(tmp_path, TAME) as site:
        downloader = site.downloader()
        if is_closed:
            async with downloader:
                pass
        with pytest.raises(DownloaderStateError, match="async with"):
            await downloader.run()
        with pytest.raises(DownloaderStateError, match="async with"):
            await downloader.plan()
        with pytest.raises(DownloaderStateError, match="async with"):
            async with downloader.stream():
                pass
        with pytest.raises(DownloaderStateError, match="async with"):
            downloader.stop()
        assert not site.output.exists()
        async with downloader:
            assert (await downloader.run()).exit_code is ExitCode.OK


async def test_downloader_opened_twice_is_a_clear_error(tmp_path):
    async with library_environment(tmp_path, TAME) as site, site.downloader() as downloader:
        with pytest.raises(DownloaderStateError, match="already open"):
            async with downloader:
                pass
        assert (await downloader.run()).exit_code is ExitCode.OK


async def test_plan_raises_the_same_exceptions_as_run(tmp_path, monkeypatch):
    async with library_environment(tmp_path, TAME) as site:
        async with site.downloader() as downloader:
            await downloader.run()

        def broken(*_args, **_kwargs):
            raise LedgerError("broken")

        monkeypatch.setattr("bulkdl.ledger.queries.read_containers", broken)
        async with site.downloader() as downloader:
            with pytest.raises(LedgerError):
                await downloader.run()
            with pytest.raises(LedgerError):
                await downloader.plan()


async def test_run_cancelled_at_random_awaits_leaves_no_task_and_no_lease(tmp_path):
    chance = random.Random(5)
    async with library_environment(tmp_path, TAME) as site:
        for _ in range(25):
            async with site.downloader() as downloader:
                task = asyncio.create_task(downloader.run())
                for _ in range(int(chance.expovariate(1 / 40))):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert other_tasks() == set()
                assert lease_rows(site) == 0
            assert other_tasks() == set()
        assert (await site.run()).exit_code is ExitCode.OK
        assert site.read_files() == site.expected_files()
        assert internal_failures(site) == 0


async def test_two_downloaders_in_one_loop_and_one_directory(tmp_path):
    async with (
        library_environment(tmp_path, TAME) as site,
        site.downloader() as one,
        site.downloader() as other,
    ):
        ends = await asyncio.gather(one.run(), other.run(), return_exceptions=True)
        assert [type(end) for end in ends].count(OutputLockedError) <= 1
        assert (await one.run()).exit_code is ExitCode.OK
    assert site.read_files() == site.expected_files()


async def test_downloaders_in_three_threads(tmp_path):
    async with library_environment(tmp_path, TAME) as site:

        def work(number):
            async def main():
                settings = Settings(api_url=site.simulator.api_url, output=tmp_path / f"out{number}", rate=0)
                async with Downloader(settings, credentials=site.credentials) as downloader:
                    return await downloader.run()

            return asyncio.run(main())

        summaries = await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(3)))
    assert [summary.exit_code for summary in summaries] == [ExitCode.OK] * 3
