"""
The tree of an output directory read backwards: which files there are, and which job each belongs to.

The templates of the settings say where things go; turned into patterns they say where a thing came
from. What a shard keeps in a directory of its own, ledger and all, is that shard's.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bulkdl.destinations.local.destination import STATE_FOLDER
from bulkdl.ledger.database import LEDGER_NAME
from bulkdl.models import ARCHIVE_SUFFIXES
from bulkdl.settings.path_templates import PathTemplates

DOCUMENTS = frozenset({"job", "job_tasks", "task_quicklooks"})
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# Ids have hyphens in them, and a template may have one between two ids.
_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[A-Za-z0-9_-]+"


Inodes = tuple[tuple[int, int], ...]


def iter_files(root: Path, places: PathMatcher) -> Iterator[str]:
    """
    Yield the keys of all files below *root*, folder by folder; blocks.

    A link to a folder is followed where the templates can have a folder, as a run follows it (a project on
    another disk). Below a link only such folders are read, and a link to a folder above it is not followed.
    """
    yield from _files_below(root, root, "", (), places, is_linked=False)


def _files_below(
    root: Path,
    folder: Path,
    prefix: str,
    above: Inodes,
    places: PathMatcher,
    *,
    is_linked: bool,
) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        status = folder.stat()
    except OSError:  # a folder that cannot be read is passed by
        return
    above = (*above, (status.st_dev, status.st_ino))
    folders = [entry for entry in found if _is_folder(entry)]
    names = {entry.name for entry in folders}
    yield from (prefix + entry.name for entry in found if entry.name not in names)
    for entry in folders:
        path, key = folder / entry.name, prefix + entry.name
        is_link = is_linked or entry.is_symlink()
        if _is_elsewhere(path, root) or (is_link and not _can_follow(path, key, above, places)):
            continue
        yield from _files_below(root, path, f"{key}/", above, places, is_linked=is_link)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _can_follow(path: Path, key: str, above: Inodes, places: PathMatcher) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return places.can_be_folder(key) and (status.st_dev, status.st_ino) not in above


class NotRegularError(OSError):
    """A path that is not a regular file, for example a FIFO or a device."""


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """
    Open a regular file for reading. Never waits for the writer of a FIFO.

    Raises:
        NotRegularError: It is not a regular file.
        OSError: It cannot be opened.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise NotRegularError(errno.EINVAL, "not a regular file", str(path))
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb", buffering=0) as raw:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(handle).st_mode):  # replaced in between
            raise NotRegularError(errno.EINVAL, "not a regular file", str(path))
        yield raw


def is_utf8(key: str) -> bool:
    """Return whether *key* can be stored: a name on disk can be any bytes."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_elsewhere(folder: Path, root: Path) -> bool:
    """Whether *folder* holds our own state, or is the output directory of a shard."""
    if folder.parent != root:
        return False
    return folder.name == STATE_FOLDER or (folder / STATE_FOLDER / LEDGER_NAME).exists()


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """What a key is by its name: *template* is the setting's, *project_id* may not be in it."""

    template: str
    job_id: str
    project_id: str | None


class PathMatcher:
    """Recognises keys that the templates could have made."""

    def __init__(self, names: PathTemplates) -> None:
        self._patterns = [(name, _pattern(template)) for name, template in names]
        folders = {
            template.rsplit("/", depth)[0]
            for _, template in names
            for depth in range(1, template.count("/") + 1)
        }
        self._folders = [_pattern(folder) for folder in sorted(folders)]

    def can_be_folder(self, key: str) -> bool:
        """Return whether a template can have a folder of that name."""
        return any(pattern.fullmatch(key) for pattern in self._folders)

    def match(self, key: str) -> ParsedKey | None:
        """What *key* is; None when no template makes such a name."""
        for template, pattern in self._patterns:
            match = pattern.fullmatch(key)
            if match is not None:
                found = match.groupdict()
                return ParsedKey(template, found["job_id"], found.get("project_id"))
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
