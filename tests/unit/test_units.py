from __future__ import annotations

import pytest

from bulkdl.settings.parsers import parse_size
from bulkdl.units import format_clock, format_rate, format_size


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (64 << 20, "64.0 MiB"),
        (1 << 40, "1.0 TiB"),
        (5e20, "444089.2 PiB"),
    ],
)
def test_format_size_uses_multiples_of_1024(size_bytes, text):
    assert format_size(size_bytes) == text


def test_format_size_prints_the_number_that_parse_size_reads():
    assert format_size(parse_size("500G")) == "500.0 GiB"


def test_format_rate_appends_per_second():
    assert format_rate(2 << 20) == "2.0 MiB/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (59.96, "1:00"), (61, "1:01"), (3600, "1:00:00"), (90061, "25:01:01")],
)
def test_format_clock_uses_seconds_minutes_and_hours(seconds, text):
    assert format_clock(seconds) == text
