"""List and open the files of an output directory. All functions block."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bulkdl.destinations.interfaces import (
    LEDGER_NAME,
    STATE_FOLDER,
    CanContain,
    NotAnObjectError,
    ObjectInfo,
)

Inodes = tuple[tuple[int, int], ...]


def iter_files(root: Path, can_contain: CanContain, state_folder: Path) -> Iterator[ObjectInfo]:
    """
    Yield all files below *root*, folder by folder. Links and other entries that are not folders count.

    A link to a folder is followed if *can_contain* accepts its key, because a run also follows it (for
    example a project on another disk). Below a link, only folders that *can_contain* accepts are read. A
    link to a parent folder is not followed. The state directory and the directories of shards are skipped.
    """
    yield from _Listing(root, can_contain, state_folder).files(root, "", (), is_linked=False)


@dataclass(frozen=True, slots=True)
class _Listing:
    root: Path
    can_contain: CanContain
    state_folder: Path

    def files(self, folder: Path, prefix: str, parents: Inodes, *, is_linked: bool) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(folder) as entries:
                sorted_entries = sorted(entries, key=lambda entry: entry.name)
            status = folder.stat()
        except OSError:  # an unreadable folder is skipped
            return
        parents = (*parents, (status.st_dev, status.st_ino))
        folders = [entry for entry in sorted_entries if _is_folder(entry)]
        names = {entry.name for entry in folders}
        for entry in sorted_entries:
            if entry.name not in names:
                yield ObjectInfo(prefix + entry.name, _size_of(entry))
        for entry in folders:
            path, key = folder / entry.name, prefix + entry.name
            is_link = is_linked or entry.is_symlink()
            if self._is_excluded(path) or (is_link and not self._can_follow(path, key, parents)):
                continue
            yield from self.files(path, f"{key}/", parents, is_linked=is_link)

    def _can_follow(self, path: Path, key: str, parents: Inodes) -> bool:
        try:
            status = path.stat()
        except OSError:
            return False
        return self.can_contain(key) and (status.st_dev, status.st_ino) not in parents

    def _is_excluded(self, folder: Path) -> bool:
        """Return whether *folder* is a state directory, or the output directory of a shard."""
        if folder == self.state_folder:
            return True
        if folder.parent != self.root:
            return False
        return folder.name == STATE_FOLDER or (folder / STATE_FOLDER / LEDGER_NAME).exists()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _size_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """
    Open a regular file for reading, without waiting for the writer of a FIFO.

    Raises:
        NotAnObjectError: The path is not a regular file.
        OSError: The file cannot be opened.
    """
    try:
        status = path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAnObjectError(errno.ELOOP, "not a regular file", str(path)) from None
        raise
    _check_regular(path, status)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb", buffering=0) as raw:  # noqa: PTH123 - a descriptor, not a path
        _check_regular(path, os.fstat(handle))  # the file may be replaced after stat()
        yield raw


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
        raise NotAnObjectError(code, "not a regular file", str(path))
