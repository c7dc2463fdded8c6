"""
Fill in path templates.

The values of names and dates are determined once for each container, made safe as file names, and recorded.
Later runs use the recorded values, so that a container that was renamed keeps its folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from bulkdl.disk.filenames import make_safe_name
from bulkdl.errors import ApiError
from bulkdl.models import Reason
from bulkdl.settings.template_collisions import RESERVED_FOLDERS
from bulkdl.settings.template_syntax import (
    DATES,
    MAX_NAME_BYTES,
    NAMES,
    Placeholder,
    Segment,
    find_placeholders,
    parse_template,
)

UNNAMED = "unnamed"
"""The value of a name that a container does not have."""

UUID_PATTERN = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_UUID = re.compile(UUID_PATTERN)
_NOT_IDS = frozenset({"filename", "suffix", "item_id"})


@lru_cache(maxsize=64)
def _descriptive_placeholders(templates: tuple[str, ...]) -> tuple[Placeholder, ...]:
    found = {each for template in templates for each in find_placeholders(template) if each.is_descriptive}
    return tuple(sorted(found, key=lambda placeholder: placeholder.key))


def find_value_keys(templates: Iterable[str]) -> frozenset[str]:
    """Return the keys of the names and dates in *templates*."""
    return frozenset(placeholder.key for placeholder in _descriptive_placeholders(tuple(templates)))


def create_values(templates: Iterable[str], fields: Mapping[str, str | datetime | None]) -> dict[str, str]:
    """
    Return the safe values of the names and dates in *templates*, by the key of the placeholder.

    Args:
        fields: Names as the server sent them, and dates, by the name of the placeholder. Placeholders that
            are not in *fields* get no value.
    """
    return {
        placeholder.key: _create_value(placeholder, fields[placeholder.name])
        for placeholder in _descriptive_placeholders(tuple(templates))
        if placeholder.name in fields
    }


def _create_value(placeholder: Placeholder, field: str | datetime | None) -> str:
    if isinstance(field, datetime):
        # The C library can write years before 1000 with fewer digits.
        date = field.astimezone(UTC)
        iso_year = date.isocalendar().year
        template = placeholder.format.replace("%Y", f"{date.year:04d}").replace("%G", f"{iso_year:04d}")
        return date.strftime(template)
    return create_name(field)


def create_name(text: str | None) -> str:
    """Return *text* as a name in a path: safe, not too long, and not a name of bulkdl's own files."""
    name = make_safe_name(text, MAX_NAME_BYTES) if text else UNNAMED
    return f"{name}_" if name.casefold() in RESERVED_FOLDERS else name


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """
    Return the path.

    Args:
        values: The values of all placeholders, by their keys.

    Raises:
        ApiError: A value is missing, because the container was listed with other path templates.
    """
    try:
        if not _has_names(template):
            return template.format_map(values)
        return "/".join("".join(_fill_segment(segment, values)) for segment in parse_template(template))
    except KeyError as error:
        detail = f"{template}: no value for {{{error.args[0]}}}; use the path_templates that wrote the files"
        raise ApiError(Reason.INVALID_RESPONSE, detail) from None


@lru_cache(maxsize=256)
def _has_names(template: str) -> bool:
    return any(placeholder.is_descriptive for placeholder in find_placeholders(template))


def _fill_segment(segment: Segment, values: Mapping[str, str]) -> Iterator[str]:
    mark = _create_mark(segment, values) if is_mixed(segment) else ""
    for part in segment:
        if isinstance(part, str):
            yield part
        elif part.name in NAMES:
            yield values[part.key] + mark
        else:
            yield values[part.key]


def is_mixed(segment: Segment) -> bool:
    """Return whether *segment* has a name and an ID."""
    names = [part.name for part in segment if isinstance(part, Placeholder)]
    return any(name in NAMES for name in names) and any(map(_is_id, names))


def _is_id(name: str) -> bool:
    return name not in NAMES and name not in DATES and name not in _NOT_IDS


def _create_mark(segment: Segment, values: Mapping[str, str]) -> str:
    """
    Return what separates a name from an ID that is not a UUID.

    The end of a UUID is known by its length. Another ID, next to a name, could give the path of another
    container. A hash of the ID prevents this.
    """
    ids = [values[part.key] for part in segment if isinstance(part, Placeholder) and _is_id(part.name)]
    if all(map(_UUID.fullmatch, ids)):
        return ""
    return f"~{hashlib.sha256('/'.join(ids).encode()).hexdigest()[:12]}"
