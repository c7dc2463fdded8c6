"""Determine the job of a file from its key. The path templates of the settings become patterns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bulkdl.settings.path_templates import PathTemplates
from bulkdl.source_spec import file_suffixes

DOCUMENTS = frozenset({"job", "job_tasks", "task_quicklooks"})
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
    """The parts of a key; *template* is the name of the path template, which may not contain a project ID."""

    template: str
    job_id: str
    project_id: str | None


class PathMatcher:
    """Matches keys with the path templates."""

    def __init__(self, path_templates: PathTemplates) -> None:
        self._patterns = [(name, _pattern(template)) for name, template in path_templates]
        folders = {
            template.rsplit("/", depth)[0]
            for _, template in path_templates
            for depth in range(1, template.count("/") + 1)
        }
        self._folders = [_pattern(folder) for folder in sorted(folders)]

    def can_be_folder(self, key: str) -> bool:
        """Return whether a path template can contain the folder *key*."""
        return any(pattern.fullmatch(key) for pattern in self._folders)

    def match(self, key: str) -> ParsedKey | None:
        """Return the parts of *key*, or None if no path template matches."""
        for template, pattern in self._patterns:
            match = pattern.fullmatch(key)
            if match is not None:
                groups = match.groupdict()
                return ParsedKey(template, groups["job_id"], groups.get("project_id"))
        return None


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
