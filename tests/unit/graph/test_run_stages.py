"""Run: the stages and the tasks that supervise them."""

import asyncio
from types import SimpleNamespace

import pytest

from bulkdl.concurrency import Channel
from bulkdl.graph.pool_limits import PoolLimits
from bulkdl.graph.run import Run
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.sources.up42_jobs.models import Kind
from bulkdl.telemetry.events import NullReporter


class FakeEnumeration:
    """Finds nothing."""

    def __init__(self):
        self.pending = Channel(1)

    async def find_containers(self):
        pass

    async def list_containers(self):
        pass


class FakePools:
    """Workers that end after a short time, with *error* if it is given."""

    def __init__(self, limits, error=None):
        self.limits = limits
        self.queues = {}
        self.adapted = []
        self.queue_cancellations = 0
        self._error = error

    async def adapt(self, kind):
        self.adapted.append(kind)
        await asyncio.Event().wait()

    async def work(self, _kind):
        await asyncio.sleep(0.01)
        if self._error is not None:
            raise self._error

    def cancel_queued(self):
        self.queue_cancellations += 1


async def execute(pools):
    context = SimpleNamespace(
        recorder=SimpleNamespace(summary=SimpleNamespace(cancelled=0)),
        reporter=NullReporter(),
        shutdown=ShutdownController(),
    )
    run = Run(
        context, [FakeEnumeration()], pools, list_concurrency=2, shutdown_timeout_s=1.0, max_duration_s=0.0
    )
    await run.execute()


async def test_execute_adapts_only_pools_with_a_range_of_limits():
    pools = FakePools({Kind.ARCHIVE: PoolLimits(2, 2, 2, 2), Kind.QUICKLOOK: PoolLimits(2, 1, 1, 2)})
    await execute(pools)
    assert pools.adapted == [Kind.QUICKLOOK]


async def test_execute_with_a_failed_worker_cancels_the_queued_outputs():
    pools = FakePools({Kind.ARCHIVE: PoolLimits(2, 2, 2, 2)}, LookupError("x"))
    with pytest.raises(ExceptionGroup) as caught:
        await execute(pools)
    assert caught.group_contains(LookupError)
    assert pools.queue_cancellations == 1
