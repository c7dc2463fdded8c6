"""Determine the container of a file from its key. The path templates of the settings become patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from bulkdl.models import ContainerRef
from bulkdl.settings.template_syntax import (
    DATES,
    NAMES,
    Placeholder,
    Segment,
    expand_date,
    parse_template,
)
from bulkdl.source_spec import file_suffixes
from bulkdl.sources.interfaces import ContainerKey, SourceLayout
from bulkdl.sources.path_values import UUID_PATTERN, is_mixed

# An ID can contain hyphens, and a template can have a hyphen between two IDs.
_ID = f"{UUID_PATTERN}|[A-Za-z0-9_-]+"
_VALUES = {
    "filename": "[^/]+",
    "item_id": "[^/]+",  # a file name that was chosen for an item
    "collection_id": f"{UUID_PATTERN}|[A-Za-z0-9._-]+",
    "suffix": "|".join(map(re.escape, file_suffixes())),
}


def is_utf8(key: str) -> bool:
    """Return whether *key* can be stored in the ledger: a file name can contain any bytes."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """The parts of *key*; *template* is the name of the path template, which may not contain a scope."""

    key: str
    layout: SourceLayout
    template: str
    container: ContainerKey

    @property
    def is_document(self) -> bool:
        """Whether the key is that of a document."""
        return self.template in self.layout.source_type.document_templates

    @property
    def is_container(self) -> bool:
        """Whether the key is that of the first document of a container."""
        return self.template in self.layout.source_type.container_templates

    def belongs_to(self, ref: ContainerRef) -> bool:
        """Return whether the key is that of a file of the container *ref*."""
        return (
            self.container.container_id == ref.id
            and self.container.scope in (None, ref.scope)
            and self.layout.source_type.name == ref.source
        )


class PathMatcher:
    """Matches keys with the path templates of several sources."""

    def __init__(self, layouts: Sequence[SourceLayout]) -> None:
        self._patterns = [
            (layout, name, pattern)
            for layout in layouts
            for name, template in layout.templates.items()
            for pattern in _patterns(parse_template(template))
        ]
        folders = {
            segments[:depth]
            for layout in layouts
            for template in layout.templates.values()
            for segments in [parse_template(template)]
            for depth in range(1, len(segments))
        }
        self._folders = [pattern for folder in sorted(folders, key=str) for pattern in _patterns(folder)]

    def can_be_folder(self, key: str) -> bool:
        """Return whether a path template can contain the folder *key*."""
        return any(pattern.expression.fullmatch(key) for pattern in self._folders)

    def match(self, key: str) -> ParsedKey | None:
        """Return the parts of *key*, or None if no path template matches."""
        for layout, template, pattern in self._patterns:
            fields = pattern.match(key)
            if fields is not None:
                return _parse(key, layout, template, fields)
        return None

    def match_documents(self, key: str) -> list[ParsedKey]:
        """Return the parts of *key* for each path template of a document that matches."""
        parsed_keys = []
        for layout, template, pattern in self._patterns:
            is_document = template in layout.source_type.document_templates
            if is_document and (fields := pattern.match(key)) is not None:
                parsed = _parse(key, layout, template, fields)
                if parsed is not None:
                    parsed_keys.append(parsed)
        return parsed_keys


def _parse(key: str, layout: SourceLayout, template: str, fields: Mapping[str, str]) -> ParsedKey | None:
    container = layout.source_type.parse_key(key, fields)
    if container is None:
        return None
    values = {name: value for name, value in fields.items() if name in layout.value_keys}
    return ParsedKey(key, layout, template, replace(container, path_values=values) if values else container)


@dataclass(frozen=True, slots=True)
class _Pattern:
    """The pattern of a template. *keys* are the keys of its placeholders by the names of the groups."""

    expression: re.Pattern[str]
    keys: Mapping[str, str]

    def match(self, text: str) -> dict[str, str] | None:
        """Return the values of the placeholders by their keys; None if *text* does not match."""
        match = self.expression.fullmatch(text)
        if match is None:
            return None
        return {self.keys[group]: value for group, value in match.groupdict().items()}


def _patterns(segments: Sequence[Segment]) -> list[_Pattern]:
    """
    Return the patterns of a template, those with more UUIDs first.

    A segment with a name and an ID has two patterns: the ID is a UUID, or a mark follows the name.
    """
    choices = [(True, False) if is_mixed(segment) else (False,) for segment in segments]
    return [_pattern(segments, has_uuids) for has_uuids in product(*choices)]


def _pattern(segments: Sequence[Segment], has_uuids: Sequence[bool]) -> _Pattern:
    groups: dict[str, str] = {}

    def write(part: str | Placeholder, *, with_uuids: bool, with_mark: bool) -> str:
        if isinstance(part, str):
            return re.escape(part)
        mark = "~[0-9a-f]{12}" if with_mark and part.name in NAMES else ""
        if part.key in groups:
            return f"(?P={groups[part.key]}){mark}"
        groups[part.key] = group = f"_{len(groups)}"
        if part.name in NAMES:
            return f"(?P<{group}>[^/~]+){mark}"
        if part.name in DATES:
            return f"(?P<{group}>{expand_date(part.format, '[0-9]{{{}}}'.format, re.escape)})"
        is_uuid = with_uuids and part.name not in _VALUES.keys() - {"collection_id"}
        return f"(?P<{group}>{UUID_PATTERN if is_uuid else _VALUES.get(part.name, _ID)})"

    text = "/".join(
        "".join(write(part, with_uuids=uuids, with_mark=is_mixed(segment) and not uuids) for part in segment)
        for segment, uuids in zip(segments, has_uuids, strict=True)
    )
    return _Pattern(re.compile(text, re.DOTALL), {group: key for key, group in groups.items()})
