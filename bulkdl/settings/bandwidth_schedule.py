"""
A bandwidth limit that can depend on the time of day: ``2M``, or ``08:00,2M 19:00,off`` in local time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from bulkdl.settings import parsers

_ENTRY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d),(\S+)", re.ASCII)
EXPECTED = "expected bytes per second (2M, off) or a schedule such as '08:00,2M 19:00,off'"


@dataclass(frozen=True, slots=True)
class BandwidthSchedule:
    """
    Limits by the time of day at which they start.

    Attributes:
        entries: At least one (time of day, bytes per second; 0 means no limit), ordered by time. Before
            the first entry of a day, the last entry of the previous day applies.
    """

    entries: tuple[tuple[time, int], ...]

    def __str__(self) -> str:
        if len(self.entries) == 1:
            return parsers.write_size(self.entries[0][1])
        return " ".join(f"{start:%H:%M},{parsers.write_size(limit)}" for start, limit in self.entries)

    def limit_at(self, now: datetime) -> int:
        """Return the bytes per second that apply at the local time *now*; 0 means no limit."""
        started = [limit for start, limit in self.entries if start <= now.time()]
        return started[-1] if started else self.entries[-1][1]

    def next_change_s(self, now: datetime) -> float:
        """Return the seconds from *now* until the next entry starts: at most a day."""
        today = [datetime.combine(now.date(), start, now.tzinfo) for start, _ in self.entries]
        ahead = [start_at for start_at in today if start_at > now] or [today[0] + timedelta(days=1)]
        return (ahead[0] - now).total_seconds()


UNLIMITED = BandwidthSchedule(((time(0), 0),))


def parse_bandwidth_schedule(value: object) -> BandwidthSchedule:
    """
    Parse a schedule from text, or one limit from text or a plain number.

    Raises:
        ValueError: The text is not a schedule.
    """
    if isinstance(value, BandwidthSchedule):
        return value
    if not isinstance(value, str) or "," not in value:
        return BandwidthSchedule(((time(0), parsers.parse_size(value)),))
    entries = {}
    for word in value.split():
        match = _ENTRY.fullmatch(word)
        if match is None:
            raise ValueError(EXPECTED)
        start = time(int(match[1]), int(match[2]))
        if start in entries:
            raise ValueError(f"{EXPECTED}; {start:%H:%M} is given twice")
        entries[start] = parsers.parse_size(match[3])
    return BandwidthSchedule(tuple(sorted(entries.items())))
