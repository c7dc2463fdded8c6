"""
A bandwidth limit that may change with the hour: ``2M``, or ``08:00,2M 19:00,off`` in local time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from bulkdl.settings import parse

_ENTRY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d),(\S+)", re.ASCII)
EXPECTED = "expected bytes a second (2M, off) or a timetable such as '08:00,2M 19:00,off'"


@dataclass(frozen=True, slots=True)
class Timetable:
    """
    Limits by the hour they begin.

    Attributes:
        entries: (time of day, bytes per second; 0 is no limit), by time, at least one. What
            is in force before the first one is the last one of the day before.
    """

    entries: tuple[tuple[time, int], ...]

    def __str__(self) -> str:
        if len(self.entries) == 1:
            return str(self.entries[0][1])
        return " ".join(f"{start:%H:%M},{limit or 'off'}" for start, limit in self.entries)

    def limit_at(self, now: datetime) -> int:
        """Bytes per second at *now*, a local moment; 0 is no limit."""
        begun = [limit for start, limit in self.entries if start <= now.time()]
        return begun[-1] if begun else self.entries[-1][1]

    def next_change_s(self, now: datetime) -> float:
        """Seconds from *now* until another entry begins: at most a day."""
        today = [datetime.combine(now.date(), start, now.tzinfo) for start, _ in self.entries]
        ahead = [moment for moment in today if moment > now] or [today[0] + timedelta(days=1)]
        return (ahead[0] - now).total_seconds()


UNLIMITED = Timetable(((time(0), 0),))


def timetable(value: object) -> Timetable:
    """A timetable from text or a plain number. Raises ValueError with what was expected."""
    if isinstance(value, Timetable):
        return value
    if not isinstance(value, str) or "," not in value:
        return Timetable(((time(0), parse.size_bytes(value)),))
    entries = {}
    for word in value.split():
        match = _ENTRY.fullmatch(word)
        if match is None:
            raise ValueError(EXPECTED)
        start = time(int(match[1]), int(match[2]))
        if start in entries:
            raise ValueError(f"{EXPECTED}; {start:%H:%M} stands twice")
        entries[start] = parse.size_bytes(match[3])
    return Timetable(tuple(sorted(entries.items())))
