"""Tests of ConcurrencyLimiter: the order of waiting workers, spare permits, changes of the limit."""

import asyncio

from bulkdl.concurrency import ConcurrencyLimiter
from support.idle import wait_until_idle


async def test_release_if_over_limit_after_a_lower_limit_releases_only_the_excess():
    limiter = ConcurrencyLimiter(4)
    for _ in range(4):
        await limiter.acquire_spare()
    limiter.resize(2)
    assert [limiter.release_if_over_limit() for _ in range(4)] == [True, True, False, False]
    assert limiter.in_use == 2


async def test_acquire_spare_while_a_worker_waits_does_not_return():
    limiter = ConcurrencyLimiter(1)
    await limiter.acquire()
    worker = asyncio.create_task(limiter.acquire())
    await wait_until_idle()
    spare = asyncio.create_task(limiter.acquire_spare())
    limiter.release()
    await worker
    assert not spare.done()
    limiter.resize(2)
    await spare
    assert limiter.in_use == 2


async def test_release_with_waiting_workers_wakes_the_one_that_waited_longest():
    limiter = ConcurrencyLimiter(1)
    await limiter.acquire()
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(20)]
    await wait_until_idle()
    for number in range(20):
        limiter.release()
        await waiting[number]
        assert limiter.in_use == 1
        assert not any(worker.done() for worker in waiting[number + 1 :])


async def test_acquire_cancelled_while_waiting_does_not_block_a_spare_permit():
    limiter = ConcurrencyLimiter(2)
    await limiter.acquire()
    await limiter.acquire()
    worker = asyncio.create_task(limiter.acquire())
    await wait_until_idle()
    spare = asyncio.create_task(limiter.acquire_spare())
    await wait_until_idle()
    limiter.release()
    worker.cancel()
    await spare
    assert limiter.in_use == 2


async def test_resize_to_a_higher_limit_wakes_as_many_workers():
    limiter = ConcurrencyLimiter(1)
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(5)]
    await wait_until_idle()
    limiter.resize(4)
    await wait_until_idle()
    assert [worker.done() for worker in waiting] == [True, True, True, True, False]
    waiting[4].cancel()
