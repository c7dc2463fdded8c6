"""Channel: order, bounds, closing and cancellation."""

import asyncio

import pytest

from bulkdl.concurrency import Channel, ChannelClosed
from support.idle import wait_until_idle


async def take_all(channel):
    return [item async for item in channel]


async def test_channel_yields_items_in_order():
    channel = Channel(10)
    for item in range(5):
        await channel.put(item)
    channel.close()
    assert await take_all(channel) == [0, 1, 2, 3, 4]


async def test_put_into_a_full_channel_waits():
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
    assert await take_all(channel) == [1, 2, 3, 4]
    await feeding


async def test_offer_adds_an_item_only_to_an_open_channel_with_a_free_place():
    channel = Channel(1)
    taking = asyncio.create_task(anext(channel))
    await wait_until_idle()
    assert channel.offer(1)
    assert await taking == 1
    assert [channel.offer(item) for item in (2, 3)] == [True, False]
    channel.close()
    assert await take_all(channel) == [2]
    assert not channel.offer(4)


async def test_channel_with_many_tasks_on_both_ends_stays_bounded():
    channel = Channel(3)
    max_length = 0
    received = []

    async def feed(start):
        nonlocal max_length
        for item in range(start, start + 100):
            await channel.put(item)
            max_length = max(max_length, len(channel))

    async def consume():
        async for item in channel:
            received.append(item)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        consumers = [group.create_task(consume()) for _ in range(4)]
        async with asyncio.TaskGroup() as producers:
            for start in (0, 100, 200):
                producers.create_task(feed(start))
        channel.close()
    assert all(consumer.done() for consumer in consumers)
    assert sorted(received) == list(range(300))
    assert max_length <= 3


async def test_close_ends_takers_and_rejects_putters():
    channel = Channel(1)
    takers = [asyncio.create_task(take_all(channel)) for _ in range(3)]
    await wait_until_idle()
    channel.close()
    assert await asyncio.gather(*takers) == [[], [], []]
    with pytest.raises(ChannelClosed):
        await channel.put(1)
    channel.close()


async def test_close_rejects_a_waiting_putter():
    channel = Channel(1)
    await channel.put(0)
    putter = asyncio.create_task(channel.put(1))
    await wait_until_idle()
    channel.close()
    with pytest.raises(ChannelClosed):
        await putter
    assert await take_all(channel) == [0]


async def test_close_and_drain_returns_the_remaining_items():
    channel = Channel(3)
    await channel.put(0)
    await channel.put(1)
    assert channel.close_and_drain() == [0, 1]
    assert channel.close_and_drain() == []
    assert await take_all(channel) == []
    with pytest.raises(ChannelClosed):
        await channel.put(2)


async def test_cancelled_taker_does_not_consume_an_item():
    channel = Channel(3)
    takers = [asyncio.create_task(anext(channel)) for _ in range(2)]
    await wait_until_idle()
    putting = asyncio.create_task(channel.put("x"))
    takers[0].cancel()
    await putting
    assert await takers[1] == "x"
    with pytest.raises(asyncio.CancelledError):
        await takers[0]


async def test_taker_cancelled_after_notification_leaves_the_item_for_another_taker():
    channel = Channel(3)
    first = asyncio.create_task(anext(channel))
    await wait_until_idle()
    await channel.put("x")
    first.cancel()
    [outcome] = await asyncio.gather(first, return_exceptions=True)
    assert outcome == "x" or await anext(channel) == "x"


async def test_cancelled_putter_leaves_its_slot_to_the_next_putter():
    channel = Channel(1)
    await channel.put(0)
    putters = [asyncio.create_task(channel.put(item)) for item in (1, 2)]
    await wait_until_idle()
    putters[0].cancel()
    assert await anext(channel) == 0
    await putters[1]
    assert await anext(channel) == 2
