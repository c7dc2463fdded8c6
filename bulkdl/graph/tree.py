"""
The tree of an output directory read backwards: which files there are, and which job each belongs to.

The templates of the settings say where things go; turned into patterns they say where a thing came
from. What a shard keeps in a directory of its own, ledger and all, is that shard's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bulkdl.ledger.ledger import LEDGER_NAME
from bulkdl.model import ARCHIVE_SUFFIXES
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.sink.local import STATE_FOLDER

DOCUMENTS = frozenset({"job", "job_tasks", "task_quicklooks"})
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# Ids have hyphens in them, and a template may have one between two ids.
_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[A-Za-z0-9_-]+"


def files_in(root: Path) -> Iterator[str]:
    """The keys of all regular files below *root*, folder by folder; blocks. Links are not followed."""
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not _is_elsewhere(here / name, root))
        prefix = "" if here == root else here.relative_to(root).as_posix() + "/"
        yield from (prefix + name for name in sorted(names))


def _is_elsewhere(folder: Path, root: Path) -> bool:
    """Whether *folder* holds our own state, or is the output directory of a shard."""
    if folder.parent != root:
        return False
    return folder.name == STATE_FOLDER or (folder / STATE_FOLDER / LEDGER_NAME).exists()


@dataclass(frozen=True, slots=True)
class Place:
    """What a key is by its name: *template* is the setting's, *project_id* may not be in it."""

    template: str
    job_id: str
    project_id: str | None


class Places:
    """Recognises keys that the templates could have made."""

    def __init__(self, names: PathTemplates) -> None:
        self._patterns = [(name, _pattern(template)) for name, template in names]

    def of(self, key: str) -> Place | None:
        """What *key* is; None when no template makes such a name."""
        for template, pattern in self._patterns:
            match = pattern.fullmatch(key)
            if match is not None:
                found = match.groupdict()
                return Place(template, found["job_id"], found.get("project_id"))
        return None


def _pattern(template: str) -> re.Pattern[str]:
    seen: set[str] = set()

    def group(name: str) -> str:
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        if name == "suffix":
            return f"(?P<suffix>{'|'.join(map(re.escape, ARCHIVE_SUFFIXES))})"
        return f"(?P<{name}>{'[^/]+' if name == 'filename' else _ID})"

    pieces = _PLACEHOLDER.split(template)
    return re.compile(
        "".join(group(piece) if at % 2 else re.escape(piece) for at, piece in enumerate(pieces)), re.DOTALL
    )
