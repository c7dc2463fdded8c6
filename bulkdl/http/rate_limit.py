"""
Our own rate, and the server's word to hold back.

``TokenBucket`` is arithmetic on moments that others hand in. ``Pace`` lets waiters through it in
the order they came, in two queues: only the one at the head has reserved anything, so whoever is
cancelled either had nothing reserved or gives it back before the next one reserves.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

from bulkdl.http.retry import RetryPolicy
from bulkdl.log import get_logger

_log = get_logger(__name__)

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[object]]


class TokenBucket:
    """
    How long an amount has to wait, at *rate* units a second and *burst* units at once. It has no clock.

    An amount larger than *burst* is let through too, and is paid for by those that follow.
    """

    def __init__(self, rate: float, burst: float) -> None:
        """
        Begin full.

        Args:
            rate: Units per second; 0 for no limit.
            burst: Units that may go at once after a rest.
        """
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at: float | None = None

    @property
    def unlimited(self) -> bool:
        return self._rate <= 0

    def set_rate(self, rate: float, burst: float) -> None:
        """Go on at another rate; what is owed so far is paid at the new one."""
        self._rate, self._burst = rate, burst
        self._level = min(self._level, burst)

    def take(self, now: float, amount: float = 1.0) -> float:
        """Reserve *amount* and return the seconds until it may go."""
        if self.unlimited:
            return 0.0
        elapsed_s = 0.0 if self._at is None else max(now - self._at, 0.0)
        self._at = now if self._at is None else max(now, self._at)
        self._level = min(self._burst, self._level + elapsed_s * self._rate) - amount
        return max(-self._level / self._rate, 0.0)

    def give_back(self, amount: float) -> None:
        """Undo the latest reservation; it was not used."""
        self._level += amount


class RateLimiter:
    """
    A rate that all who share this object keep together; first come, first served, in two queues.

    Those who can wait queue up by themselves, and only the first of them stands among the others. So
    what is behind a few dozen of them waits for one, and they still get on.
    """

    def __init__(
        self, rate: float, burst: float, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._bucket = TokenBucket(rate, burst)
        self._clock = clock
        self._sleep = sleep
        self._head = asyncio.Lock()  # wakes its waiters in the order they came
        self._patient = asyncio.Lock()

    def set_rate(self, rate: float, burst: float | None = None) -> None:
        """Keep another rate from now on; without *burst*, what comes in one second may come at once."""
        self._bucket.set_rate(rate, rate if burst is None else burst)

    async def acquire(self, amount: float = 1.0, *, low_priority: bool = False) -> None:
        """
        Return when *amount* may go.

        Args:
            can_wait: Nothing else is to follow from it.
        """
        if self._bucket.unlimited:
            return
        async with self._patient if low_priority else nullcontext(), self._head:
            wait_s = self._bucket.take(self._clock(), amount)
            if wait_s <= 0:
                return
            try:
                await self._sleep(wait_s)
            except asyncio.CancelledError:
                self._bucket.give_back(amount)
                raise


# Longest time over which the requests that waited for a host are spread when its cooldown ends.
_MAX_SPREAD_S = 1.0


def release_delay_s(left_s: float, cooldown_s: float, rand: Callable[[], float]) -> float:
    """
    Return how long one waiter sleeps until it may ask a cooling host.

    Args:
        left_s: Until the cooldown ends.
        cooldown_s: How long it lasts in all.
        rand: Gives a number in [0, 1); spreads the waiters, so that they do not ask at the same moment.
    """
    return left_s + rand() * min(_MAX_SPREAD_S, cooldown_s)


class Cooldown:
    """Hosts that told us to hold back, and until when. Shared by all workers."""

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
        self._until: dict[str, float] = {}
        self._lasts: dict[str, float] = {}

    async def wait(self, host: str) -> None:
        """Return when *host* may be asked again: at once unless it is cooling."""
        while (left_s := self._until.get(host, 0.0) - self._clock()) > 0:
            await self._sleep(release_delay_s(left_s, self._lasts[host], self._rand))
        self._until.pop(host, None)

    def start(self, host: str, delay_s: float) -> None:
        """Let everybody leave *host* alone for *delay_s* from now; never shortens a longer wait."""
        now = self._clock()
        before = self._until.get(host, now)
        if now + delay_s <= before:
            return
        self._until[host], self._lasts[host] = now + delay_s, delay_s
        # Many workers hear of one throttling within moments: it is told once, not by each.
        if before <= now or now + delay_s - before > 1.0:
            _log.warning("rate_limit.cooldown", host=host, delay_s=round(delay_s, 3))


def cooldown_seconds(status: int, retry_after_s: float | None, policy: RetryPolicy) -> float | None:
    """
    For how long a whole host is to be left alone after an answer; None when there is no need.

    A 429 always speaks for the host. A 503 does so only with a Retry-After: without one it may
    be the trouble of a single request.
    """
    if status == 429:
        wanted_s = policy.base_s if retry_after_s is None else retry_after_s
        return min(wanted_s, policy.retry_after_cap_s)
    if status == 503 and retry_after_s is not None:
        return min(retry_after_s, policy.retry_after_cap_s)
    return None
