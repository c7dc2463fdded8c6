"""A directory on a local or mounted file system as the destination of downloads."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from bulkdl.concurrency import Executors, check_stop, run_in, run_stoppable
from bulkdl.disk import atomic_files
from bulkdl.disk.atomic_files import retry_on_open_file_limit
from bulkdl.errors import DestinationError
from bulkdl.models import Durability, Output, Reason
from bulkdl.os_errors import map_os_errors, map_path_errors
from bulkdl.state.directory import StateDirectory
from bulkdl.state.partial_file import PartialFile


class LocalDestination:
    """
    The output directory *root*: documents and committed files by key.

    Attributes:
        state: The state directory, with the partial files.
        durability: When committed files survive a power cut.
    """

    def __init__(
        self,
        root: Path,
        durability: Durability = Durability.FULL,
        executors: Executors | None = None,
    ) -> None:
        self.root = root
        self.durability = durability
        self.state = StateDirectory.below(root)
        self._executors = executors or Executors()

    def prepare(self) -> None:
        """Create the directories and check that they are writable: see ``StateDirectory.prepare``."""
        self.state.prepare(f"--output {self.root}")

    def partial_file(self, output: Output) -> PartialFile:
        return PartialFile(
            output,
            self.state.partial_folder,
            self.locate,
            self.state.reservations,
            self._executors,
            sync=self.durability is Durability.FULL,
        )

    def sync(self, folders: Iterable[Path]) -> None:
        """
        Make the files that were committed into *folders* durable, as the durability requires. Blocks.

        The ledger records these files only after this call.
        """
        with map_os_errors(self.root):
            if self.durability is Durability.BATCH:
                atomic_files.sync_file_system(self.root)
            elif self.durability is Durability.FULL:
                for folder in folders:
                    atomic_files.sync_folder(folder)

    def locate(self, key: str) -> Path:
        """
        Return the path of *key*.

        Raises:
            ValueError: *key* is not a path below the root.
        """
        if not key.strip("./") or key.startswith("/") or ".." in key.split("/") or "\0" in key:
            raise ValueError(f"invalid key: {key!r} is not a relative path below the output directory")
        return self.root / key

    async def publish(self, documents: Mapping[str, bytes]) -> None:
        """Write small documents by key, each of them atomically and durably, in one call to a thread."""
        await retry_on_open_file_limit(partial(run_in, self._executors.disk, self._publish, documents))

    def _publish(self, documents: Mapping[str, bytes]) -> None:
        folders = set()
        for key, data in documents.items():
            final_path = self.locate(key)
            temp_path = self.state.new_temp_path()
            with map_os_errors(self.state.partial_folder):
                atomic_files.write_file(temp_path, data, sync=self.durability is Durability.FULL)
            with map_path_errors(final_path):
                try:
                    atomic_files.rename_into_place(temp_path, final_path)
                except BaseException:
                    temp_path.unlink(missing_ok=True)
                    raise
            folders.add(final_path.parent)
        self.sync(folders)

    async def link(self, key: str, new_key: str) -> None:
        """
        Create *new_key* as a hard link to *key*, or as a copy if the file system rejects hard links.

        Raises:
            DestinationError: There is not enough disk space for the copy, or the path cannot be created.
        """
        source, final_path = self.locate(key), self.locate(new_key)
        await retry_on_open_file_limit(
            partial(run_stoppable, self._executors.disk, self._link, source, final_path)
        )

    def _link(self, stop: threading.Event, source: Path, final_path: Path) -> None:
        with map_path_errors(final_path):
            atomic_files.link_or_copy(
                source, self.state.new_temp_path(), final_path, partial(self._copy, stop)
            )

    def _copy(self, stop: threading.Event, source: Path, temp_path: Path) -> None:
        """Copy *source* if the disk space that is not reserved by other downloads is sufficient."""
        owner_id = temp_path.name

        def on_block_copied(size_bytes: int) -> None:
            check_stop(stop)
            self.state.reservations.consume(owner_id, size_bytes)

        self.state.reservations.reserve(owner_id, source.stat().st_size)
        try:
            atomic_files.copy_file(source, temp_path, on_block_copied)
        finally:
            self.state.reservations.release(owner_id)

    async def find_sizes(self, keys: Iterable[str]) -> dict[str, int]:
        """
        Return the sizes in bytes of those *keys* that exist as regular files.

        A path that cannot be examined counts as missing. Its download then fails and reports the reason.
        """
        return await run_in(self._executors.disk, self._find_sizes, keys)

    def _find_sizes(self, keys: Iterable[str]) -> dict[str, int]:
        sizes = {}
        for key in keys:
            try:
                sizes.update(self.read_sizes([key]))
            except DestinationError as error:
                if error.reason is not Reason.PATH_BLOCKED:
                    raise
        return sizes

    def close(self) -> None:
        """Let the idle threads end. The destination can be used again."""
        self._executors.close()

    def read_sizes(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the sizes in bytes of those *keys* that exist as regular files. Blocks."""
        sizes = {}
        for key in keys:
            path = self.locate(key)
            with map_path_errors(path):
                try:
                    entry = path.lstat()
                except (FileNotFoundError, NotADirectoryError):
                    continue
            if stat.S_ISREG(entry.st_mode):
                sizes[key] = entry.st_size
        return sizes
