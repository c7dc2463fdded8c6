"""The scratch paths of the processors: where they write before they publish."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from bulkdl.disk.disk_space import DiskReservations
from bulkdl.os_errors import map_os_errors
from bulkdl.state.storage import Storage


def scratch_folder(storage: Storage) -> Path:
    """
    Return the folder of all scratch paths.

    It is on the file system of the destination if that has folders, so that content can be renamed.
    """
    folders = storage.destination.folders
    return folders.scratch_folder if folders is not None else storage.state.path / "processing"


def remove_scratch(storage: Storage) -> None:
    """Remove the scratch paths of killed runs. Blocks. Call it only while holding the lease."""
    folder = scratch_folder(storage)
    with map_os_errors(folder):
        if folder.exists():
            shutil.rmtree(folder)


class ScratchFolder:
    """
    The scratch paths and the reserved disk space of one call. All methods block.

    The folder is created with its first path.
    """

    def __init__(self, storage: Storage) -> None:
        folders = storage.destination.folders
        self._reservations: DiskReservations = (
            folders.reservations if folders is not None else storage.state.reservations
        )
        self._path = scratch_folder(storage) / secrets.token_hex(8)

    @property
    def owner_id(self) -> str:
        """The owner of the reserved disk space."""
        return self._path.name

    def new_path(self) -> Path:
        """Return an unused scratch path."""
        with map_os_errors(self._path):
            self._path.mkdir(parents=True, exist_ok=True)
        return self._path / secrets.token_hex(4)

    def reserve(self, size_bytes: int) -> None:
        """
        Reserve disk space, in place of an earlier reservation.

        Raises:
            DestinationError: DISK_FULL; there is not enough space.
        """
        with map_os_errors(self._path):
            self._reservations.reserve(self.owner_id, size_bytes)

    def consume(self, size_bytes: int) -> None:
        """Reduce the reservation by bytes that are on disk now."""
        self._reservations.consume(self.owner_id, size_bytes)

    def release(self) -> None:
        """Remove the reservation."""
        self._reservations.release(self.owner_id)

    def remove(self) -> None:
        """Remove the scratch paths and the reservation."""
        self.release()
        shutil.rmtree(self._path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class PreparedOutput:
    """
    What a processor prepared from the content of one output, before it was published.

    Attributes:
        scratch: Contains the prepared files.
        result: What ``ContentPreparer.prepare`` returned.
    """

    scratch: ScratchFolder
    result: object
