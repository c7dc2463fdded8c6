"""The state directory: the ledger, the partial files, the temporary files and the reports of runs."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from bulkdl.disk.disk_space import DiskReservations
from bulkdl.errors import ConfigError, DestinationError
from bulkdl.models import Reason
from bulkdl.os_errors import DISK_FULL_ERRNOS, map_os_errors
from bulkdl.state.partial_file import find_orphans

STATE_FOLDER = ".bulkdl"
LEDGER_NAME = "ledger.sqlite3"


class StateDirectory:
    """
    The folder for all files of bulkdl that are not outputs. It is always on a local file system.

    Partial files are renamed to their final names, so it must be on the same file system as the outputs.

    Attributes:
        partial_folder: The folder of partial files and temporary files.
        reservations: The disk space that is reserved on this file system.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger_path = path / LEDGER_NAME
        self.partial_folder = path / "parts"
        self.reservations = DiskReservations(self.partial_folder)
        self._reserve_path = path / "reserve"

    @classmethod
    def below(cls, root: Path) -> StateDirectory:
        """Return the state directory of the output directory *root*."""
        return cls(root / STATE_FOLDER)

    def prepare(self, setting: str) -> None:
        """
        Create the folders and check that they are writable.

        Args:
            setting: The setting that selects this folder, for the error message.

        Raises:
            ConfigError: The folders are not writable; nothing was changed.
            DestinationError: DISK_FULL; the file system has no free space or no free inodes.
        """
        try:
            self.partial_folder.mkdir(parents=True, exist_ok=True)
            probe = self.partial_folder / f"probe-{secrets.token_hex(4)}.tmp"
            probe.touch()
            probe.unlink(missing_ok=True)  # a concurrent run may remove it as a stale temporary file
        except OSError as error:
            if error.errno in DISK_FULL_ERRNOS:
                raise DestinationError(Reason.DISK_FULL, f"{self.path}: {error.strerror}") from None
            raise ConfigError(
                setting, f"cannot be written ({error.strerror}); choose a writable folder"
            ) from None

    def remove_stale_temp_files(self) -> None:
        """
        Remove the temporary files of killed runs, and data files without a sidecar.

        Call it only while holding the lease.
        """
        with map_os_errors(self.partial_folder):
            for name in find_orphans({path.name for path in self.partial_folder.iterdir()}):
                (self.partial_folder / name).unlink(missing_ok=True)

    def reserve_space(self, size_bytes: int) -> None:
        """Write a file of *size_bytes* that ``free_reserved_space`` removes when the disk is full."""
        with map_os_errors(self._reserve_path):
            self._reserve_path.write_bytes(os.urandom(size_bytes))

    def free_reserved_space(self) -> None:
        """Remove the file that ``reserve_space`` wrote, if it exists."""
        with map_os_errors(self._reserve_path):
            self._reserve_path.unlink(missing_ok=True)

    def new_temp_path(self) -> Path:
        """Return an unused path for a temporary file."""
        return self.partial_folder / f"new-{secrets.token_hex(8)}.tmp"
