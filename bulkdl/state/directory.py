"""The state directory: the ledger, the partial files, the temporary files and the reports of runs."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from bulkdl.concurrency import Executors, run_in
from bulkdl.destinations.interfaces import LEDGER_NAME, STATE_FOLDER, Destination, DestinationOptions
from bulkdl.disk import atomic_files
from bulkdl.disk.disk_space import DiskReservations
from bulkdl.errors import ConfigError, DestinationError
from bulkdl.models import Durability, Output, Reason
from bulkdl.os_errors import DISK_FULL_ERRNOS, map_os_errors
from bulkdl.state.partial_file import PartialFile, find_orphans


class StateDirectory:
    """
    The folder for all files of a run that are not outputs. It is always on a local file system.

    It belongs to the run, not to the destination. If both are on one file system, the destination can
    publish a partial file with a rename.

    Args:
        setting: The setting that selects this folder, for error messages.

    Attributes:
        durability: When files survive a power cut.
        partial_folder: The folder of partial files and temporary files.
        reservations: The disk space that is reserved on this file system.
    """

    def __init__(
        self,
        path: Path,
        durability: Durability = Durability.FULL,
        executors: Executors | None = None,
        *,
        setting: str = "",
    ) -> None:
        self.path = path
        self.durability = durability
        self._executors = executors or Executors()
        self._setting = setting or f"--state {path}"
        self.ledger_path = path / LEDGER_NAME
        self.partial_folder = path / "parts"
        self.reservations = DiskReservations(self.partial_folder)
        self._reserve_path = path / "reserve"

    @classmethod
    def below(
        cls, root: Path, durability: Durability = Durability.FULL, executors: Executors | None = None
    ) -> StateDirectory:
        """Return the default state directory of the output directory *root*."""
        return cls(root / STATE_FOLDER, durability, executors, setting=f"--output {root}")

    @property
    def destination_options(self) -> DestinationOptions:
        """The options of the destination of this run."""
        return DestinationOptions(
            self.path, self.partial_folder, self.reservations, self.durability, self._executors
        )

    def partial_file(self, output: Output, destination: Destination) -> PartialFile:
        """Return the partial file of *output*, which is published to *destination*."""
        return PartialFile(
            output,
            self.partial_folder,
            destination,
            self.reservations,
            self._executors,
            sync=self.durability is Durability.FULL,
        )

    async def write_report(self, run_id: str, document: bytes) -> None:
        """
        Store the report of a run atomically.

        Raises:
            DestinationError: It cannot be written.
        """
        path = self.path / "runs" / f"{run_id}.json"
        await atomic_files.retry_on_open_file_limit(
            lambda: run_in(self._executors.disk, self._write_report, path, document)
        )

    def _write_report(self, path: Path, document: bytes) -> None:
        temp_path = self.new_temp_path()
        sync = self.durability is not Durability.NONE
        with map_os_errors(path):
            try:
                atomic_files.write_file(temp_path, document, sync=sync)
                atomic_files.rename_into_place(temp_path, path)
            except BaseException:
                temp_path.unlink(missing_ok=True)
                raise
            if sync:
                atomic_files.sync_folder(path.parent)

    def prepare(self) -> None:
        """
        Create the folders and check that they are writable.

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
                self._setting, f"cannot be written ({error.strerror}); choose a writable folder"
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

    def close(self) -> None:
        """Let idle threads end. They start again when they are needed."""
        self._executors.close()

    def new_temp_path(self) -> Path:
        """Return an unused path for a temporary file."""
        return self.partial_folder / f"new-{secrets.token_hex(8)}.tmp"
