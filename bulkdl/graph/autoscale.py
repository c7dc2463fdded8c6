"""
Adapts the concurrency of a pool: higher while the throughput grows, lower if it does not help or does harm.

``ConcurrencyController`` only computes: its input is the throughput, its output is a limit. It changes the
limit in trials. A trial with a higher limit (at first twice the limit) is reverted if the throughput does not
grow by a fair share of the change. After a rest, the next trial has a lower limit. It is kept if the
throughput does not fall by a fair share. Congestion (throttling, server errors, lost connections) halves the
limit immediately.

The throughput is noisy. A bias towards lower limits would shrink every pool in time, so after the doubling
phase both sides of a comparison are means over many ticks.
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
_FAIR_SHARE = 0.3  # of the change in throughput that perfect scaling would give
_LOWER_LIMIT_FACTOR = 0.75  # of a trial with a lower limit
_REST_TICKS = 50
_TRIAL_TIMEOUT_TICKS = 20
_WINDOW_TICKS = 20
_MAX_TICK_S = 2.0

# The failures that indicate a concurrency that is too high.
CONGESTION_REASONS = frozenset(
    {Reason.THROTTLED, Reason.SERVER_ERROR, Reason.CONNECTION_LOST, Reason.STALLED, Reason.UNREACHABLE}
    | {Reason.TOO_MANY_OPEN_FILES}
)


@dataclass(slots=True)
class _Trial:
    """
    A trial of another limit.

    Attributes:
        previous_limit: The limit before the trial.
        previous_rate: The throughput with that limit.
        window_ticks: Number of ticks before the trial is evaluated.
        waited_ticks: Ticks during which the number of permits in use did not match the limit.
        is_effective: Whether the number of permits in use has matched the limit for one tick.
    """

    previous_limit: int
    previous_rate: float
    window_ticks: int
    waited_ticks: int = 0
    is_effective: bool = False


@dataclass(slots=True)
class ConcurrencyController:
    """
    Finds the number of permits with the highest throughput.

    Attributes:
        min_limit: Minimum of the limit.
        max_limit: Maximum of the limit.
        limit: The current number of permits.
    """

    min_limit: int
    max_limit: int
    limit: int
    _trial: _Trial | None = None
    _rest_ticks: int = 0
    _doubling: bool = True
    _lower_next: bool = False
    _rates: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW_TICKS))

    def step(self, rate: float, in_use: int, *, congested: bool) -> int:
        """
        Evaluate one tick and return the new limit.

        Args:
            rate: Throughput of the tick, in any unit.
            in_use: Number of permits in use.
            congested: Whether the server reported throttling or failed.
        """
        if self._trial is not None or in_use >= self.limit:
            self._rates.append(rate)
        if congested:
            self._end_trial(max(self.min_limit, self.limit // 2))
        elif self._trial is not None:
            self._advance_trial(self._trial, in_use)
        elif self._rest_ticks:
            self._rest_ticks -= 1
        elif in_use >= self.limit:
            self._start_trial()
        return self.limit

    def _start_trial(self) -> None:
        higher = min(self.limit * 2 if self._doubling else self.limit + 1, self.max_limit)
        lower = max(int(self.limit * _LOWER_LIMIT_FACTOR), self.min_limit)
        must_be_lower = self._lower_next or higher == self.limit
        limit = lower if must_be_lower and lower < self.limit else higher
        if limit != self.limit:
            is_doubling = self._doubling and limit > self.limit
            window_ticks = 1 if is_doubling else _WINDOW_TICKS
            rate = self._rates[-1] if is_doubling else fmean(self._rates)
            self._trial = _Trial(self.limit, rate, window_ticks)
            self.limit = limit

    def _advance_trial(self, trial: _Trial, in_use: int) -> None:
        if trial.is_effective:
            if len(self._rates) >= trial.window_ticks:
                self._evaluate_trial(trial, fmean(self._rates))
            return
        self._rates.clear()
        trial.waited_ticks += 1
        if in_use == self.limit:
            trial.is_effective = True
        elif trial.waited_ticks > _TRIAL_TIMEOUT_TICKS:  # too few outputs for the limit, or too few ended
            self._end_trial(trial.previous_limit, lower_next=not self._lower_next)

    def _evaluate_trial(self, trial: _Trial, rate: float) -> None:
        change = self.limit / trial.previous_limit - 1
        if rate >= trial.previous_rate * (1 + _FAIR_SHARE * change):
            self._trial = None
        else:
            self._end_trial(trial.previous_limit, lower_next=not self._lower_next)

    def _end_trial(self, limit: int, *, lower_next: bool = False) -> None:
        self.limit, self._trial = limit, None
        self._rates.clear()
        self._rest_ticks, self._doubling, self._lower_next = _REST_TICKS, False, lower_next


class ThroughputMeter:
    """Measures the throughput, the latency and the congestion of one pool."""

    def __init__(self) -> None:
        self.amount = 0
        self.latency_s = 0.0
        self._congested = False

    def add(self, amount: int) -> None:
        self.amount += amount

    def note_latency(self, latency_s: float) -> None:
        """Add *latency_s*, the time until the first byte of a transfer, to the moving average."""
        self.latency_s += (latency_s - self.latency_s) / 4

    def note_congestion(self) -> None:
        self._congested = True

    def take_congestion(self) -> bool:
        """Return whether there was congestion since the last call."""
        congested, self._congested = self._congested, False
        return congested

    @property
    def tick_s(self) -> float:
        """Duration of a tick: long enough to show the effect of a change."""
        return min(max(TICK_S, 1.5 * self.latency_s), _MAX_TICK_S)


async def adapt_concurrency(
    controller: ConcurrencyController, limiter: ConcurrencyLimiter, meter: ThroughputMeter
) -> None:
    """Resize *limiter* as *controller* decides from the throughput of *meter*, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        started_at, previous_amount, previous_limit = loop.time(), meter.amount, controller.limit
        await asyncio.sleep(meter.tick_s)
        rate = (meter.amount - previous_amount) / (loop.time() - started_at)
        limit = controller.step(rate, limiter.in_use, congested=meter.take_congestion())
        if limit != previous_limit:
            log.debug("pool.resized", limit=limit, rate=round(rate))
            limiter.resize(limit)
