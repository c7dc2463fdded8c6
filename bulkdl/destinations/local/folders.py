"""The folders of an output directory: complete folders replace each other atomically."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bulkdl.concurrency import Executors, check_stop, run_in, run_stoppable
from bulkdl.destinations.interfaces import STATE_FOLDER
from bulkdl.disk import atomic_files
from bulkdl.disk.atomic_files import retry_on_open_file_limit
from bulkdl.disk.disk_space import DiskReservations
from bulkdl.models import Durability
from bulkdl.os_errors import map_path_errors


class LocalFolders:
    """
    The folders of the output directory *root*; see ``destinations.interfaces.FolderStore``.

    Args:
        locate: Returns the path of a valid key.
        reservations: Returns the reserved disk space of the file system of *root*.
    """

    def __init__(
        self,
        root: Path,
        durability: Durability,
        executors: Executors,
        locate: Callable[[str], Path],
        reservations: Callable[[], DiskReservations],
    ) -> None:
        self.scratch_folder = root / STATE_FOLDER / "processing"
        self.locate = locate
        self._durability = durability
        self._executors = executors
        self._find_reservations = reservations

    @property
    def reservations(self) -> DiskReservations:
        return self._find_reservations()

    async def has_entry(self, key: str) -> bool:
        return await run_in(self._executors.disk, _has_entry, self.locate(key))

    async def publish_folder(self, path: Path, key: str) -> int:
        final_path = self.locate(key)
        work = partial(run_stoppable, self._executors.processing, self._publish, path, final_path)
        return await retry_on_open_file_limit(work)

    def _publish(self, stop: threading.Event, path: Path, final_path: Path) -> int:
        with map_path_errors(path):
            size_bytes = _folder_size(path)
            if self._durability is Durability.FULL:
                atomic_files.sync_file_system(path)
        check_stop(stop)
        with map_path_errors(final_path):
            atomic_files.make_folder(final_path.parent)
            if final_path.is_symlink() or not final_path.is_dir():
                path.rename(final_path)
            else:
                _exchange(path, final_path)
        return size_bytes

    async def delete_folder(self, key: str, size_bytes: int) -> bool:
        work = partial(run_stoppable, self._executors.processing, self._delete, self.locate(key), size_bytes)
        return await retry_on_open_file_limit(work)

    def _delete(self, _stop: threading.Event, folder: Path, size_bytes: int) -> bool:
        """Move *folder* to the scratch folder, and remove it there. A later run completes the removal."""
        with map_path_errors(folder):
            if not _has_entry(folder):
                return True
            if not stat.S_ISDIR(folder.lstat().st_mode) or not _contains(folder, size_bytes):
                return False
            self.scratch_folder.mkdir(parents=True, exist_ok=True)
            removed = self.scratch_folder / f"removed-{secrets.token_hex(8)}"
            folder.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)
        return True


def _contains(folder: Path, size_bytes: int) -> bool:
    """Return whether the files in *folder* have *size_bytes*; links to folders count as other files."""
    count = total_bytes = 0
    for parent, folders, names in os.walk(folder, onerror=_raise):
        if any((Path(parent) / name).is_symlink() for name in folders):
            return False
        count += len(names)
        total_bytes += sum((Path(parent) / name).lstat().st_size for name in names)
    return total_bytes == size_bytes and (count == 0 or size_bytes > 0)


def _has_entry(path: Path) -> bool:
    with map_path_errors(path):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def _folder_size(folder: Path) -> int:
    return sum(
        (Path(parent) / name).lstat().st_size
        for parent, _, names in os.walk(folder, onerror=_raise)
        for name in names
    )


def _raise(error: OSError) -> None:
    raise error


def _exchange(path: Path, final_path: Path) -> None:
    """
    Replace the folder *final_path* by the folder *path*, whose place the old folder takes.

    On a file system that cannot exchange names, *final_path* does not exist for a moment.
    """
    if atomic_files.exchange_folders(path, final_path):
        return
    old_path = path.with_name(f"{path.name}.old")
    final_path.rename(old_path)
    path.rename(final_path)
