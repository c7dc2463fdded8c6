"""
Find the date of a feature. Providers write it under many names and in several notations.

Only notations that have one meaning are accepted. A time without a zone is UTC. The functions are pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_INSTANTS = (
    "datetime",
    "acquisitionDate",
    "acquisition_time",
    "time",
    "timestamp",
    "timeStamp",
    "osm_timestamp",
)
_SPANS = (
    ("start_datetime", "end_datetime"),
    ("acquisition.beginViewingDate", "acquisition.endViewingDate"),
    ("START_DATE", "END_DATE"),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MIN_EPOCH_S, _MAX_EPOCH_S = 10**8, 10**10  # 1973 to 2286: smaller numbers are years or days
_MIN_EPOCH_MS = 10**11
_EARLIEST, _LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"\d{9,13}(\.\d+)?")
_DATE = re.compile(r"\d{4}-?\d{2}-?\d{2}")
_MAX_CHARS = 64
JOB, DELIVERY = "job", "delivery"
"""The source of a date that is only the time of the container."""


@dataclass(frozen=True, slots=True)
class FeatureDate:
    """
    The date of a feature in RFC 3339.

    Attributes:
        source: The name of the property that has the date; the word for the container if only its time
            is known; empty if there is no date.
        notes: What was assumed.
    """

    datetime: str | None = None
    start: str | None = None
    end: str | None = None
    source: str = ""
    notes: tuple[str, ...] = ()


def find_date(
    properties: Mapping[str, Any], started_at: str, finished_at: str, *, container: str = JOB
) -> FeatureDate:
    """
    Return the date of a feature with *properties*.

    Args:
        started_at: The start of its container, or an empty string.
        finished_at: The end of its container, or an empty string.
        container: The source of a date that is only the time of the container.
    """
    for name in _INSTANTS:
        found = parse_instant(properties.get(name))
        if found is not None:
            return FeatureDate(format_instant(found[0]), source=name, notes=_zone_note(name, found[1]))
    for first, last in _SPANS:
        begin = parse_instant(_find_nested(properties, first))
        if begin is not None:
            end = parse_instant(_find_nested(properties, last)) or begin
            start, stop = format_instant(begin[0]), format_instant(max(begin[0], end[0]))
            return FeatureDate(start, start, stop, source=first, notes=_zone_note(first, begin[1]))
    if not started_at:
        return FeatureDate()
    return FeatureDate(None, started_at, max(started_at, finished_at), source=container)


def _zone_note(name: str, has_zone: bool) -> tuple[str, ...]:
    return () if has_zone else (f"The property {name} has no time zone; UTC is assumed.",)


def _find_nested(properties: Mapping[str, Any], name: str) -> Any:
    """Return the value of *name*, which can be a key with a dot or a key of a nested object."""
    if name in properties:
        return properties[name]
    outer, _, inner = name.partition(".")
    nested = properties.get(outer)
    return nested.get(inner) if inner and isinstance(nested, Mapping) else None


def parse_instant(value: object) -> tuple[datetime, bool] | None:
    """
    Return a time in UTC, and whether *value* has a time zone; None if it is not a time.

    Args:
        value: Text in ISO 8601 or with the suffix `` UTC``, or the seconds or milliseconds since 1970.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        found, has_zone = _from_epoch(value), True
    elif isinstance(value, str):
        found, has_zone = _from_text(value.strip())
    else:
        return None
    if found is None or not _EARLIEST <= found < _LATEST:
        return None
    return found, has_zone


def _from_epoch(value: float) -> datetime | None:
    if _MIN_EPOCH_MS <= value < _MAX_EPOCH_S * 1000:
        value = value / 1000
    if not _MIN_EPOCH_S <= value < _MAX_EPOCH_S:  # also False for NaN
        return None
    return _EPOCH + timedelta(seconds=value)


def _from_text(text: str) -> tuple[datetime | None, bool]:
    if not 0 < len(text) <= _MAX_CHARS or not text.isascii():
        return None, False
    if _NUMBER.fullmatch(text):
        return _from_epoch(float(text)), True
    if text[-4:].upper() == " UTC":
        text = f"{text[:-4]}+00:00"
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None, False
    if len(text) < 10 and not _DATE.fullmatch(text):  # a week or an ordinal date is unlikely to be meant
        return None, False
    if found.tzinfo is None:
        return found.replace(tzinfo=UTC), False
    try:
        return found.astimezone(UTC), True
    except OverflowError:
        return None, False


def format_instant(instant: datetime) -> str:
    """Return *instant* in RFC 3339 in UTC with ``Z``."""
    text = instant.astimezone(UTC).replace(tzinfo=None).isoformat()
    return f"{text.rstrip('0') if '.' in text else text}Z"
