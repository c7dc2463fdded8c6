"""Test the two schedules of the service with clocks that the test sets."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from bulkdl.service.schedule import JITTER_SHARE, DailySchedule, IntervalSchedule

BERLIN = ZoneInfo("Europe/Berlin")


class Clocks:
    """A monotonic and a wall clock."""

    def __init__(self, text: str = "2026-03-01T12:00:00+00:00") -> None:
        self.monotonic_s = 1000.0
        self.now_at = datetime.fromisoformat(text)

    def monotonic(self) -> float:
        return self.monotonic_s

    def now(self) -> datetime:
        return self.now_at


def test_interval_is_due_at_once_and_then_after_the_interval_with_jitter():
    clocks = Clocks()
    draws = iter([0.7, 0.0, 1.0])
    schedule = IntervalSchedule(3600, "1h", clocks.monotonic, draw=lambda: next(draws))
    assert schedule.remaining_s() == 0
    schedule.record_start(is_scheduled=True)
    assert schedule.remaining_s() == 3600
    clocks.monotonic_s += 600
    assert schedule.remaining_s() == 3000
    schedule.record_start(is_scheduled=False)
    assert schedule.remaining_s() == pytest.approx(3600 * (1 + JITTER_SHARE))
    assert schedule.describe() == "every 1h"


def test_interval_continues_from_the_last_start_of_the_schedule_it_replaces():
    clocks = Clocks()
    schedule = IntervalSchedule(60, "1m", clocks.monotonic, last_start_s=990.0, draw=lambda: 0.0)
    assert schedule.remaining_s() == 50
    clocks.monotonic_s = 5000
    assert schedule.remaining_s() == 0


def daily(clocks: Clocks, *times: str) -> DailySchedule:
    return DailySchedule(times, clocks.now, BERLIN)


def test_daily_is_due_at_each_time_in_the_zone_and_not_at_the_start():
    clocks = Clocks("2026-03-01T00:10:00+00:00")  # 01:10 in Berlin
    schedule = daily(clocks, "01:30", "13:00")
    assert schedule.remaining_s() == 20 * 60
    clocks.now_at += timedelta(minutes=20)
    assert schedule.remaining_s() == 0
    schedule.record_start(is_scheduled=True)
    assert schedule.remaining_s() == 11.5 * 3600
    assert schedule.describe() == "at 01:30,13:00"


def test_daily_run_after_an_event_does_not_replace_the_scheduled_run():
    clocks = Clocks("2026-03-01T00:29:00+00:00")
    schedule = daily(clocks, "01:30")
    schedule.record_start(is_scheduled=False)
    assert schedule.remaining_s() == 60
    clocks.now_at += timedelta(minutes=5)  # the run lasted beyond the time
    assert schedule.remaining_s() == 0


def test_daily_time_that_summer_time_skips_is_moved_by_the_skipped_hour():
    clocks = Clocks("2026-03-29T00:00:00+00:00")
    schedule = daily(clocks, "02:30")
    assert clocks.now_at + timedelta(seconds=schedule.remaining_s()) == datetime(
        2026, 3, 29, 1, 30, tzinfo=UTC
    )


def test_daily_time_that_occurs_twice_starts_one_run():
    clocks = Clocks("2026-10-24T23:00:00+00:00")
    schedule = daily(clocks, "02:30")
    first_at = clocks.now_at + timedelta(seconds=schedule.remaining_s())
    assert first_at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    clocks.now_at = first_at
    schedule.record_start(is_scheduled=True)
    assert clocks.now_at + timedelta(seconds=schedule.remaining_s()) == datetime(
        2026, 10, 26, 1, 30, tzinfo=UTC
    )


def test_daily_wall_clock_moved_back_by_months_is_used_again():
    clocks = Clocks("2026-06-01T00:00:00+00:00")
    schedule = daily(clocks, "03:30")
    clocks.now_at = datetime(2026, 1, 1, tzinfo=UTC)
    assert schedule.remaining_s() == 2.5 * 3600


def test_daily_wall_clock_moved_forward_makes_the_run_due_once():
    clocks = Clocks("2026-06-01T00:00:00+00:00")
    schedule = daily(clocks, "03:30")
    clocks.now_at += timedelta(days=40)
    assert schedule.remaining_s() == 0
    schedule.record_start(is_scheduled=True)
    assert schedule.remaining_s() > 0


def test_daily_without_a_zone_uses_that_of_the_system():
    now_at = datetime.now(UTC)
    schedule = DailySchedule(["12:00"], lambda: now_at)
    due_at = (now_at + timedelta(seconds=schedule.remaining_s())).astimezone()
    assert (due_at.hour, due_at.minute) == (12, 0)
