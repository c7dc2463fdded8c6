"""The permit of a worker changes to that of the large outputs."""

import asyncio

import pytest

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.graph.autoscale import ThroughputMeter
from bulkdl.graph.worker_slots import LARGE_OUTPUT_BYTES, PoolPermits, WorkerSlot
from support.idle import wait_until_idle


@pytest.fixture
def small():
    return PoolPermits(ConcurrencyLimiter(1), ThroughputMeter())


@pytest.fixture
def large():
    return PoolPermits(ConcurrencyLimiter(1), ThroughputMeter())


def test_slot_must_change_for_a_large_output_only(small, large):
    slot = WorkerSlot(small, large)
    sizes = (None, 0, LARGE_OUTPUT_BYTES - 1, LARGE_OUTPUT_BYTES)
    assert [slot.must_change(size) for size in sizes] == [False, False, False, True]
    assert not WorkerSlot(small, None).must_change(LARGE_OUTPUT_BYTES)


async def test_slot_that_changes_leaves_its_permit_to_another_worker(small, large):
    slot = WorkerSlot(small, large)
    async with slot.hold():
        assert slot.may_continue
        await slot.change_to_large()
        assert (small.limiter.in_use, large.limiter.in_use) == (0, 1)
        assert slot.permits is large
        assert not slot.may_continue
        assert not slot.must_change(LARGE_OUTPUT_BYTES)
    assert (small.limiter.in_use, large.limiter.in_use) == (0, 0)


async def test_slot_cancelled_while_it_waits_for_a_large_permit_holds_none(small, large):
    await large.limiter.acquire()

    async def work():
        slot = WorkerSlot(small, large)
        async with slot.hold():
            await slot.change_to_large()

    waiting = asyncio.create_task(work())
    await wait_until_idle()
    assert (small.limiter.in_use, large.limiter.in_use) == (0, 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    large.limiter.release()
    assert (small.limiter.in_use, large.limiter.in_use) == (0, 0)
