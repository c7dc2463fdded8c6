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

    Attributes:
        setting: The setting that selects this folder and its value, for error messages.
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
        setting: str,
    ) -> None:
        self.path = path
        self.durability = durability
        self.setting = setting
        self._destination_path = path / "destination"
        self._executors = executors or Executors()
        self.ledger_path = path / LEDGER_NAME
        self.partial_folder = path / "parts"
        self.reservations = DiskReservations(self.partial_folder)
        self._reserve_path = path / "reserve"

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
                self.setting, f"cannot be written ({error.strerror}); choose a writable folder"
            ) from None

    def remove_stale_temp_files(self) -> None:
        """
        Remove the temporary files of killed runs, and data files without a sidecar.

        Call it only while holding the lease.
        """
        with map_os_errors(self.partial_folder):
            for name in find_orphans({path.name for path in self.partial_folder.iterdir()}):
                (self.partial_folder / name).unlink(missing_ok=True)

    def check_destination(self, output: Path | str) -> None:
        """
        Check that earlier runs with this state directory published to the destination *output*; blocks.

        Raises:
            ConfigError: They published to another destination.
        """
        recorded = self._read_destination()
        if recorded is not None and not self._is_same(recorded, output):
            raise ConfigError(
                f"--state {self.path}",
                f"belongs to the destination {recorded}, not to {output}; choose another directory with "
                f"--state, or remove {self._destination_path} if the destination was moved",
            )

    def record_destination(self, output: Path | str) -> None:
        """
        Record the destination *output*; blocks. Call it only while holding the lease.

        The default directory of an output directory needs no record.

        Raises:
            ConfigError: Another run has recorded another destination.
            DestinationError: The record cannot be written.
        """
        self.check_destination(output)
        is_default = isinstance(output, Path) and self.path == output / STATE_FOLDER
        if is_default or self._read_destination() is not None:
            return
        temp_path = self.new_temp_path()
        with map_os_errors(self._destination_path):
            try:
                atomic_files.write_file(temp_path, os.fsencode(f"{self._identity(output)}\n"))
                atomic_files.publish(temp_path, self._destination_path)
            except BaseException:
                temp_path.unlink(missing_ok=True)
                raise

    def _read_destination(self) -> str | None:
        """
        Return the destination of the earlier runs; None if it is not known.

        A ledger in the default directory of an output directory belongs to that directory.
        """
        with map_os_errors(self._destination_path):
            try:
                recorded = os.fsdecode(self._destination_path.read_bytes()).rstrip("\n")
            except (FileNotFoundError, NotADirectoryError):
                recorded = ""
            if recorded:
                return recorded
            is_default = self.path.name == STATE_FOLDER and self.ledger_path.exists()
            return ".." if is_default else None

    def _identity(self, output: Path | str) -> str:
        """Return the URL or the path; relative if both directories can be moved together."""
        if isinstance(output, str):
            return output
        root, state = output.resolve(), self.path.resolve()
        return os.path.relpath(root, state) if state.is_relative_to(root) else str(root)

    def _is_same(self, recorded: str, output: Path | str) -> bool:
        if isinstance(output, str):
            return recorded == output
        return (self.path.resolve() / recorded).resolve() == output.resolve()

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
