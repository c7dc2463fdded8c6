"""
How many to have at work at once: more while that pays, fewer at once when it hurts.

``Climb`` is a pure function in all but name: rates go in, a limit comes out. One more (or, at the
start, twice as many) is a trial; if the rate has not risen by a fair share of what was added, the
trial is taken back and the next one waits a while. A server that throttles, fails or breaks
connections halves the limit at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bulkdl.log import get_logger
from bulkdl.model import Reason
from bulkdl.transfer.permits import Permits

log = get_logger(__name__)

TICK_S = 0.1
_FAIR_SHARE = 0.3  # of the growth that perfect scaling would bring
_REST_TICKS = 50
_LONGEST_TICK_S = 3.0

# What says that there are too many of us.
TROUBLE = frozenset(
    {Reason.THROTTLED, Reason.SERVER_ERROR, Reason.CONNECTION_LOST, Reason.STALLED, Reason.UNREACHABLE}
)


@dataclass(slots=True)
class Climb:
    """
    Attributes:
        least: Never fewer than this.
        most: Never more.
        limit: How many there should be now.
    """

    least: int
    most: int
    limit: int
    _before: int = 0  # the limit before the trial that is on; 0: none is
    _rate: float = 0.0  # at that limit
    _rest: int = 0
    _doubling: bool = True

    def step(self, rate: float, in_use: int, *, trouble: bool) -> int:
        """
        Take in one tick and say how many there should be.

        Args:
            rate: What was achieved in this tick, in any unit.
            in_use: How many were at work.
            trouble: The server asked us to hold back, or could not keep up.
        """
        if trouble:
            self._settle(max(self.least, self.limit // 2))
        elif self._before:
            self._judge_trial(rate)
        elif self._rest:
            self._rest -= 1
        elif in_use >= self.limit and self.limit < self.most:
            self._try_more(rate)
        return self.limit

    def _try_more(self, rate: float) -> None:
        self._before, self._rate = self.limit, rate
        self.limit = min(self.most, self.limit * 2 if self._doubling else self.limit + 1)

    def _judge_trial(self, rate: float) -> None:
        hoped = self.limit / self._before - 1
        if rate >= self._rate * (1 + _FAIR_SHARE * hoped):
            self._before = 0
        else:
            self._settle(self._before)

    def _settle(self, limit: int) -> None:
        self.limit, self._before = limit, 0
        self._rest, self._doubling = _REST_TICKS, False


class Meter:
    """What has come so far, how long it takes to begin, and whether there was trouble."""

    def __init__(self) -> None:
        self.amount = 0
        self.latency_s = 0.0
        self._trouble = False

    def add(self, amount: int) -> None:
        self.amount += amount

    def note_latency(self, latency_s: float) -> None:
        """A transfer took so long until its first byte."""
        self.latency_s += (latency_s - self.latency_s) / 4

    def note_trouble(self) -> None:
        self._trouble = True

    def take_trouble(self) -> bool:
        trouble, self._trouble = self._trouble, False
        return trouble

    @property
    def tick_s(self) -> float:
        """Long enough for what was changed to show."""
        return min(max(TICK_S, 3 * self.latency_s), _LONGEST_TICK_S)


async def keep_adapting(climb: Climb, permits: Permits, meter: Meter) -> None:
    """Have *permits* follow *climb* until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        began_at, before, was = loop.time(), meter.amount, climb.limit
        await asyncio.sleep(meter.tick_s)
        rate = (meter.amount - before) / (loop.time() - began_at)
        limit = climb.step(rate, permits.in_use, trouble=meter.take_trouble())
        if limit != was:
            log.debug("pool.resized", limit=limit, rate=round(rate))
            permits.resize(limit)
