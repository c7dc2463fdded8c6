"""Determine the container of a file from its key. The path templates of the settings become patterns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bulkdl.models import ContainerRef
from bulkdl.source_spec import file_suffixes
from bulkdl.sources.interfaces import ContainerKey, SourceLayout

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# An ID can contain hyphens, and a template can have a hyphen between two IDs.
_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[A-Za-z0-9_-]+"


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
            (layout, name, _pattern(template))
            for layout in layouts
            for name, template in layout.templates.items()
        ]
        folders = {
            template.rsplit("/", depth)[0]
            for layout in layouts
            for template in layout.templates.values()
            for depth in range(1, template.count("/") + 1)
        }
        self._folders = [_pattern(folder) for folder in sorted(folders)]

    def can_be_folder(self, key: str) -> bool:
        """Return whether a path template can contain the folder *key*."""
        return any(pattern.fullmatch(key) for pattern in self._folders)

    def match(self, key: str) -> ParsedKey | None:
        """Return the parts of *key*, or None if no path template matches."""
        for layout, template, pattern in self._patterns:
            match = pattern.fullmatch(key)
            if match is not None:
                container = layout.source_type.parse_key(key, match.groupdict())
                return None if container is None else ParsedKey(key, layout, template, container)
        return None

    def match_documents(self, key: str) -> list[ParsedKey]:
        """Return the parts of *key* for each path template of a document that matches."""
        parsed_keys = []
        for layout, template, pattern in self._patterns:
            is_document = template in layout.source_type.document_templates
            if is_document and (match := pattern.fullmatch(key)) is not None:
                container = layout.source_type.parse_key(key, match.groupdict())
                if container is not None:
                    parsed_keys.append(ParsedKey(key, layout, template, container))
        return parsed_keys


def _pattern(template: str) -> re.Pattern[str]:
    seen: set[str] = set()

    def group(name: str) -> str:
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        if name == "suffix":
            return f"(?P<suffix>{'|'.join(map(re.escape, file_suffixes()))})"
        return f"(?P<{name}>{'[^/]+' if name == 'filename' else _ID})"

    pieces = _PLACEHOLDER.split(template)
    return re.compile(
        "".join(group(piece) if index % 2 else re.escape(piece) for index, piece in enumerate(pieces)),
        re.DOTALL,
    )
