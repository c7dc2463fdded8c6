"""Pools: each reserved output ends once."""

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.graph.pool_limits import compute_run_limits
from bulkdl.graph.pools import Pools, RunStopped
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.listings import PlannedOutput
from bulkdl.models import ContainerRef, Outcome, Output, Reason, Result
from bulkdl.settings import Settings
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.sources.up42_jobs.spec import SPEC
from bulkdl.sources.up42_storage.spec import ORIGINAL
from bulkdl.sources.up42_storage.spec import SPEC as STORAGE
from bulkdl.telemetry.events import NullReporter

ARCHIVES = [PlannedOutput(job_output("p", "j", task, Kind.ARCHIVE)) for task in ("t1", "t2", None)]
OUTPUTS = [missing.output for missing in ARCHIVES]


class FakeDownloader:
    """Completes each output, once *gate* is set."""

    def __init__(self):
        self.requested = []
        self.has_request = asyncio.Condition()
        self.gate = asyncio.Event()
        self.gate.set()

    async def wait_requested(self, count):
        """Wait until *count* outputs were requested."""
        async with self.has_request:
            await self.has_request.wait_for(lambda: len(self.requested) >= count)

    async def download(self, missing, _failed, _observer):
        async with self.has_request:
            self.requested.append(missing)
            self.has_request.notify_all()
        await self.gate.wait()
        return Result(missing.output, Outcome.COMPLETED, Reason.DOWNLOADED)

    async def remove_sidecar(self, result):
        pass


class FakeRecorder:
    """Stores the outcomes. Results are delivered once *gate* is set."""

    def __init__(self):
        self.ended = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def record(self, result):
        self.ended.append((result.output, result.outcome))
        return result

    async def deliver(self, result):
        await self.gate.wait()

    def record_cancelled(self, output, downloaded_bytes=0):
        self.ended.append((output, Outcome.CANCELLED))


@pytest.fixture
def downloader():
    return FakeDownloader()


@pytest.fixture
def recorder():
    return FakeRecorder()


@pytest.fixture
def pools(downloader, recorder):
    return create_pools(SPEC, downloader, recorder)


@pytest.fixture
def storage_pools(downloader, recorder):
    return create_pools(STORAGE, downloader, recorder)


def create_pools(spec, downloader, recorder):
    limits = compute_run_limits(Settings(), 1024, [spec]).pools
    limiters = {kind: ConcurrencyLimiter(limit.start) for kind, limit in limits.items()}
    context = SimpleNamespace(recorder=recorder, reporter=NullReporter(), shutdown=ShutdownController())
    return Pools(context, limits, limiters, downloader, 0)


async def cancel_blocked_worker(pools):
    """Start a worker, cancel it when it is blocked, and wait for its end."""
    worker = asyncio.create_task(pools.work(Kind.ARCHIVE))
    await asyncio.sleep(0.01)
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker


async def test_reserve_returns_an_output_again_only_after_its_download(pools, downloader):
    queue = pools.queues[Kind.ARCHIVE]
    first, second, third = ARCHIVES
    assert pools.reservations.reserve((first, second)) == (first, second)
    await pools.put((first, second))
    assert pools.reservations.reserve((second, third)) == (third,)
    await pools.put((third,))
    assert pools.reservations.reserve((first,)) == ()
    assert len(queue) == 2
    queue.close()
    await pools.work(Kind.ARCHIVE)
    assert downloader.requested == ARCHIVES
    assert pools.reservations.reserve((first,)) == (first,)


def delivery_files(*container_ids, identity="asset"):
    """Return the groups of containers that have the same asset."""
    return [
        (PlannedOutput(Output(ContainerRef(STORAGE.name, "w", each), "", ORIGINAL, "asset"), "f", identity),)
        for each in container_ids
    ]


async def test_work_on_two_containers_with_one_object_downloads_them_one_after_another(
    storage_pools, downloader, recorder
):
    first, second = delivery_files("a", "b")
    (other,) = delivery_files("c", identity="other")
    downloader.gate.clear()
    for group in (first, second, other):
        await storage_pools.put(group)
    storage_pools.queues[ORIGINAL].close()
    workers = [asyncio.create_task(storage_pools.work(ORIGINAL)) for _ in range(3)]
    await downloader.wait_requested(2)
    assert downloader.requested == [*first, *other]
    downloader.gate.set()
    await asyncio.gather(*workers)
    assert downloader.requested == [*first, *other, *second]
    assert [output for output, _ in recorder.ended[:2]] == [first[0].output, other[0].output]


async def test_work_cancelled_while_another_container_has_the_object_records_the_group_as_cancelled(
    storage_pools, downloader, recorder
):
    first, second = delivery_files("a", "b")
    downloader.gate.clear()
    for group in (first, second):
        await storage_pools.put(group)
    workers = [asyncio.create_task(storage_pools.work(ORIGINAL)) for _ in range(2)]
    await downloader.wait_requested(1)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert Counter(output for output, _ in recorder.ended) == {first[0].output: 1, second[0].output: 1}
    assert {outcome for _, outcome in recorder.ended} == {Outcome.CANCELLED}


async def test_work_cancelled_during_a_download_records_the_whole_group_as_cancelled(
    pools, downloader, recorder
):
    downloader.gate.clear()
    await pools.put(tuple(ARCHIVES))
    await cancel_blocked_worker(pools)
    assert recorder.ended == [(output, Outcome.CANCELLED) for output in OUTPUTS]


async def test_work_cancelled_while_a_result_is_delivered_records_the_output_once(pools, recorder):
    recorder.gate.clear()
    await pools.put(tuple(ARCHIVES[:1]))
    await cancel_blocked_worker(pools)
    assert recorder.ended == [(OUTPUTS[0], Outcome.COMPLETED)]


async def test_work_with_a_failure_that_stops_the_run_records_the_rest_of_the_group_as_cancelled(
    pools, downloader, recorder, monkeypatch
):
    async def fail(missing, _failed, _observer):
        return Result(missing.output, Outcome.FAILED, Reason.DISK_FULL)

    monkeypatch.setattr(downloader, "download", fail)
    await pools.put(tuple(ARCHIVES))
    with pytest.raises(RunStopped):
        await pools.work(Kind.ARCHIVE)
    assert [outcome for _, outcome in recorder.ended] == [Outcome.FAILED, *[Outcome.CANCELLED] * 2]
