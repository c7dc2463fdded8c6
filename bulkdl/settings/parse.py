"""
How people write sizes, durations, moments, shards and ids; shared by the settings and the selection.

Each function takes text (or a plain number from TOML) and raises ValueError with what it expected.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_SHARD = re.compile(r"(\d{1,6})/(\d{1,6})", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

SIZE_EXPECTED = "expected a size in bytes such as 4096, 500K, 2M, 1.5G, or off"
DURATION_EXPECTED = "expected a duration such as 30, 30s, 5m, 6h or 7d"
MOMENT_EXPECTED = "expected a date (2022-03-01), a time (2022-03-01T12:00Z) or an age (36h, 7d, 2w)"
LAST = "last"
AUTO = "auto"
MOST_WORKERS = 256
POOL_EXPECTED = f"expected a number from 1 to {MOST_WORKERS}, or auto"
SHARD_EXPECTED = "expected K/N with 0 <= K < N, such as 0/4, or auto"
AUTO = "auto"
SHARD_INDEX, SHARD_COUNT = "JOB_COMPLETION_INDEX", "BULKDL_SHARDS"
UUID_EXPECTED = "expected an id such as 023694d4-1b52-46e8-a9a0-05c9ee23f15c"


@dataclass(frozen=True, slots=True)
class Shard:
    """Slice *index* (from 0) of *count* slices."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def size_bytes(value: object) -> int:
    """Bytes from ``4096``, ``500K``, ``1.5G`` (multiples of 1024, as rclone has them) or ``off`` (0)."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = value.strip() if isinstance(value, str) else ""
    if text.lower() == "off":
        return 0
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(SIZE_EXPECTED)
    return int(Decimal(match[1]) * 1024 ** _POWERS[match[2].upper()])


def duration_s(value: object) -> float:
    """Seconds from ``30``, ``30s``, ``5m``, ``6h``, ``7d``, ``2w`` or a sequence such as ``1h30m``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    text = value.strip().lower() if isinstance(value, str) else ""
    if _NUMBER.fullmatch(text):
        return float(text)
    if _DURATION.fullmatch(text):
        return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    raise ValueError(DURATION_EXPECTED)


def moment_at(text: str, now: datetime, *, end_of_day: bool = False) -> datetime:
    """
    An aware UTC moment from an ISO date or time (naive means UTC) or from an age before *now*.

    With *end_of_day* a plain date means the last microsecond of that day instead of its first.
    """
    text = text.strip()
    if _DURATION.fullmatch(text.lower()):
        return _before(now, duration_s(text))
    try:
        if len(text) <= len("2022-03-01"):
            return _day(date.fromisoformat(text), end_of_day=end_of_day)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(MOMENT_EXPECTED) from None


def _before(now: datetime, age_s: float) -> datetime:
    try:
        return now.astimezone(UTC) - timedelta(seconds=age_s)
    except OverflowError:
        raise ValueError(MOMENT_EXPECTED) from None


def _day(day: date, *, end_of_day: bool) -> datetime:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return start.replace(hour=23, minute=59, second=59, microsecond=999_999) if end_of_day else start


def shard(value: object, env: Mapping[str, str] = os.environ) -> Shard:
    """
    A shard from ``K/N``, or, from ``auto``, the one that *env* has for a pod of an Indexed Job.

    Kubernetes sets ``JOB_COMPLETION_INDEX``; the Job's completions are told as ``BULKDL_SHARDS``.
    """
    if isinstance(value, Shard):
        return value
    if isinstance(value, str) and value.strip().lower() == AUTO:
        return _own_shard(env)
    match = _SHARD.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not int(match[1]) < int(match[2]):
        raise ValueError(SHARD_EXPECTED)
    return Shard(int(match[1]), int(match[2]))


def _own_shard(env: Mapping[str, str]) -> Shard:
    index, count = env.get(SHARD_INDEX, ""), env.get(SHARD_COUNT, "")
    try:
        return shard(f"{index.strip()}/{count.strip()}")
    except ValueError:
        told = f"{SHARD_INDEX} is {index!r}, {SHARD_COUNT} is {count!r}"
        raise ValueError(f"expected K and N in the environment, with 0 <= K < N: {told}") from None


def pool(value: object) -> object:
    """The size of a pool: a number of workers, or ``auto``."""
    text = value.strip().lower() if isinstance(value, str) else value
    if text == AUTO:
        return AUTO
    if isinstance(text, str) and text.isascii() and text.isdigit():
        text = int(text)
    if isinstance(text, bool) or not isinstance(text, int) or not 1 <= text <= MOST_WORKERS:
        raise ValueError(POOL_EXPECTED)
    return text


def uuid(value: object) -> str:
    """An UP42 id (8-4-4-4-12 hex, any case) in lower case."""
    text = value.strip().lower() if isinstance(value, str) else ""
    if _UUID.fullmatch(text) is None:
        raise ValueError(UUID_EXPECTED)
    return text


def words(value: object) -> object:
    """A tuple from text with commas or white space between; anything else as it is."""
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    return value


def constant(value: object) -> object:
    """UP42's spelling of a status or mode: ``not started`` → ``NOT_STARTED``."""
    if not isinstance(value, str):
        return value
    return re.sub(r"[\s_-]+", "_", value.strip()).upper()


def constants(value: object) -> object:
    """Statuses from text with commas between (a status may hold a space) or from a list."""
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(dict.fromkeys(constant(part) for part in value))
    return value
