import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.http.rate_limit import (
    Cooldown,
    OriginRateLimiters,
    RateLimiter,
    TokenBucket,
    cooldown_seconds,
    release_delay_s,
)
from bulkdl.http.retry import RetryPolicy
from support.idle import wait_until_idle

POLICY = RetryPolicy(base_s=1.0, retry_after_cap_s=300.0)


def test_take_allows_the_burst_immediately_and_then_limits_the_rate():
    bucket = TokenBucket(rate=10, burst=3)
    assert [bucket.take(0.0) for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])


def test_take_after_a_pause_allows_at_most_the_burst():
    bucket = TokenBucket(rate=10, burst=3)
    bucket.take(0.0, 3)
    assert [bucket.take(1000.0) for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


def test_take_with_rate_zero_is_unlimited():
    bucket = TokenBucket(rate=0, burst=0)
    assert all(bucket.take(0.0, 1e9) == 0 for _ in range(100))


def test_take_of_more_than_the_burst_delays_the_next_amount():
    bucket = TokenBucket(rate=10, burst=5)
    assert bucket.take(0.0, 25) == pytest.approx(2.0)
    assert bucket.take(2.0, 5) == pytest.approx(0.5)


def test_take_with_a_clock_that_steps_back_does_not_add_units():
    bucket = TokenBucket(rate=10, burst=1)
    bucket.take(100.0)
    assert bucket.take(50.0) == pytest.approx(0.1)
    assert bucket.take(100.0) == pytest.approx(0.2)


@given(
    rate=st.floats(0.5, 1000),
    burst=st.floats(0, 100),
    steps=st.lists(st.tuples(st.floats(0, 5), st.floats(0.01, 50)), min_size=1, max_size=40),
)
def test_take_in_any_window_allows_at_most_burst_and_rate(rate, burst, steps):
    bucket, now, taken = TokenBucket(rate, burst), 0.0, []
    for pause_s, amount in steps:
        now += pause_s
        now += bucket.take(now, amount)
        taken.append((now, amount))
    for first, last in itertools.combinations_with_replacement(range(len(taken)), 2):
        # The last amount of a window may use units from before the window.
        amounts = sum(amount for _, amount in taken[first : last + 1])
        allowed = burst + rate * (taken[last][0] - taken[first][0]) + taken[first][1]
        assert amounts <= allowed * (1 + 1e-6) + 1e-6


def test_limiter_is_the_same_for_an_origin_and_kept_while_it_is_used():
    limiters = OriginRateLimiters(80, 400)
    used = limiters.limiter("https://api.example")
    for number in range(1_000):
        assert limiters.limiter(f"https://{number}.example") is not used
        assert limiters.limiter("https://api.example") is used
    assert len(limiters._limiters) < 1_000


async def test_acquire_serves_callers_in_order(timeline):
    limiter, order = RateLimiter(2, 1, clock=timeline.clock, sleep=timeline.sleep), []

    async def worker(number):
        await limiter.acquire()
        order.append((number, timeline.now))

    await asyncio.gather(*(worker(number) for number in range(4)))
    assert order == [(0, 1000.0), (1, 1000.5), (2, 1001.0), (3, 1001.5)]


async def test_acquire_with_low_priority_delays_other_callers_by_one_turn(timeline):
    limiter, order = RateLimiter(1, 1, clock=timeline.clock, sleep=timeline.sleep), []

    async def worker(name, times=1, **options):
        for _ in range(times):
            await limiter.acquire(**options)
            order.append(name)

    await asyncio.gather(
        *(worker("low priority", low_priority=True) for _ in range(20)),
        worker("first", 8),
        worker("second", 8),
    )
    assert len(order) == 36
    busy = order[1:25]  # each round serves one caller of each kind
    assert [busy.count(name) for name in ("first", "second", "low priority")] == [8, 8, 8]
    assert set(order[25:]) == {"low priority"}


@pytest.mark.parametrize("victim", [1, 2, 3])
async def test_acquire_cancelled_gives_its_turn_to_the_next_caller(timeline, victim):
    gate, order = asyncio.Event(), []

    async def sleep(delay_s):
        await gate.wait()
        await timeline.sleep(delay_s)

    limiter = RateLimiter(1, 1, clock=timeline.clock, sleep=sleep)

    async def worker(number):
        await limiter.acquire()
        order.append((number, timeline.now))

    workers = [asyncio.create_task(worker(number)) for number in range(4)]
    await wait_until_idle()
    workers[victim].cancel()
    await asyncio.wait([workers[victim]])
    gate.set()
    await asyncio.gather(*workers, return_exceptions=True)
    remaining = [number for number in (1, 2, 3) if number != victim]
    assert order == [(0, 1000.0), (remaining[0], 1001.0), (remaining[1], 1002.0)]


async def test_acquire_without_a_limit_does_not_wait(timeline):
    limiter = RateLimiter(0, 0, clock=timeline.clock, sleep=timeline.sleep)
    await asyncio.gather(*(limiter.acquire(1e6) for _ in range(100)))
    assert timeline.slept == []


async def test_wait_applies_only_to_the_host_with_a_cooldown(timeline):
    cooldown = Cooldown(clock=timeline.clock, sleep=timeline.sleep, rand=lambda: 0.0)
    cooldown.start("a", 7.0)
    await cooldown.wait("b")
    assert timeline.now == 1000.0
    await asyncio.gather(*(cooldown.wait("a") for _ in range(3)))
    assert timeline.now >= 1007.0


async def test_start_with_a_shorter_delay_does_not_change_the_cooldown(timeline):
    cooldown = Cooldown(clock=timeline.clock, sleep=timeline.sleep, rand=lambda: 0.0)
    cooldown.start("a", 5.0)
    cooldown.start("a", 1.0)
    await cooldown.wait("a")
    assert timeline.now == 1005.0


async def test_wait_with_an_extended_cooldown_waits_until_its_end(timeline):
    async def sleep(delay_s):
        if not timeline.slept:
            cooldown.start("a", 9.0)
        await timeline.sleep(delay_s)

    cooldown = Cooldown(clock=timeline.clock, sleep=sleep, rand=lambda: 0.0)
    cooldown.start("a", 5.0)
    await cooldown.wait("a")
    assert timeline.now == 1009.0


def test_start_by_many_workers_is_logged_once(timeline, logs):
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
    ("status", "retry_after_s", "cooldown_s"),
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
def test_cooldown_seconds_depends_on_status_and_retry_after(status, retry_after_s, cooldown_s):
    assert cooldown_seconds(status, retry_after_s, POLICY) == cooldown_s


@pytest.mark.parametrize(
    ("left_s", "cooldown_s", "rand", "delay_s"),
    [(5.0, 60.0, 0.0, 5.0), (5.0, 60.0, 0.5, 5.5), (0.1, 0.2, 0.5, 0.2), (300.0, 300.0, 0.999, 300.999)],
)
def test_release_delay_spreads_waiters_over_a_second_at_most(left_s, cooldown_s, rand, delay_s):
    assert release_delay_s(left_s, cooldown_s, lambda: rand) == pytest.approx(delay_s)


async def test_wait_spreads_the_waiters_after_the_cooldown():
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
