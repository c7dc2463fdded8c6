"""WaitQueue: waiters are woken one at a time, and no notification is lost."""

import asyncio

import pytest

from bulkdl.concurrency import WaitQueue
from support.idle import wait_until_idle


class Counter:
    """A counter whose takers wait while it is zero."""

    def __init__(self):
        self.left = 0
        self.checks = 0
        self.queue = WaitQueue()

    async def take(self):
        await self.queue.wait_for(self._check)
        self.left -= 1

    def _check(self):
        self.checks += 1
        return self.left > 0

    def add(self, count=1):
        self.left += count
        self.queue.notify(count)


async def waiters(counter, count):
    tasks = [asyncio.create_task(counter.take()) for _ in range(count)]
    await wait_until_idle()
    return tasks


def done(tasks):
    return [task.done() for task in tasks]


async def test_wait_for_ready_condition_returns_immediately():
    counter = Counter()
    counter.add()
    await counter.take()
    assert counter.left == 0


async def test_notify_wakes_only_the_longest_waiting_task():
    counter = Counter()
    tasks = await waiters(counter, 50)
    counter.checks = 0
    counter.add()
    await wait_until_idle()
    assert done(tasks) == [True] + 49 * [False]
    assert counter.checks == 1
    counter.add(49)
    await asyncio.gather(*tasks)


async def test_wait_for_condition_consumed_by_another_task_waits_again():
    counter = Counter()
    [waiter] = await waiters(counter, 1)
    counter.add()
    await counter.take()
    await wait_until_idle()
    assert not waiter.done()
    counter.add()
    await waiter


@pytest.mark.parametrize("notify_first", [True, False])
async def test_notify_of_a_cancelled_waiter_wakes_the_next(notify_first):
    counter = Counter()
    first, second = await waiters(counter, 2)
    steps = [counter.add, first.cancel]
    for step in steps if notify_first else reversed(steps):
        step()
    await second
    assert first.cancelled()


async def test_wait_for_cancelled_removes_its_waiter():
    counter = Counter()
    for task in await waiters(counter, 100):
        task.cancel()
    await wait_until_idle()
    assert len(counter.queue) == 0
    counter.add()
    await counter.take()


async def test_notify_all_wakes_every_waiter():
    queue, ready = WaitQueue(), []
    tasks = [asyncio.create_task(queue.wait_for(lambda: ready)) for _ in range(5)]
    await wait_until_idle()
    ready.append(True)
    queue.notify_all()
    await asyncio.gather(*tasks)
