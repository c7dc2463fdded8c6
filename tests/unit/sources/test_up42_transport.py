import asyncio

import pytest
from yarl import URL

from bulkdl.http.rate_limit import Cooldown, OriginRateLimiters
from bulkdl.http.retry import RetryPolicy
from bulkdl.sources.transport import RequestPolicy, describe_request, get_host

API_URL = URL("https://api.example/x?Signature=canary")


def request_policy(timeline, sleep=None):
    sleep = sleep or timeline.sleep
    return RequestPolicy(
        OriginRateLimiters(1, 1, clock=timeline.clock, sleep=sleep),
        Cooldown(clock=timeline.clock, sleep=timeline.sleep, rand=lambda: 0.0),
        RetryPolicy(),
        sleep=timeline.sleep,
    )


async def request_times(policy, timeline, count, url=API_URL):
    async def acquire():
        await policy.acquire(url)
        return timeline.now

    return await asyncio.gather(*(acquire() for _ in range(count)))


async def test_acquire_obeys_the_rate_limit(timeline):
    assert await request_times(request_policy(timeline), timeline, 3) == [1000, 1001, 1002]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.example:443/other", [1001, 1002]),
        ("https://api.example:8443/x", [1000, 1001]),
        ("http://api.example/x", [1000, 1001]),
        ("https://api.sa.example/x", [1000, 1001]),
    ],
)
async def test_acquire_limits_the_requests_to_each_origin(timeline, url, expected):
    policy = request_policy(timeline)
    assert await request_times(policy, timeline, 1) == [1000]
    assert await request_times(policy, timeline, 2, URL(url)) == expected


async def test_acquire_after_a_cooldown_obeys_the_rate_limit(timeline):
    policy = request_policy(timeline)
    policy.cooldown.start("api.example", 10)
    assert sorted(await request_times(policy, timeline, 3)) == [1010, 1011, 1012]


async def test_acquire_cooldown_started_during_the_wait_is_obeyed(timeline):
    async def sleep(delay_s):
        policy.cooldown.start("api.example", 30)
        await timeline.sleep(delay_s)

    policy = request_policy(timeline, sleep)
    assert await request_times(policy, timeline, 2) == [1000, 1030]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://h/x", "h"),
        ("https://h:443/x", "h"),
        ("http://h:8080/x", "h:8080"),
        ("http://[::1]:1/x", "[::1]:1"),
    ],
)
def test_get_host_contains_a_port_that_is_not_the_default(url, host):
    assert get_host(URL(url)) == host


def test_describe_request_has_no_query():
    assert describe_request("GET", API_URL) == "GET api.example/x"
