from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from bulkdl.settings.bandwidth_schedule import parse_bandwidth_schedule


def time_at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2024-03-01T{clock}+02:00")


@pytest.mark.parametrize(
    ("clock", "limit", "next_s"),
    [
        ("00:00", 0, 8 * 3600),
        ("07:59:59", 0, 1),
        ("08:00", 2 << 20, 11 * 3600),
        ("18:59:59", 2 << 20, 1),
        ("19:00", 0, 13 * 3600),
        ("23:00", 0, 9 * 3600),
    ],
)
def test_bandwidth_schedule_returns_limit_and_time_to_the_next_change(clock, limit, next_s):
    schedule = parse_bandwidth_schedule("08:00,2M 19:00,off")
    assert schedule.limit_at(time_at(clock)) == limit
    assert schedule.next_change_s(time_at(clock)) == next_s


@pytest.mark.parametrize(("text", "limit"), [("2M", 2 << 20), ("off", 0), (512, 512), ("0", 0)])
def test_bandwidth_schedule_with_one_size_applies_all_day(text, limit):
    schedule = parse_bandwidth_schedule(text)
    assert [schedule.limit_at(time_at("00:00") + timedelta(hours=hour)) for hour in (0, 5, 23)] == [limit] * 3
    assert schedule.next_change_s(time_at("12:00")) == 12 * 3600


def test_parse_bandwidth_schedule_sorts_its_entries():
    assert parse_bandwidth_schedule("19:00,off 8:00,2M") == parse_bandwidth_schedule("08:00,2M 19:00,off")


@pytest.mark.parametrize(
    "text", ["8,2M", "25:00,1M", "08:60,1M", "08:00,fast", "08:00,1M 08:00,2M", "08:00,"]
)
def test_parse_bandwidth_schedule_with_invalid_text_fails(text):
    with pytest.raises(ValueError, match="expected"):
        parse_bandwidth_schedule(text)


@pytest.mark.parametrize("text", ["2M", "08:00,2M 19:00,off", "512"])
def test_bandwidth_schedule_is_formatted_as_the_user_writes_it(text):
    assert parse_bandwidth_schedule(str(parse_bandwidth_schedule(text))) == parse_bandwidth_schedule(text)
