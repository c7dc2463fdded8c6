"""Types of the fields of the settings. They parse text and check bounds."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from bulkdl.settings import parsers
from bulkdl.settings.parsers import Address, Shard
from bulkdl.settings.proxy import Proxy, parse_proxy
from bulkdl.source_spec import kind_names


def _expand_path(path: Path | None) -> Path | None:
    return path and parsers.parse_path(path)


def _check_file_name(path: Path | None) -> Path | None:
    if path is not None and not path.name:
        raise ValueError("expected the path of a file")
    return path


class Unit(Enum):
    """How ``format_setting`` writes a number; part of the type of a field."""

    DURATION = "duration"
    SIZE = "size"


def _check_kind(name: str) -> str:
    names = kind_names()
    if name not in names:
        *first, last = map(repr, names)
        raise ValueError(f"expected {', '.join(first)} or {last}")
    return name


DailyTimes = Annotated[tuple[str, ...], BeforeValidator(parsers.parse_daily_times)]
DurationS = Annotated[float, BeforeValidator(parsers.parse_duration), Unit.DURATION]
SizeBytes = Annotated[int, BeforeValidator(parsers.parse_size), Field(ge=0), Unit.SIZE]
Uuid = Annotated[str, BeforeValidator(parsers.parse_uuid)]
KindName = Annotated[str, AfterValidator(_check_kind)]
Workers = Annotated[int, Field(ge=1, le=parsers.MAX_CONCURRENCY)]
Concurrency = Annotated[int | Literal["auto"], BeforeValidator(parsers.parse_concurrency)]
MaybePath = Annotated[Path | None, AfterValidator(_expand_path)]
MaybeFile = Annotated[MaybePath, AfterValidator(_check_file_name)]
MaybeAddress = Annotated[
    Address | None, BeforeValidator(lambda value: value if value is None else parsers.parse_address(value))
]
MaybeProxy = Annotated[
    Proxy | None,
    BeforeValidator(lambda value: value if value is None else parse_proxy(value)),
    PlainSerializer(lambda value: value and str(value), when_used="json"),  # without credentials
]
MaybeShard = Annotated[
    Shard | None, BeforeValidator(lambda value: value if value is None else parsers.parse_shard(value))
]
