"""
Parse sizes, durations, times, shards, addresses and IDs; shared by the settings and the selection.

Each function takes text (or a plain number from TOML) and raises ValueError with the expected form.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bulkdl.redaction import redact

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
TIME_EXPECTED = "expected a date (2022-03-01), a time (2022-03-01T12:00Z) or an age (36h, 7d, 2w)"
AUTO = "auto"
LAST = "last"
OFF = "off"
MAX_CONCURRENCY = 256
CONCURRENCY_EXPECTED = f"expected a number from 1 to {MAX_CONCURRENCY}, or auto"
SHARD_EXPECTED = "expected K/N with 0 <= K < N, such as 0/4, or auto"
SHARD_INDEX, SHARD_COUNT = "JOB_COMPLETION_INDEX", "BULKDL_SHARDS"
UUID_EXPECTED = "expected an ID such as 023694d4-1b52-46e8-a9a0-05c9ee23f15c"
ADDRESS_EXPECTED = "expected HOST:PORT such as 127.0.0.1:9400, 0.0.0.0:9400 or [::1]:0"
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>\d{1,5})", re.ASCII)
_MAX_PORT = 65_535
# NAME_MAX of Linux, and PATH_MAX without the final NUL.
_NAME_MAX_BYTES = 255
_PATH_MAX_BYTES = 4095
_MIN_SECRET_CHARS = 16


@dataclass(frozen=True, slots=True)
class Address:
    """A host name or address, without brackets, and a port; port 0 selects a free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Shard:
    """Slice *index* (from 0) of *count* slices."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_size(value: object) -> int:
    """Parse bytes from ``4096``, ``500K``, ``1.5G`` (multiples of 1024, as in rclone) or ``off`` (0)."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = value.strip() if isinstance(value, str) else ""
    if text.lower() == OFF:
        return 0
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(SIZE_EXPECTED)
    return int(Decimal(match[1]) * 1024 ** _POWERS[match[2].upper()])


def write_size(size_bytes: int) -> str:
    """Write a size so that ``parse_size`` reads the same number: ``off``, ``64M``, ``1000``."""
    if size_bytes == 0:
        return OFF
    unit = max(
        (unit for unit, power in _POWERS.items() if size_bytes % 1024**power == 0), key=_POWERS.__getitem__
    )
    return f"{size_bytes // 1024 ** _POWERS[unit]}{unit}"


def parse_duration(value: object) -> float:
    """Parse seconds from ``30``, ``30s``, ``5m``, ``6h``, ``7d``, ``2w`` or a sequence such as ``1h30m``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    text = value.strip().lower() if isinstance(value, str) else ""
    if _NUMBER.fullmatch(text):
        return float(text)
    if _DURATION.fullmatch(text):
        return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    raise ValueError(DURATION_EXPECTED)


def write_duration(seconds: float) -> str:
    """Write a duration so that ``parse_duration`` reads the same number: ``0s``, ``30s``, ``2d``."""
    unit = next((unit for unit in ("d", "h", "m", "s") if seconds and seconds % _SECONDS[unit] == 0), "s")
    return f"{seconds / _SECONDS[unit]:.15g}{unit}"


def parse_time(text: str, now: datetime, *, end_of_day: bool = False) -> datetime:
    """
    Parse an aware UTC timestamp from an ISO date or time (naive means UTC) or from an age before *now*.

    With *end_of_day*, a plain date means the last microsecond of that day instead of its first.
    """
    text = text.strip()
    if _DURATION.fullmatch(text.lower()):
        return _subtract_age(now, parse_duration(text))
    try:
        if len(text) <= len("2022-03-01"):
            return _start_or_end_of(date.fromisoformat(text), end_of_day=end_of_day)
        parsed = datetime.fromisoformat(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(TIME_EXPECTED) from None


def _subtract_age(now: datetime, age_s: float) -> datetime:
    try:
        return now.astimezone(UTC) - timedelta(seconds=age_s)
    except OverflowError:
        raise ValueError(TIME_EXPECTED) from None


def _start_or_end_of(day: date, *, end_of_day: bool) -> datetime:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return start.replace(hour=23, minute=59, second=59, microsecond=999_999) if end_of_day else start


_TIME_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)
TIMES_EXPECTED = "expected times of day such as 01:30 or 01:30,13:30"


def parse_daily_times(value: object) -> tuple[str, ...]:
    """Return times of day as ``HH:MM``, in order and without duplicates, from a list or from text."""
    parts = split_list(value)
    if not isinstance(parts, (list, tuple)):
        raise ValueError(TIMES_EXPECTED)  # noqa: TRY004 - pydantic converts only ValueError
    times = set()
    for part in parts:
        match = _TIME_OF_DAY.fullmatch(part) if isinstance(part, str) else None
        if match is None:
            raise ValueError(TIMES_EXPECTED)
        times.add(f"{int(match[1]):02}:{match[2]}")
    return tuple(sorted(times))


def parse_shard(value: object, env: Mapping[str, str] = os.environ) -> Shard:
    """
    Parse a shard from ``K/N``. With ``auto``, read K and N from *env*.

    Kubernetes sets ``JOB_COMPLETION_INDEX`` in the pods of an Indexed Job. ``BULKDL_SHARDS`` is the number of
    completions of the Job.
    """
    if isinstance(value, Shard):
        return value
    if isinstance(value, str) and value.strip().lower() == AUTO:
        return _shard_from_env(env)
    match = _SHARD.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not int(match[1]) < int(match[2]):
        raise ValueError(SHARD_EXPECTED)
    return Shard(int(match[1]), int(match[2]))


def _shard_from_env(env: Mapping[str, str]) -> Shard:
    index, count = env.get(SHARD_INDEX, ""), env.get(SHARD_COUNT, "")
    try:
        return parse_shard(f"{index.strip()}/{count.strip()}")
    except ValueError:
        found = f"{SHARD_INDEX} is {index!r}, {SHARD_COUNT} is {count!r}"
        raise ValueError(f"expected K and N in the environment, with 0 <= K < N: {found}") from None


def parse_address(value: object) -> Address:
    """
    Parse ``HOST:PORT``, an IPv6 host in brackets.

    Raises:
        ValueError: The text is not such an address.
    """
    if isinstance(value, Address):
        return value
    match = _ADDRESS.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or int(match["port"]) > _MAX_PORT:
        raise ValueError(ADDRESS_EXPECTED)
    return Address(match["v6"] or match["host"], int(match["port"]))


def parse_concurrency(value: object) -> object:
    """Parse a number of concurrent downloads, or ``auto``."""
    text = value.strip().lower() if isinstance(value, str) else value
    if text == AUTO:
        return AUTO
    if isinstance(text, str) and text.isascii() and text.isdigit():
        text = int(text)
    if isinstance(text, bool) or not isinstance(text, int) or not 1 <= text <= MAX_CONCURRENCY:
        raise ValueError(CONCURRENCY_EXPECTED)
    return text


def parse_uuid(value: object) -> str:
    """Parse an UP42 ID (8-4-4-4-12 hex digits in any case); return it in lower case."""
    text = value.strip().lower() if isinstance(value, str) else ""
    if _UUID.fullmatch(text) is None:
        raise ValueError(UUID_EXPECTED)
    return text


def parse_path(path: Path) -> Path:
    """
    Expand ``~`` and check that the operating system accepts *path*.

    Raises:
        ValueError: The user after ``~`` is not known, or the path cannot exist.
    """
    try:
        expanded = path.expanduser()
        data = os.fsencode(expanded)
    except RuntimeError:
        raise ValueError(f"home directory of {path.parts[0]} not found; write the whole path") from None
    except UnicodeEncodeError:
        raise ValueError("invalid path: the file system cannot encode it") from None
    if b"\0" in data:
        raise ValueError("invalid path: it contains a NUL character")
    if len(data) > _PATH_MAX_BYTES or max(map(len, data.split(b"/"))) > _NAME_MAX_BYTES:
        raise ValueError(
            f"path too long: expected at most {_NAME_MAX_BYTES} bytes for each name "
            f"and {_PATH_MAX_BYTES} in total"
        )
    return expanded


_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+)://", re.IGNORECASE)


def parse_destination(value: object) -> str | Path:
    """
    Return the path or the URL of a destination. A ``file`` URL becomes a path.

    Raises:
        ValueError: The path or the URL is invalid.
    """
    if not isinstance(value, (str, Path)):
        raise ValueError("expected a path or a URL")  # noqa: TRY004 - pydantic converts only ValueError
    match = _URL.match(value) if isinstance(value, str) else None
    if match is None:
        return parse_path(Path(value))
    url = str(value).strip()
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("invalid URL") from None
    if parts.username or parts.password:
        raise ValueError("expected a URL without user name and password; use the variables of the provider")
    if not url.isprintable() or parts.fragment:
        raise ValueError("invalid URL: expected SCHEME://NAME/PATH")
    if match["scheme"].lower() != "file":
        return url.rstrip("/") if parts.netloc else url
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise ValueError("invalid URL: expected file:///PATH, or a path")
    return parse_path(Path(unquote(parts.path)))


def hide_secret(text: str) -> str:
    """Return *text*, or a mask if a part of it looks like an API key, a token or a password."""
    return "***" if any(map(_looks_like_secret, text.split("/"))) else redact(text)


def _looks_like_secret(text: str) -> bool:
    return len(text) >= _MIN_SECRET_CHARS and all(
        any(map(is_kind, text)) for is_kind in (str.isdigit, str.islower, str.isupper)
    )


def split_list(value: object) -> object:
    """Split text at commas and white space; return any other value unchanged."""
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    return value


def normalize_status(value: object) -> object:
    """Convert a status or mode to UP42's spelling: ``not started`` → ``NOT_STARTED``."""
    if not isinstance(value, str):
        return value
    return re.sub(r"[\s_-]+", "_", value.strip()).upper()


def normalize_statuses(value: object) -> object:
    """Convert statuses from a list or from text with commas; a status may contain a space."""
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(dict.fromkeys(normalize_status(part) for part in value))
    return value


_ID = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9_-])?", re.ASCII)
ID_EXPECTED = "expected an ID of 1 to 128 characters A-Z, a-z, 0-9, . _ and -"


def check_id(text: str) -> str:
    """
    Return an ID of today's API without white space around it.

    Raises:
        ValueError: It is not valid.
    """
    if not _ID.fullmatch(text.strip()):
        raise ValueError(ID_EXPECTED)
    return text.strip()


def parse_id(text: str) -> str:
    """
    Return an ID of today's API in lower case, for comparisons.

    Raises:
        ValueError: It is not valid.
    """
    return check_id(text).lower()


def parse_ids(value: object) -> object:
    """Return IDs of today's API, given as a list or as text with commas, without duplicates."""
    parts = split_list(value)
    if not isinstance(parts, (list, tuple)):
        return parts
    return tuple(dict.fromkeys(parse_id(part) if isinstance(part, str) else part for part in parts))
