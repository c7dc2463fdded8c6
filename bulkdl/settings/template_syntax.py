"""
Parse path templates. A template consists of segments, and a segment of text and placeholders.

The values of some placeholders are names from the server, or dates. They describe a container and do not
identify it, so that a template always needs the ID as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter

NAMES = frozenset(
    {"block", "collection_name", "delivery_name", "job_name", "order_id", "order_name", "project_name"}
)
"""Placeholders whose values any container can have, and whose text the server chose."""
DATES = frozenset({"created_at"})
"""Placeholders with a format, such as ``{created_at:%Y-%m}``."""
MAX_NAME_BYTES = 80
"""The length of a name in a path. Longer names are cut."""

# Each directive has a fixed number of digits, so that a date can be recognised in a path.
DATE_DIGITS = {"Y": 4, "y": 2, "m": 2, "d": 2, "j": 3, "G": 4, "V": 2, "H": 2, "M": 2, "S": 2}
_DEFAULT_DATE = "%Y-%m-%d"
_DATE_FORMAT = re.compile(rf"(?:%[{''.join(DATE_DIGITS)}]|[A-Za-z0-9 ._+,=@()-])*")
_PLAIN = "expected plain placeholders such as {job_id}; only {created_at} has a format"


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A placeholder. *format* is that of a date; empty for the other placeholders."""

    name: str
    format: str = ""

    @property
    def key(self) -> str:
        """The text between the braces, which identifies the value."""
        return f"{self.name}:{self.format}" if self.format else self.name

    @property
    def is_descriptive(self) -> bool:
        """Whether the value is a name or a date, which does not identify a container."""
        return self.name in NAMES or self.name in DATES


Segment = tuple[str | Placeholder, ...]


@lru_cache(maxsize=256)
def parse_template(template: str) -> tuple[Segment, ...]:
    """
    Return the segments of *template*. A slash in the format of a date divides segments as well.

    Raises:
        ValueError: A brace is not closed, or a format or a conversion is not allowed.
    """
    try:
        fields = list(Formatter().parse(template))
    except ValueError:
        raise ValueError(_PLAIN) from None
    segments: list[list[str | Placeholder]] = [[]]
    for text, name, date_format, conversion in fields:
        _append(segments, text.split("/"))
        if name is not None:
            if conversion or (date_format and name not in DATES):
                raise ValueError(_PLAIN)
            _append(segments, _parse_placeholder(name, date_format or ""))
    return tuple(map(tuple, segments))


def _append(segments: list[list[str | Placeholder]], parts: Sequence[str | Placeholder]) -> None:
    """Add the first of *parts* to the last segment, and a segment for each of the others."""
    for number, part in enumerate(parts):
        if number:
            segments.append([])
        segment = segments[-1]
        if isinstance(part, str) and segment and isinstance(segment[-1], str):
            segment[-1] += part  # an escaped brace divides a text
        elif part != "":
            segment.append(part)


def _parse_placeholder(name: str, date_format: str) -> list[Placeholder]:
    if name not in DATES:
        return [Placeholder(name)]
    formats = (date_format or _DEFAULT_DATE).split("/")
    for part in formats:
        if not _DATE_FORMAT.fullmatch(part) or "%" not in part:
            raise ValueError(
                f"invalid date format {date_format!r}; use "
                f"{', '.join('%' + directive for directive in DATE_DIGITS)} and characters of file names, "
                "for example {created_at:%Y-%m}"
            )
    return [Placeholder(name, part) for part in formats]


def expand_date(
    date_format: str, digits: Callable[[int], str], text: Callable[[str], str] = lambda text: text
) -> str:
    """
    Return *date_format* with a replacement of each part.

    Args:
        digits: Returns the replacement of a directive, of its number of digits.
        text: Returns the replacement of the text between directives.
    """
    pieces = re.split("%(.)", date_format)
    return "".join(
        digits(DATE_DIGITS[piece]) if index % 2 else text(piece) for index, piece in enumerate(pieces)
    )


def find_placeholders(template: str) -> set[Placeholder]:
    """Return all placeholders of *template*."""
    return {part for segment in parse_template(template) for part in segment if isinstance(part, Placeholder)}
