"""
Limits the request rate, and pauses requests to a host that reports throttling.

``TokenBucket`` only computes; the caller passes the time. ``RateLimiter`` serves its waiters in order. Only
the first waiter has a reservation. A waiter that is cancelled has no reservation, or returns it before the
next waiter reserves.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial

from bulkdl.http.retry import RetryPolicy
from bulkdl.log import get_logger

_log = get_logger(__name__)

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[object]]


class TokenBucket:
    """
    Computes how long an amount must wait, at *rate* units a second with *burst* units at once.

    An amount larger than *burst* is allowed; the following amounts wait for it.
    """

    def __init__(self, rate: float, burst: float) -> None:
        """
        Start with *burst* units available.

        Args:
            rate: Units per second; 0 is unlimited.
            burst: Maximum number of units that are available after a pause.
        """
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at: float | None = None

    @property
    def is_unlimited(self) -> bool:
        return self._rate <= 0

    @property
    def burst(self) -> float:
        return self._burst

    def set_rate(self, rate: float, burst: float) -> None:
        """Change the rate. The new rate also applies to the reservations so far."""
        self._rate, self._burst = rate, burst
        self._level = min(self._level, burst)

    def take(self, now: float, amount: float = 1.0) -> float:
        """Reserve *amount* and return the seconds until it is available."""
        if self.is_unlimited:
            return 0.0
        elapsed_s = 0.0 if self._at is None else max(now - self._at, 0.0)
        self._at = now if self._at is None else max(now, self._at)
        self._level = min(self._burst, self._level + elapsed_s * self._rate) - amount
        return max(-self._level / self._rate, 0.0)

    def refund(self, amount: float) -> None:
        """Return the latest reservation, which was not used."""
        self._level += amount


class RateLimiter:
    """
    A rate limit that all callers share. Callers are served in order, in two queues.

    Callers with low priority wait in a separate queue. Only the first of them waits in the main queue, so it
    delays another caller by at most one turn and still makes progress.
    """

    def __init__(
        self, rate: float, burst: float, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._bucket = TokenBucket(rate, burst)
        self._clock = clock
        self._sleep = sleep
        self._main_queue = asyncio.Lock()  # wakes its waiters in order
        self._low_priority_queue = asyncio.Lock()

    def set_rate(self, rate: float, burst: float | None = None) -> None:
        """Change the rate; the default of *burst* is the amount of one second."""
        self._bucket.set_rate(rate, rate if burst is None else burst)

    @property
    def burst(self) -> float | None:
        """The amount that is available at once after a pause; None if the rate is unlimited."""
        return None if self._bucket.is_unlimited else self._bucket.burst

    def refund(self, amount: float) -> None:
        """Return a part of an acquired amount that was not used."""
        self._bucket.refund(amount)

    async def acquire(self, amount: float = 1.0, *, low_priority: bool = False) -> None:
        """
        Wait until *amount* is available.

        Args:
            low_priority: Wait in the separate queue: other work does not depend on this amount.
        """
        if self._bucket.is_unlimited:
            return
        async with self._low_priority_queue if low_priority else nullcontext(), self._main_queue:
            wait_s = self._bucket.take(self._clock(), amount)
            if wait_s <= 0:
                return
            try:
                await self._sleep(wait_s)
            except asyncio.CancelledError:
                self._bucket.refund(amount)
                raise


# A source can request URLs that a server chooses.
_MAX_ORIGINS = 256


class OriginRateLimiters:
    """
    One rate limiter for each origin (scheme, host and port). A server limits only the requests to itself.

    The limiters of the origins that were used last are kept.

    Args:
        rate: Requests per second to one origin; 0 is unlimited.
        burst: Requests to one origin that can be sent at once after a pause.
    """

    def __init__(
        self, rate: float, burst: float, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._new = partial(RateLimiter, rate, burst, clock=clock, sleep=sleep)
        self._limiters: OrderedDict[str, RateLimiter] = OrderedDict()

    def limiter(self, origin: str) -> RateLimiter:
        """Return the limiter that all requests to *origin* share."""
        if origin not in self._limiters:
            self._limiters[origin] = self._new()
        self._limiters.move_to_end(origin)
        if len(self._limiters) > _MAX_ORIGINS:
            self._limiters.popitem(last=False)
        return self._limiters[origin]


# Maximum time over which the waiting requests are spread when a cooldown ends.
_MAX_SPREAD_S = 1.0


def release_delay_s(left_s: float, cooldown_s: float, rand: Callable[[], float]) -> float:
    """
    Return how long one waiter sleeps until it sends a request to a host with a cooldown.

    Args:
        left_s: Time until the cooldown ends.
        cooldown_s: Duration of the cooldown.
        rand: Returns a number in [0, 1), which spreads the requests of the waiters.
    """
    return left_s + rand() * min(_MAX_SPREAD_S, cooldown_s)


class Cooldown:
    """The hosts that reported throttling, with the end of their cooldowns. Shared by all workers."""

    def __init__(
        self,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._rand = rand
        self._ends_at: dict[str, float] = {}
        self._durations_s: dict[str, float] = {}

    async def wait(self, host: str) -> None:
        """Wait for the end of the cooldown of *host*; return immediately if it has none."""
        while (left_s := self._ends_at.get(host, 0.0) - self._clock()) > 0:
            await self._sleep(release_delay_s(left_s, self._durations_s[host], self._rand))
        self._ends_at.pop(host, None)

    def start(self, host: str, delay_s: float) -> None:
        """Pause all requests to *host* for *delay_s* from now; a longer cooldown remains."""
        now = self._clock()
        previous_end = self._ends_at.get(host, now)
        if now + delay_s <= previous_end:
            return
        self._ends_at[host], self._durations_s[host] = now + delay_s, delay_s
        # Many workers report the same throttling within a short time. It is logged once.
        if previous_end <= now or now + delay_s - previous_end > 1.0:
            _log.warning("rate_limit.cooldown", host=host, delay_s=round(delay_s, 3))


def cooldown_seconds(status: int, retry_after_s: float | None, policy: RetryPolicy) -> float | None:
    """
    Return the cooldown of the host after a response with *status*; None for no cooldown.

    A 429 always applies to the host. A 503 does so only with Retry-After: without it, only this request may
    be affected.
    """
    if status == 429:
        delay_s = policy.base_s if retry_after_s is None else retry_after_s
        return min(delay_s, policy.retry_after_cap_s)
    if status == 503 and retry_after_s is not None:
        return min(retry_after_s, policy.retry_after_cap_s)
    return None
