"""Permits: how many may be at work, and who gives way."""

import asyncio

from bulkdl.transfer.permits import Permits


async def test_a_spare_permit_is_yielded_by_as_many_as_are_too_many():
    permits = Permits(4)
    for _ in range(4):
        await permits.acquire_spare()
    permits.resize(2)
    assert [permits.yielded() for _ in range(4)] == [True, True, False, False]
    assert permits.in_use == 2


async def test_nobody_takes_a_spare_one_while_an_output_waits():
    permits = Permits(1)
    await permits.acquire()
    output = asyncio.create_task(permits.acquire())
    await asyncio.sleep(0)
    spare = asyncio.create_task(permits.acquire_spare())
    permits.release()
    await output
    assert not spare.done()
    permits.resize(2)
    await spare
    assert permits.in_use == 2
