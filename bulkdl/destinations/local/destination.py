"""A folder on a local (or mounted) file system as the place where bytes land."""

from __future__ import annotations

import os
import secrets
import stat
import threading
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from bulkdl.concurrency import Executors, check_stop, run_in, run_stoppable
from bulkdl.destinations.local import atomic_files
from bulkdl.destinations.local.disk_space import DiskReservations
from bulkdl.destinations.local.errors import FULL, map_os_errors, translated_name, with_open_files
from bulkdl.destinations.local.partial_file import PartialFile, find_orphans
from bulkdl.errors import ConfigError, DestinationError
from bulkdl.models import Durability, Output, Reason

STATE_FOLDER = ".bulkdl"


class LocalDestination:
    """
    Files below *root*; what is not committed lives in ``.bulkdl/parts`` below it.

    Attributes:
        state: The folder for the ledger, the parts and the reports of runs.
        durability: When what is committed is proof against a power cut.
    """

    def __init__(
        self,
        root: Path,
        durability: Durability = Durability.FULL,
        executors: Executors | None = None,
    ) -> None:
        self.root = root
        self.durability = durability
        self.state = root / STATE_FOLDER
        self._parts = self.state / "parts"
        self._reservations = DiskReservations(self._parts)
        self._executors = executors or Executors()

    def prepare(self) -> None:
        """
        Make the folders and try whether they can be written.

        Raises:
            ConfigError: They cannot; nothing has been changed.
            DestinationError: DISK_FULL; the disk has no space or no inodes left.
        """
        try:
            self._parts.mkdir(parents=True, exist_ok=True)
            probe = self._parts / f"probe-{secrets.token_hex(4)}.tmp"
            probe.touch()
            probe.unlink(missing_ok=True)  # a run that holds the directory may have swept it
        except OSError as error:
            if error.errno in FULL:
                raise DestinationError(Reason.DISK_FULL, f"{self.root}: {error.strerror}") from None
            raise ConfigError(
                f"--output {self.root}", f"cannot be written ({error.strerror}); name a folder that can"
            ) from None

    def remove_stale_temp_files(self) -> None:
        """
        Remove what a killed run has left half-made beside the parts, and bytes that no sidecar tells of.

        Only for who holds the directory.
        """
        with map_os_errors(self._parts):
            for name in find_orphans({path.name for path in self._parts.iterdir()}):
                (self._parts / name).unlink(missing_ok=True)

    def reserve_space(self, size_bytes: int) -> None:
        """Write a file of *size_bytes* that ``free_reserved_space`` removes when the disk is full."""
        path = self.state / "reserve"
        with map_os_errors(path):
            path.write_bytes(os.urandom(size_bytes))

    def free_reserved_space(self) -> None:
        """Remove the file that ``reserve_space`` wrote, if it exists."""
        path = self.state / "reserve"
        with map_os_errors(path):
            path.unlink(missing_ok=True)

    def partial_file(self, output: Output) -> PartialFile:
        sync = self.durability is Durability.FULL
        return PartialFile(output, self._parts, self.locate, self._reservations, self._executors, sync=sync)

    def sync(self, folders: Iterable[Path]) -> None:
        """
        Make durable what was committed into *folders*, as far as the durability says; blocks.

        Nothing counts as done before this has returned.
        """
        with map_os_errors(self.root):
            if self.durability is Durability.BATCH:
                atomic_files.sync_file_system(self.root)
            elif self.durability is Durability.FULL:
                for folder in folders:
                    atomic_files.sync_folder(folder)

    def locate(self, key: str) -> Path:
        """The path of *key*, which must stay below the root."""
        if not key.strip("./") or key.startswith("/") or ".." in key.split("/") or "\0" in key:
            raise ValueError(f"not a key: {key!r}")
        return self.root / key

    async def publish(self, documents: Mapping[str, bytes]) -> None:
        """Put small documents, by key, in place: each atomically and durably, all in one trip."""
        await with_open_files(partial(run_in, self._executors.disk, self._publish, documents))

    def _publish(self, documents: Mapping[str, bytes]) -> None:
        folders = set()
        for key, data in documents.items():
            final = self.locate(key)
            aside = self._temp_path()
            with map_os_errors(self._parts):
                atomic_files.write_file(aside, data, sync=self.durability is Durability.FULL)
            with translated_name(final):
                try:
                    atomic_files.rename_into_place(aside, final)
                except BaseException:
                    aside.unlink(missing_ok=True)
                    raise
            folders.add(final.parent)
        self.sync(folders)

    async def link(self, key: str, new_key: str) -> None:
        """
        Let *new_key* be the same file as *key*: a hard link, or a copy where hard links are refused.

        Raises:
            DestinationError: There is not enough disk space for the copy, or the name cannot be created.
        """
        source, final = self.locate(key), self.locate(new_key)
        await with_open_files(partial(run_stoppable, self._executors.disk, self._link, source, final))

    def _link(self, stop: threading.Event, source: Path, final: Path) -> None:
        with translated_name(final):
            atomic_files.link_or_copy(source, self._temp_path(), final, partial(self._copy, stop))

    def _copy(self, stop: threading.Event, source: Path, aside: Path) -> None:
        """Copy within the disk space that other transfers have not reserved."""

        def copied(size_bytes: int) -> None:
            check_stop(stop)
            self._reservations.consume(aside.name, size_bytes)

        self._reservations.reserve(aside.name, source.stat().st_size)
        try:
            atomic_files.copy_file(source, aside, copied)
        finally:
            self._reservations.release(aside.name)

    def _temp_path(self) -> Path:
        return self._parts / f"aside-{secrets.token_hex(8)}.tmp"

    async def find_sizes(self, keys: Iterable[str]) -> dict[str, int]:
        """
        Return the sizes in bytes of those *keys* that exist as regular files.

        A path that cannot be examined counts as missing: its download fails alone and says why.
        """
        return await run_in(self._executors.disk, self._find_sizes, keys)

    def _find_sizes(self, keys: Iterable[str]) -> dict[str, int]:
        found = {}
        for key in keys:
            try:
                found.update(self.sizes([key]))
            except DestinationError as failure:
                if failure.reason is not Reason.PATH_BLOCKED:
                    raise
        return found

    def close(self) -> None:
        """Let the threads end; the sink can be used again."""
        self._executors.close()

    def sizes(self, keys: Iterable[str]) -> dict[str, int]:
        """Sizes in bytes of those *keys* that are there as regular files; blocks."""
        found = {}
        for key in keys:
            path = self.locate(key)
            with translated_name(path):
                try:
                    entry = path.lstat()
                except (FileNotFoundError, NotADirectoryError):
                    continue
            if stat.S_ISREG(entry.st_mode):
                found[key] = entry.st_size
        return found
