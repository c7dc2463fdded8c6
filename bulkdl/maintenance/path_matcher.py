"""
List the files of an output directory and determine the job of each file from its key.

The path templates of the settings are converted to patterns. The directories of shards have their own ledgers
and are skipped.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from bulkdl.settings.path_templates import PathTemplates
from bulkdl.source_spec import file_suffixes
from bulkdl.state.directory import STATE_FOLDER, StateDirectory

DOCUMENTS = frozenset({"job", "job_tasks", "task_quicklooks"})
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# An ID can contain hyphens, and a template can have a hyphen between two IDs.
_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[A-Za-z0-9_-]+"
_BATCH_KEYS = 500

Inodes = tuple[tuple[int, int], ...]


async def iter_key_batches(root: Path, matcher: PathMatcher) -> AsyncIterator[list[str]]:
    """Yield the keys of ``iter_files`` in lists of bounded size; reads the directory in a thread."""
    files = iter_files(root, matcher)
    while keys := await asyncio.to_thread(lambda: list(islice(files, _BATCH_KEYS))):
        yield keys


def iter_files(root: Path, matcher: PathMatcher) -> Iterator[str]:
    """
    Yield the keys of all files below *root*, folder by folder; blocks.

    A link to a folder is followed if the path templates can contain the folder, because a run also follows it
    (for example a project on another disk). Below a link, only folders of the path templates are read. A link
    to a parent folder is not followed.
    """
    yield from _files_below(root, root, "", (), matcher, is_linked=False)


def _files_below(
    root: Path,
    folder: Path,
    prefix: str,
    parents: Inodes,
    matcher: PathMatcher,
    *,
    is_linked: bool,
) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            sorted_entries = sorted(entries, key=lambda entry: entry.name)
        status = folder.stat()
    except OSError:  # an unreadable folder is skipped
        return
    parents = (*parents, (status.st_dev, status.st_ino))
    folders = [entry for entry in sorted_entries if _is_folder(entry)]
    names = {entry.name for entry in folders}
    yield from (prefix + entry.name for entry in sorted_entries if entry.name not in names)
    for entry in folders:
        path, key = folder / entry.name, prefix + entry.name
        is_link = is_linked or entry.is_symlink()
        if _is_excluded(path, root) or (is_link and not _can_follow(path, key, parents, matcher)):
            continue
        yield from _files_below(root, path, f"{key}/", parents, matcher, is_linked=is_link)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _can_follow(path: Path, key: str, parents: Inodes, matcher: PathMatcher) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return matcher.can_be_folder(key) and (status.st_dev, status.st_ino) not in parents


class NotRegularError(OSError):
    """A path that is not a regular file, for example a FIFO or a device."""


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """
    Open a regular file for reading, without waiting for the writer of a FIFO.

    Raises:
        NotRegularError: The path is not a regular file.
        OSError: The file cannot be opened.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise NotRegularError(errno.EINVAL, "not a regular file", str(path))
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb", buffering=0) as raw:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(handle).st_mode):  # the file was replaced after stat()
            raise NotRegularError(errno.EINVAL, "not a regular file", str(path))
        yield raw


def is_utf8(key: str) -> bool:
    """Return whether *key* can be stored in the ledger: a file name can contain any bytes."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_excluded(folder: Path, root: Path) -> bool:
    """Return whether *folder* is the state directory, or the output directory of a shard."""
    if folder.parent != root:
        return False
    return folder.name == STATE_FOLDER or StateDirectory.below(folder).ledger_path.exists()


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
