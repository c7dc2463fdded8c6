import asyncio

import pytest
from yarl import URL

from bulkdl.http.rate_limit import Cooldown, RateLimiter
from bulkdl.http.retry import RetryPolicy
from bulkdl.sources.up42_jobs.transport import RequestPolicy, describe_request, host_of

API_URL = URL("https://api.example/x?Signature=canary")


def request_policy(timeline, sleep=None):
    sleep = sleep or timeline.sleep
    return RequestPolicy(
        RateLimiter(1, 1, clock=timeline.clock, sleep=sleep),
        Cooldown(clock=timeline.clock, sleep=timeline.sleep, rand=lambda: 0.0),
        RetryPolicy(),
        sleep=timeline.sleep,
    )


async def turns(behaved, timeline, count):
    async def one():
        await behaved.acquire(API_URL)
        return timeline.now

    return await asyncio.gather(*(one() for _ in range(count)))


async def test_requests_keep_the_pace(timeline):
    assert await turns(request_policy(timeline), timeline, 3) == [1000, 1001, 1002]


async def test_after_a_cooldown_the_pace_holds_as_well(timeline):
    behaved = request_policy(timeline)
    behaved.cooldown.start("api.example", 10)
    assert sorted(await turns(behaved, timeline, 3)) == [1010, 1011, 1012]


async def test_a_cooldown_that_begins_while_others_have_their_turn_is_obeyed(timeline):
    async def sleep(delay_s):
        behaved.cooldown.start("api.example", 30)
        await timeline.sleep(delay_s)

    behaved = request_policy(timeline, sleep)
    assert await turns(behaved, timeline, 2) == [1000, 1030]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://h/x", "h"),
        ("https://h:443/x", "h"),
        ("http://h:8080/x", "h:8080"),
        ("http://[::1]:1/x", "[::1]:1"),
    ],
)
def test_a_host_is_known_with_its_port_if_that_is_unusual(url, host):
    assert host_of(URL(url)) == host


def test_a_place_shows_no_query():
    assert describe_request("GET", API_URL) == "GET api.example/x"
