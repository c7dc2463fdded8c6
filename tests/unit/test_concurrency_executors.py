"""Executors: one thread pool per purpose, and calls that cancellation stops."""

import asyncio
import threading

import pytest

from bulkdl.concurrency import Executors, ReadStopped, check_stop, open_stoppable, run_in, run_stoppable


@pytest.fixture
def executors():
    opened = Executors(disk_threads=1, inspection_threads=1)
    yield opened
    opened.close()


async def test_run_stoppable_cancelled_stops_the_thread_before_it_returns(executors):
    started, ended = threading.Event(), threading.Event()

    def work(stop):
        started.set()
        assert stop.wait(30)
        ended.set()

    task = asyncio.create_task(run_stoppable(executors.archives, work))
    await run_in(executors.disk, started.wait)
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_run_stoppable_cancelled_before_it_starts_does_not_run(executors):
    release, record = threading.Event(), []
    first = asyncio.create_task(run_in(executors.archives, release.wait))
    second = asyncio.create_task(run_stoppable(executors.archives, record.append))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    release.set()
    await first
    assert record == []


async def test_run_stoppable_returns_the_result_and_raises_the_exception_of_the_call(executors):
    assert await run_stoppable(executors.archives, lambda _, number: number + 1, 41) == 42
    with pytest.raises(ZeroDivisionError):
        await run_stoppable(executors.archives, lambda _: 1 / 0)


async def test_executors_with_a_full_pool_do_not_block_other_pools(executors):
    release = threading.Event()
    reading = [asyncio.create_task(run_in(executors.archives, release.wait)) for _ in range(8)]
    reading += [asyncio.create_task(run_in(executors.processing, release.wait)) for _ in range(8)]
    async with asyncio.timeout(30):
        assert await run_in(executors.disk, lambda: "disk") == "disk"
        assert await run_in(executors.files, lambda: "files") == "files"
        assert await asyncio.to_thread(lambda: "names") == "names"
    release.set()
    await asyncio.gather(*reading)


async def test_executors_can_be_used_after_close(executors):
    assert await run_in(executors.disk, lambda: 1) == 1
    executors.close()
    assert await run_in(executors.disk, lambda: 2) == 2


@pytest.mark.parametrize("form", ["file", "bytes"])
def test_open_stoppable_reads_until_it_is_stopped(tmp_path, form):
    data = bytes(range(256)) * 4096
    (tmp_path / "data").write_bytes(data)
    stop = threading.Event()
    with open_stoppable(tmp_path / "data" if form == "file" else data, stop) as stream:
        assert stream.read() == data
        assert stream.seek(5) == 5
        assert stream.read(7) == data[5:12]
        stop.set()
        stream.seek(500_000)
        with pytest.raises(ReadStopped):
            stream.read(100_000)
    with pytest.raises(ReadStopped):
        check_stop(stop)
