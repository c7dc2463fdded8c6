"""Permits: how many may be at work, and who gives way."""

import asyncio

from bulkdl.transfer.permits import ConcurrencyLimiter
from support.idle import wait_until_idle


async def test_a_spare_permit_is_yielded_by_as_many_as_are_too_many():
    permits = ConcurrencyLimiter(4)
    for _ in range(4):
        await permits.acquire_spare()
    permits.resize(2)
    assert [permits.release_if_over_limit() for _ in range(4)] == [True, True, False, False]
    assert permits.in_use == 2


async def test_nobody_takes_a_spare_one_while_an_output_waits():
    permits = ConcurrencyLimiter(1)
    await permits.acquire()
    output = asyncio.create_task(permits.acquire())
    await wait_until_idle()
    spare = asyncio.create_task(permits.acquire_spare())
    permits.release()
    await output
    assert not spare.done()
    permits.resize(2)
    await spare
    assert permits.in_use == 2


async def test_each_released_permit_is_given_to_the_one_who_has_waited_longest():
    permits = ConcurrencyLimiter(1)
    await permits.acquire()
    waiting = [asyncio.create_task(permits.acquire()) for _ in range(20)]
    await wait_until_idle()
    for number in range(20):
        permits.release()
        await waiting[number]
        assert permits.in_use == 1
        assert not any(each.done() for each in waiting[number + 1 :])


async def test_a_worker_that_is_cancelled_while_it_waits_holds_up_no_spare_one():
    permits = ConcurrencyLimiter(2)
    await permits.acquire()
    await permits.acquire()
    output = asyncio.create_task(permits.acquire())
    await wait_until_idle()
    spare = asyncio.create_task(permits.acquire_spare())
    await wait_until_idle()
    permits.release()
    output.cancel()
    await spare
    assert permits.in_use == 2


async def test_raising_the_limit_lets_as_many_go():
    permits = ConcurrencyLimiter(1)
    waiting = [asyncio.create_task(permits.acquire()) for _ in range(5)]
    await wait_until_idle()
    permits.resize(4)
    await wait_until_idle()
    assert [each.done() for each in waiting] == [True, True, True, True, False]
    waiting[4].cancel()
