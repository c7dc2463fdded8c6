import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.http.rate_limit import Cooldown, RateLimiter, TokenBucket, cooldown_seconds, release_delay_s
from bulkdl.http.retry import RetryPolicy
from support.idle import wait_until_idle

POLICY = RetryPolicy(base_s=1.0, retry_after_cap_s=300.0)


def test_a_burst_goes_at_once_and_then_the_rate_holds():
    bucket = TokenBucket(rate=10, burst=3)
    assert [bucket.take(0.0) for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])


def test_a_rest_earns_no_more_than_the_burst():
    bucket = TokenBucket(rate=10, burst=3)
    bucket.take(0.0, 3)
    assert [bucket.take(1000.0) for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


def test_rate_zero_is_no_limit():
    bucket = TokenBucket(rate=0, burst=0)
    assert all(bucket.take(0.0, 1e9) == 0 for _ in range(100))


def test_more_than_the_burst_is_let_through_and_paid_for():
    bucket = TokenBucket(rate=10, burst=5)
    assert bucket.take(0.0, 25) == pytest.approx(2.0)
    assert bucket.take(2.0, 5) == pytest.approx(0.5)


def test_a_clock_that_steps_back_grants_nothing():
    bucket = TokenBucket(rate=10, burst=1)
    bucket.take(100.0)
    assert bucket.take(50.0) == pytest.approx(0.1)
    assert bucket.take(100.0) == pytest.approx(0.2)


@given(
    rate=st.floats(0.5, 1000),
    burst=st.floats(0, 100),
    steps=st.lists(st.tuples(st.floats(0, 5), st.floats(0.01, 50)), min_size=1, max_size=40),
)
def test_no_window_lets_through_more_than_burst_and_rate(rate, burst, steps):
    bucket, now, gone = TokenBucket(rate, burst), 0.0, []
    for pause_s, amount in steps:
        now += pause_s
        now += bucket.take(now, amount)
        gone.append((now, amount))
    for first, last in itertools.combinations_with_replacement(range(len(gone)), 2):
        # What goes at the end of a window may have been saved for since before it.
        amounts = sum(amount for _, amount in gone[first : last + 1])
        allowed = burst + rate * (gone[last][0] - gone[first][0]) + gone[first][1]
        assert amounts <= allowed * (1 + 1e-6) + 1e-6


async def test_turns_come_in_the_order_of_asking(timeline):
    pace, order = RateLimiter(2, 1, clock=timeline.clock, sleep=timeline.sleep), []

    async def worker(number):
        await pace.acquire()
        order.append((number, timeline.now))

    await asyncio.gather(*(worker(number) for number in range(4)))
    assert order == [(0, 1000.0), (1, 1000.5), (2, 1001.0), (3, 1001.5)]


async def test_who_can_wait_stands_in_nobodys_way_and_gets_on_all_the_same(timeline):
    pace, order = RateLimiter(1, 1, clock=timeline.clock, sleep=timeline.sleep), []

    async def worker(name, times=1, **how):
        for _ in range(times):
            await pace.acquire(**how)
            order.append(name)

    await asyncio.gather(
        *(worker("patient", low_priority=True) for _ in range(20)), worker("first", 8), worker("second", 8)
    )
    assert len(order) == 36
    busy = order[1:25]  # both go on: each round brings one of each, however many can wait
    assert [busy.count(name) for name in ("first", "second", "patient")] == [8, 8, 8]
    assert set(order[25:]) == {"patient"}


@pytest.mark.parametrize("victim", [1, 2, 3])
async def test_a_cancelled_waiter_gives_its_turn_to_the_next(timeline, victim):
    gate, order = asyncio.Event(), []

    async def sleep(delay_s):
        await gate.wait()
        await timeline.sleep(delay_s)

    pace = RateLimiter(1, 1, clock=timeline.clock, sleep=sleep)

    async def worker(number):
        await pace.acquire()
        order.append((number, timeline.now))

    workers = [asyncio.create_task(worker(number)) for number in range(4)]
    await wait_until_idle()
    workers[victim].cancel()
    await asyncio.wait([workers[victim]])
    gate.set()
    await asyncio.gather(*workers, return_exceptions=True)
    left = [number for number in (1, 2, 3) if number != victim]
    assert order == [(0, 1000.0), (left[0], 1001.0), (left[1], 1002.0)]


async def test_without_a_limit_nobody_waits(timeline):
    pace = RateLimiter(0, 0, clock=timeline.clock, sleep=timeline.sleep)
    await asyncio.gather(*(pace.acquire(1e6) for _ in range(100)))
    assert timeline.slept == []


async def test_everybody_waits_for_a_cooling_host_and_nobody_for_another(timeline):
    cooldown = Cooldown(clock=timeline.clock, sleep=timeline.sleep, rand=lambda: 0.0)
    cooldown.start("a", 7.0)
    await cooldown.wait("b")
    assert timeline.now == 1000.0
    await asyncio.gather(*(cooldown.wait("a") for _ in range(3)))
    assert timeline.now >= 1007.0


async def test_a_cooldown_is_extended_but_never_shortened(timeline):
    cooldown = Cooldown(clock=timeline.clock, sleep=timeline.sleep, rand=lambda: 0.0)
    cooldown.start("a", 5.0)
    cooldown.start("a", 1.0)
    await cooldown.wait("a")
    assert timeline.now == 1005.0


async def test_a_cooldown_extended_while_waiting_is_waited_for(timeline):
    async def sleep(delay_s):
        if not timeline.slept:
            cooldown.start("a", 9.0)
        await timeline.sleep(delay_s)

    cooldown = Cooldown(clock=timeline.clock, sleep=sleep, rand=lambda: 0.0)
    cooldown.start("a", 5.0)
    await cooldown.wait("a")
    assert timeline.now == 1009.0


def test_throttling_is_told_once_not_by_every_worker(timeline, logs):
    cooldown = Cooldown(clock=timeline.clock, sleep=timeline.sleep, rand=lambda: 0.0)
    for _ in range(16):
        cooldown.start("a", 5.0)
        timeline.now += 0.01
    cooldown.start("a", 60.0)
    assert [(line["event"], line["host"], line["delay_s"]) for line in logs()] == [
        ("rate_limit.cooldown", "a", 5.0),
        ("rate_limit.cooldown", "a", 60.0),
    ]


@pytest.mark.parametrize(
    ("status", "asked_s", "cooling"),
    [
        (200, None, None),
        (200, 5.0, None),
        (404, 5.0, None),
        (429, None, 1.0),
        (429, 5.0, 5.0),
        (429, 1e9, 300.0),
        (500, 5.0, None),
        (503, None, None),
        (503, 5.0, 5.0),
        (503, 1e9, 300.0),
    ],
)
def test_which_answers_cool_a_host(status, asked_s, cooling):
    assert cooldown_seconds(status, asked_s, POLICY) == cooling


@pytest.mark.parametrize(
    ("left_s", "cooldown_s", "rand", "delay_s"),
    [(5.0, 60.0, 0.0, 5.0), (5.0, 60.0, 0.5, 5.5), (0.1, 0.2, 0.5, 0.2), (300.0, 300.0, 0.999, 300.999)],
)
def test_release_delay_spreads_waiters_over_a_second_at_most(left_s, cooldown_s, rand, delay_s):
    assert release_delay_s(left_s, cooldown_s, lambda: rand) == pytest.approx(delay_s)


async def test_waiters_of_a_cooling_host_ask_again_at_different_moments():
    slept, numbers = [], iter([0.0, 0.25, 0.5, 0.75])
    now = 0.0

    async def sleep(delay_s):
        nonlocal now
        slept.append(delay_s)
        await asyncio.sleep(0)
        now = max(now, delay_s)

    cooldown = Cooldown(clock=lambda: now, sleep=sleep, rand=lambda: next(numbers))
    cooldown.start("host", 10.0)
    await asyncio.gather(*(cooldown.wait("host") for _ in range(4)))
    assert slept == [10.0, 10.25, 10.5, 10.75]
