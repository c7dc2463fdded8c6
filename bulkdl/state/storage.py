"""
The storage of a run: the destination for its outputs, and the state directory for everything else.

The state directory contains the ledger, the partial files, the temporary files and the reports of runs.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self

from bulkdl.concurrency import Executors, run_in
from bulkdl.destinations.interfaces import (
    LEDGER_NAME,
    STATE_FOLDER,
    Destination,
    DestinationOptions,
)
from bulkdl.destinations.network import UploadOptions
from bulkdl.destinations.registry import create_destination
from bulkdl.disk import atomic_files
from bulkdl.disk.disk_space import DiskReservations
from bulkdl.disk.scratch_limit import ScratchLimit
from bulkdl.errors import ConfigError, DestinationError
from bulkdl.models import Durability, Output, Reason
from bulkdl.os_errors import DISK_FULL_ERRNOS, map_os_errors
from bulkdl.settings.parsers import Shard
from bulkdl.state.partial_file import PartialFile
from bulkdl.state.shared_state import SharedState, SharedStateOptions


class StateDirectory:
    """
    The folder for all files of a run that are not outputs. It is always on a local file system.

    It belongs to the run, not to the destination. If both are on one file system, the destination can
    publish a partial file with a rename.

    Args:
        output: The path or the URL of the destination.

    Attributes:
        setting: The setting that selects this folder and its value, for error messages.
        durability: When files survive a power cut.
        executors: Threads for blocking operations.
        partial_folder: The folder of partial files and temporary files.
        reservations: The disk space that is reserved on this file system.
    """

    def __init__(
        self,
        path: Path,
        output: Path | str,
        durability: Durability = Durability.FULL,
        executors: Executors | None = None,
        *,
        setting: str,
    ) -> None:
        self.path = path
        self.durability = durability
        self.setting = setting
        self.executors = executors or Executors()
        self._output = output
        self._destination_path = path / "destination"
        self.ledger_path = path / LEDGER_NAME
        self.partial_folder = path / "parts"
        self.reservations = DiskReservations(self.partial_folder)
        self._reserve_path = path / "reserve"

    @property
    def destination_options(self) -> DestinationOptions:
        """The options of the destination of this run."""
        return DestinationOptions(
            self.path, self.partial_folder, self.reservations, self.durability, self.executors
        )

    async def write_report(self, run_id: str, document: bytes) -> None:
        """
        Store the report of a run atomically.

        Raises:
            DestinationError: It cannot be written.
        """
        path = self.path / "runs" / f"{run_id}.json"
        await atomic_files.retry_on_open_file_limit(
            lambda: run_in(self.executors.disk, self._write_report, path, document)
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
            atomic_files.make_root_folder(self.partial_folder)
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
            for name in _find_orphans({path.name for path in self.partial_folder.iterdir()}):
                (self.partial_folder / name).unlink(missing_ok=True)

    def check_destination(self) -> None:
        """
        Check that earlier runs with this state directory published to the same destination; blocks.

        Raises:
            ConfigError: They published to another destination.
        """
        recorded = self._read_destination()
        if recorded is not None and not self._is_same(recorded):
            raise ConfigError(
                f"--state {self.path}",
                f"belongs to the destination {recorded}, not to {self._output}; choose another directory "
                f"with --state, or remove {self._destination_path} if the destination was moved",
            )

    def record_destination(self) -> None:
        """
        Record the destination; blocks. Call it only while holding the lease.

        The default directory of an output directory needs no record.

        Raises:
            ConfigError: Another run has recorded another destination.
            DestinationError: The record cannot be written.
        """
        self.check_destination()
        output = self._output
        is_default = isinstance(output, Path) and self.path == output / STATE_FOLDER
        if is_default or self._read_destination() is not None:
            return
        temp_path = self.new_temp_path()
        with map_os_errors(self._destination_path):
            try:
                atomic_files.write_file(temp_path, os.fsencode(f"{self._identity()}\n"))
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

    def _identity(self) -> str:
        """Return the URL or the path; relative if both directories can be moved together."""
        output = self._output
        if isinstance(output, str):
            return output
        root, state = output.resolve(), self.path.resolve()
        return os.path.relpath(root, state) if state.is_relative_to(root) else str(root)

    def _is_same(self, recorded: str) -> bool:
        output = self._output
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
        self.executors.close()

    def new_temp_path(self) -> Path:
        """Return an unused path for a temporary file."""
        return self.partial_folder / f"new-{secrets.token_hex(8)}.tmp"


class Storage:
    """
    The destination and the state directory of a run.

    Args:
        scratch_limit_bytes: Maximum disk usage of all partial files; 0 disables the limit.

    Attributes:
        partial_file: Returns the partial file of an output, which is published to the destination.
        shared_state: The state of the run that is in the destination; None for a local directory.
    """

    def __init__(self, destination: Destination, state: StateDirectory, scratch_limit_bytes: int = 0) -> None:
        self.destination = destination
        self.state = state
        self.shared_state: SharedState | None = None
        self.partial_file: Callable[[Output], PartialFile] = partial(
            PartialFile,
            folder=state.partial_folder,
            destination=destination,
            reservations=state.reservations,
            scratch_limit=ScratchLimit(state.partial_folder, scratch_limit_bytes),
            executors=state.executors,
            sync=state.durability is Durability.FULL,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the destination and let idle threads end. The storage can be used again."""
        await self.destination.close()
        self.state.close()


def create_storage(
    output: Path | str,
    state: Path | None = None,
    *,
    shard: Shard | None = None,
    durability: Durability = Durability.FULL,
    executors: Executors | None = None,
    uploads: UploadOptions | None = None,
    shared: SharedStateOptions | None = None,
    scratch_limit_bytes: int = 0,
) -> Storage:
    """
    Return the storage for *output*. Nothing is created or changed.

    Args:
        state: The state directory; see ``create_state`` for the default.
        scratch_limit_bytes: Maximum disk usage of all partial files; 0 disables the limit.
        uploads: For a destination that is reached over the network.
        shared: For the state in such a destination.

    Raises:
        ConfigError: There is no destination for the URL.
    """
    directory = create_state(output, state, shard=shard, durability=durability, executors=executors)
    options = replace(directory.destination_options, uploads=uploads or UploadOptions())
    storage = Storage(create_destination(output, options), directory, scratch_limit_bytes)
    objects = storage.destination.state_objects
    if objects is not None:
        storage.shared_state = SharedState(
            storage.destination, objects, shard, directory.partial_folder, shared or SharedStateOptions()
        )
    return storage


def create_state(
    output: Path | str,
    state: Path | None = None,
    *,
    shard: Shard | None = None,
    durability: Durability = Durability.FULL,
    executors: Executors | None = None,
    env: Mapping[str, str] = os.environ,
) -> StateDirectory:
    """
    Return the state directory *state*. Nothing is created or changed.

    The default is ``.bulkdl`` in a local output directory. For a URL it is a directory below
    ``XDG_STATE_HOME``, which is different for each URL and shard.
    """
    setting = f"--state {state}" if state is not None else f"--output {output}"
    if state is None:
        state = output / STATE_FOLDER if isinstance(output, Path) else _state_of_url(output, shard, env)
    return StateDirectory(state, output, durability, executors, setting=setting)


def _state_of_url(url: str, shard: Shard | None, env: Mapping[str, str]) -> Path:
    home = Path(env.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
    identity = url if shard is None else f"{url} {shard}"
    return home / "bulkdl" / hashlib.sha256(identity.encode()).hexdigest()[:16]


def _find_orphans(names: set[str]) -> set[str]:
    """Return the *names* in the folder of partial files that no later run can use."""
    return {name for name in names if name.endswith(".tmp") or _is_orphan(name, names)}


def _is_orphan(name: str, names: set[str]) -> bool:
    stem, _, ending = name.partition("-")
    return ending.endswith((".part", ".map")) and f"{stem}.json" not in names
