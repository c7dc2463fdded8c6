"""
How many to have at work at once: more while that pays, fewer where they are of no use or do harm.

``Climb`` is a pure function in all but name: rates go in, a limit comes out. Some more (at the start,
twice as many) are a trial: if the rate does not rise by a fair share of what was added, they are taken
back. After a rest the next trial is one of fewer: if the rate does not fall by a fair share of what was
taken away, these were of no use and stay away. A server that throttles, fails or breaks connections
halves the limit at once.

Rates are noisy, and a chance that favours fewer would thin out every pool in time: so once the doubling is
over, both sides of a comparison are means over many ticks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.log import get_logger
from bulkdl.models import Reason

log = get_logger(__name__)

TICK_S = 0.1
_FAIR_SHARE = 0.3  # of the change of the rate that perfect scaling would bring
_KEPT_SHARE = 0.75  # what a trial of fewer leaves
_REST_TICKS = 50
_PATIENCE_TICKS = 20
_WINDOW_TICKS = 20
_LONGEST_TICK_S = 2.0

# What says that there are too many of us.
CONGESTION_REASONS = frozenset(
    {Reason.THROTTLED, Reason.SERVER_ERROR, Reason.CONNECTION_LOST, Reason.STALLED, Reason.UNREACHABLE}
    | {Reason.TOO_MANY_OPEN_FILES}
)


@dataclass(slots=True)
class _Trial:
    """
    Attributes:
        before: The limit that it began from.
        rate: What was achieved there.
        window_ticks: As many are looked at before it is judged.
        ticks: How long it has not been in force.
        in_force: As many are at work as it wants, since a whole tick ago.
    """

    before: int
    rate: float
    window_ticks: int
    ticks: int = 0
    in_force: bool = False


@dataclass(slots=True)
class ConcurrencyController:
    """
    Attributes:
        least: Never fewer than this.
        most: Never more.
        limit: How many there should be now.
    """

    min_limit: int
    max_limit: int
    limit: int
    _trial: _Trial | None = None
    _rest: int = 0
    _doubling: bool = True
    _down: bool = False
    _rates: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW_TICKS))

    def step(self, rate: float, in_use: int, *, trouble: bool) -> int:
        """
        Take in one tick and say how many there should be.

        Args:
            rate: What was achieved in this tick, in any unit.
            in_use: How many are at work.
            trouble: The server asked us to hold back, or could not keep up.
        """
        if self._trial is not None or in_use >= self.limit:
            self._rates.append(rate)
        if trouble:
            self._end_trial(max(self.min_limit, self.limit // 2))
        elif self._trial is not None:
            self._follow(self._trial, in_use)
        elif self._rest:
            self._rest -= 1
        elif in_use >= self.limit:
            self._try_another()
        return self.limit

    def _try_another(self) -> None:
        more = min(self.limit * 2 if self._doubling else self.limit + 1, self.max_limit)
        fewer = max(int(self.limit * _KEPT_SHARE), self.min_limit)
        must_shrink = self._down or more == self.limit
        wanted = fewer if must_shrink and fewer < self.limit else more
        if wanted != self.limit:
            quick = self._doubling and wanted > self.limit
            window = 1 if quick else _WINDOW_TICKS
            self._trial = _Trial(self.limit, self._rates[-1] if quick else fmean(self._rates), window)
            self.limit = wanted

    def _follow(self, trial: _Trial, in_use: int) -> None:
        if trial.in_force:
            if len(self._rates) >= trial.window_ticks:
                self._evaluate_trial(trial, fmean(self._rates))
            return
        self._rates.clear()
        trial.ticks += 1
        if in_use == self.limit:
            trial.in_force = True
        elif trial.ticks > _PATIENCE_TICKS:  # nobody wants as many, or nobody can leave so soon
            self._end_trial(trial.before, down=not self._down)

    def _evaluate_trial(self, trial: _Trial, rate: float) -> None:
        change = self.limit / trial.before - 1
        if rate >= trial.rate * (1 + _FAIR_SHARE * change):
            self._trial = None
        else:
            self._end_trial(trial.before, down=not self._down)

    def _end_trial(self, limit: int, *, down: bool = False) -> None:
        self.limit, self._trial = limit, None
        self._rates.clear()
        self._rest, self._doubling, self._down = _REST_TICKS, False, down


class ThroughputMeter:
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

    def note_congestion(self) -> None:
        self._trouble = True

    def take_trouble(self) -> bool:
        trouble, self._trouble = self._trouble, False
        return trouble

    @property
    def tick_s(self) -> float:
        """Long enough for what was changed to show."""
        return min(max(TICK_S, 1.5 * self.latency_s), _LONGEST_TICK_S)


async def adapt_concurrency(
    climb: ConcurrencyController, permits: ConcurrencyLimiter, meter: ThroughputMeter
) -> None:
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
