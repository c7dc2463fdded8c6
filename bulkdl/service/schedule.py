"""
Decide when the next run of the service starts: after an interval, or at times of day.

An interval uses the monotonic clock, so a change of the wall clock does not move the next run. Times of day
use the wall clock and the local time zone. The caller reads the remaining time again at least once a minute,
because the wall clock can change during the wait.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Protocol

# The interval grows by up to this share, so that several services do not start at the same time.
JITTER_SHARE = 0.1
# The distance of two times of day, with the longest day of a time zone.
_MAX_WAIT = timedelta(hours=27)


class Schedule(Protocol):
    """The times at which the service starts runs."""

    def remaining_s(self) -> float:
        """Return the seconds until the next run is due; zero or less if it is due."""

    def record_start(self, *, is_scheduled: bool) -> None:
        """Record the start of a run. *is_scheduled* is False for a run after an event."""

    def describe(self) -> str:
        """Return the schedule in the form of its option, such as ``every 1h``."""


class IntervalSchedule:
    """
    Starts a run at once, and the next one an interval with jitter after the start of the previous one.

    Any run starts the interval again, because it looks at the whole account.
    """

    def __init__(
        self,
        every_s: float,
        text: str,
        clock: Callable[[], float],
        *,
        last_start_s: float = -math.inf,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """
        Create a schedule.

        Args:
            text: The interval as the user wrote it.
            clock: Monotonic clock in seconds.
            last_start_s: Start of the previous run by this clock, if the schedule replaces another one.
            draw: Returns a random number from 0 to 1.
        """
        self._every_s = every_s
        self._text = text
        self._clock = clock
        self._draw = draw
        self._due_s = self._due_after(last_start_s)

    def _due_after(self, start_s: float) -> float:
        return start_s + self._every_s * (1 + JITTER_SHARE * self._draw())

    def remaining_s(self) -> float:
        return max(self._due_s - self._clock(), 0.0)

    def record_start(self, *, is_scheduled: bool) -> None:  # noqa: ARG002 - see the class
        self._due_s = self._due_after(self._clock())

    def describe(self) -> str:
        return f"every {self._text}"


class DailySchedule:
    """
    Starts a run at each of *times*, in the local time zone.

    A time that the change to summer time skips is moved by the skipped hour. A time that occurs twice in the
    change to winter time starts one run.
    """

    def __init__(self, times: Sequence[str], now: Callable[[], datetime], zone: tzinfo | None = None) -> None:
        """
        Create a schedule.

        Args:
            times: Times of day as ``HH:MM``; at least one.
            now: Returns the current time with any time zone.
            zone: The zone of the times; by default that of the system.
        """
        self._times = [time.fromisoformat(text) for text in times]
        self._text = ",".join(times)
        self._now = now
        self._zone = zone
        self._due_at = self._find_next(now())

    def remaining_s(self) -> float:
        now = self._now()
        if self._due_at - now > _MAX_WAIT:  # the wall clock was moved back by days
            self._due_at = self._find_next(now)
        return max((self._due_at - now).total_seconds(), 0.0)

    def record_start(self, *, is_scheduled: bool) -> None:
        if is_scheduled:
            self._due_at = self._find_next(self._now())

    def describe(self) -> str:
        return f"at {self._text}"

    def _find_next(self, now: datetime) -> datetime:
        """Return the first of the times after *now*, in UTC."""
        today = now.astimezone(self._zone).date()
        days = [today + timedelta(days=days) for days in range(3)]
        candidates = [self._to_utc(datetime.combine(day, each)) for day in days for each in self._times]
        return min(each for each in candidates if each > now)

    def _to_utc(self, local: datetime) -> datetime:
        if self._zone is not None:
            local = local.replace(tzinfo=self._zone)
        return local.astimezone(UTC)  # a time without a zone is one of the system
