"""Those who wait are woken one at a time, and no word is lost."""

import asyncio

import pytest

from bulkdl.waiting import WaitQueue
from support.idle import wait_until_idle


class Counter:
    """Lets through as many as there are of something."""

    def __init__(self):
        self.left = 0
        self.looks = 0
        self.waiting = WaitQueue()

    async def take(self):
        await self.waiting.wait_for(self._look)
        self.left -= 1

    def _look(self):
        self.looks += 1
        return self.left > 0

    def add(self, count=1):
        self.left += count
        self.waiting.notify(count)


async def waiters(counter, count):
    tasks = [asyncio.create_task(counter.take()) for _ in range(count)]
    await wait_until_idle()
    return tasks


def done(tasks):
    return [task.done() for task in tasks]


async def test_who_need_not_wait_goes_at_once():
    counter = Counter()
    counter.add()
    await counter.take()
    assert counter.left == 0


async def test_one_word_wakes_the_one_who_has_waited_longest_and_nobody_else():
    counter = Counter()
    tasks = await waiters(counter, 50)
    counter.looks = 0
    counter.add()
    await wait_until_idle()
    assert done(tasks) == [True] + 49 * [False]
    assert counter.looks == 1
    counter.add(49)
    await asyncio.gather(*tasks)


async def test_who_finds_that_another_was_quicker_waits_again():
    counter = Counter()
    [slow] = await waiters(counter, 1)
    counter.add()
    await counter.take()
    await wait_until_idle()
    assert not slow.done()
    counter.add()
    await slow


@pytest.mark.parametrize("told_first", [True, False])
async def test_a_word_for_a_cancelled_one_reaches_the_next(told_first):
    counter = Counter()
    first, second = await waiters(counter, 2)
    steps = [counter.add, first.cancel]
    for step in steps if told_first else reversed(steps):
        step()
    await second
    assert first.cancelled()


async def test_who_gave_up_leaves_nothing_behind():
    counter = Counter()
    for task in await waiters(counter, 100):
        task.cancel()
    await wait_until_idle()
    assert len(counter.waiting) == 0
    counter.add()
    await counter.take()


async def test_all_can_be_woken():
    waiting, ready = WaitQueue(), []
    tasks = [asyncio.create_task(waiting.wait_for(lambda: ready)) for _ in range(5)]
    await wait_until_idle()
    ready.append(True)
    waiting.notify_all()
    await asyncio.gather(*tasks)
