"""The channel between two stages."""

import asyncio

import pytest

from bulkdl.failure_policy import ExitCode
from bulkdl.graph.channel import Channel, ChannelClosed
from bulkdl.graph.shutdown import ShutdownController
from support.idle import wait_until_idle


async def taken(channel):
    return [item async for item in channel]


async def test_what_goes_in_comes_out_in_order():
    channel = Channel(10)
    for item in range(5):
        await channel.put(item)
    channel.close()
    assert await taken(channel) == [0, 1, 2, 3, 4]


async def test_a_full_channel_makes_the_putter_wait():
    channel = Channel(2)
    put = []

    async def feed():
        for item in range(5):
            await channel.put(item)
            put.append(item)
        channel.close()

    feeding = asyncio.create_task(feed())
    await wait_until_idle()
    assert (put, len(channel)) == ([0, 1], 2)
    assert await anext(channel) == 0
    await wait_until_idle()
    assert (put, len(channel)) == ([0, 1, 2], 2)
    assert await taken(channel) == [1, 2, 3, 4]
    await feeding


async def test_memory_stays_flat_with_many_on_both_ends():
    channel = Channel(3)
    most = 0
    got = []

    async def feed(start):
        nonlocal most
        for item in range(start, start + 100):
            await channel.put(item)
            most = max(most, len(channel))

    async def eat():
        async for item in channel:
            got.append(item)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        eaters = [group.create_task(eat()) for _ in range(4)]
        async with asyncio.TaskGroup() as feeders:
            for start in (0, 100, 200):
                feeders.create_task(feed(start))
        channel.close()
    assert all(eater.done() for eater in eaters)
    assert sorted(got) == list(range(300))
    assert most <= 3


async def test_closing_ends_all_who_take_and_refuses_all_who_put():
    channel = Channel(1)
    takers = [asyncio.create_task(taken(channel)) for _ in range(3)]
    await wait_until_idle()
    channel.close()
    assert await asyncio.gather(*takers) == [[], [], []]
    with pytest.raises(ChannelClosed):
        await channel.put(1)
    channel.close()


async def test_a_putter_that_waits_is_refused_when_the_channel_closes():
    channel = Channel(1)
    await channel.put(0)
    putter = asyncio.create_task(channel.put(1))
    await wait_until_idle()
    channel.close()
    with pytest.raises(ChannelClosed):
        await putter
    assert await taken(channel) == [0]


async def test_dropping_gives_back_what_waited():
    channel = Channel(3)
    await channel.put(0)
    await channel.put(1)
    assert channel.close_and_drain() == [0, 1]
    assert channel.close_and_drain() == []
    assert await taken(channel) == []
    with pytest.raises(ChannelClosed):
        await channel.put(2)


async def test_a_cancelled_taker_takes_nothing_with_it():
    channel = Channel(3)
    takers = [asyncio.create_task(anext(channel)) for _ in range(2)]
    await wait_until_idle()
    putting = asyncio.create_task(channel.put("x"))
    takers[0].cancel()
    await putting
    assert await takers[1] == "x"
    with pytest.raises(asyncio.CancelledError):
        await takers[0]


async def test_a_taker_cancelled_just_after_an_item_came_leaves_it_for_another():
    channel = Channel(3)
    first = asyncio.create_task(anext(channel))
    await wait_until_idle()
    await channel.put("x")
    first.cancel()
    [outcome] = await asyncio.gather(first, return_exceptions=True)
    assert outcome == "x" or await anext(channel) == "x"


async def test_a_cancelled_putter_leaves_its_room_to_others():
    channel = Channel(1)
    await channel.put(0)
    putters = [asyncio.create_task(channel.put(item)) for item in (1, 2)]
    await wait_until_idle()
    putters[0].cancel()
    assert await anext(channel) == 0
    await putters[1]
    assert await anext(channel) == 2


def test_the_first_request_drains_and_the_second_aborts():
    stop = ShutdownController()
    assert not stop.draining.is_set()
    stop.request(ExitCode.INTERRUPTED)
    assert (stop.draining.is_set(), stop.aborting.is_set()) == (True, False)
    stop.request(ExitCode.TERMINATED)
    assert (stop.draining.is_set(), stop.aborting.is_set()) == (True, True)
    assert stop.cause is ExitCode.INTERRUPTED
