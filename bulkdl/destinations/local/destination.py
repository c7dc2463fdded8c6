"""
A directory on a local or mounted file system as the destination.

Content is written to a temporary file and then renamed. The temporary file is in the scratch folder, which is
usually on the same file system. Otherwise it is next to the final name. A record in the scratch folder names
it, so that the next run removes it after ``kill -9``.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
import stat
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, ClassVar, TypeVar

from bulkdl.concurrency import check_stop, run_in, run_stoppable
from bulkdl.destinations.interfaces import (
    CanContain,
    CompletedFile,
    DestinationOptions,
    ObjectInfo,
    Publication,
    check_key,
)
from bulkdl.destinations.local.folders import LocalFolders
from bulkdl.destinations.local.listing import iter_files, open_regular
from bulkdl.destinations.state_objects import StateObjects
from bulkdl.disk import atomic_files
from bulkdl.disk.atomic_files import retry_on_open_file_limit
from bulkdl.disk.disk_space import DiskReservations
from bulkdl.errors import ConfigError, DestinationError
from bulkdl.models import CommittedFile, Durability, Reason
from bulkdl.os_errors import DISK_FULL_ERRNOS, map_os_errors, map_path_errors, path_error

T = TypeVar("T")

_LIST_KEYS = 500
# Temporary files next to final names, and their records in the scratch folder.
STAGED_NAME = re.compile(r"\.bulkdl-[0-9a-f]{16}\.tmp")
_RECORD_SUFFIX = ".staged"


class LocalDestination:
    """The output directory *root*."""

    is_remote: ClassVar[bool] = False
    state_objects: ClassVar[StateObjects | None] = None

    def __init__(self, root: Path, options: DestinationOptions) -> None:
        self.root = root
        self.durability = options.durability
        self._state_folder = options.state_folder
        self._scratch = options.scratch_folder
        self._executors = options.executors
        self._scratch_reservations = options.reservations
        self._root_reservations = DiskReservations(root)
        self._is_scratch_elsewhere = False
        self._folders = LocalFolders(
            root, options.durability, options.executors, self.locate, self._find_reservations
        )

    @property
    def location(self) -> str:
        return str(self.root)

    @property
    def folders(self) -> LocalFolders:
        return self._folders

    def _find_reservations(self) -> DiskReservations:
        return self._root_reservations if self._is_scratch_elsewhere else self._scratch_reservations

    async def open(self) -> None:
        await run_in(self._executors.disk, self._open)

    def _open(self) -> None:
        try:
            atomic_files.make_root_folder(self.root)
            if not self._scratch.is_relative_to(self.root):  # preparing the state directory has tried it
                with self._staged(self.root) as probe:
                    probe.touch()
                    probe.unlink(missing_ok=True)
            self._is_scratch_elsewhere = self.root.stat().st_dev != self._scratch.stat().st_dev
        except OSError as error:
            if error.errno in DISK_FULL_ERRNOS:
                raise DestinationError(Reason.DISK_FULL, f"{self.root}: {error.strerror}") from None
            raise ConfigError(
                f"--output {self.root}", f"cannot be written ({error.strerror}); choose a writable folder"
            ) from None
        self._remove_staged_files()

    async def close(self) -> None:
        """Do nothing: the destination has no connection."""

    async def _run(self, call: Callable[..., T], *args: object) -> T:
        """Run *call* in a thread and wait for its end. It must be repeatable."""
        return await retry_on_open_file_limit(partial(run_stoppable, self._executors.disk, call, *args))

    def locate(self, key: str) -> Path:
        """
        Return the path of *key*.

        Raises:
            ValueError: *key* is not a path below the root.
        """
        return self.root / check_key(key)

    async def stat(self, keys: Collection[str]) -> Mapping[str, ObjectInfo]:
        return await run_in(self._executors.disk, self._stat, keys)

    def _stat(self, keys: Collection[str]) -> dict[str, ObjectInfo]:
        infos = {}
        root = os.fspath(self.root)  # a run checks each recorded file; Path would take most of the time
        for key in keys:
            path = f"{root}/{check_key(key)}"
            try:
                entry = os.lstat(path)
            except FileNotFoundError:
                continue
            except (OSError, UnicodeEncodeError) as error:
                problem = path_error(error, path)
                if problem.reason is Reason.PATH_BLOCKED:
                    continue
                raise problem from None
            if stat.S_ISREG(entry.st_mode):
                infos[key] = _object_info(key, entry)
        return infos

    async def publish(self, content: CompletedFile, file: CommittedFile) -> Publication:
        final_path = self.locate(file.key)
        info = ObjectInfo(file.key, file.size_bytes)
        if content.path is None:
            await self._run(self._publish_data, content.data, final_path)
            return Publication(info)
        if await self._run(self._move, content.path, final_path):
            return Publication(info, is_moved=True)
        executor = self._executors.archives  # a copy can take hours
        await retry_on_open_file_limit(
            partial(run_stoppable, executor, self._publish_copy, content, file.size_bytes, final_path)
        )
        return Publication(info)

    def _publish_data(self, _stop: threading.Event, data: bytes, final_path: Path) -> None:
        write = partial(atomic_files.write_file, data=data, sync=self.durability is Durability.FULL)
        self._place(write, final_path, "publish")

    def _move(self, _stop: threading.Event, path: Path, final_path: Path) -> bool:
        with map_path_errors(final_path):
            return _try_to_rename(path, final_path)

    def _publish_copy(
        self, stop: threading.Event, content: CompletedFile, size_bytes: int, final_path: Path
    ) -> None:
        """Copy the file of *content* to a temporary file next to *final_path*, and rename that."""
        path, owner_id = content.path, content.owner_id or final_path.name
        assert path is not None  # noqa: S101 - the caller has checked it
        sync = self.durability is Durability.FULL
        with map_path_errors(final_path), ExitStack() as stack:
            self._root_reservations.reserve(owner_id, size_bytes)
            stack.callback(self._root_reservations.release, owner_id)
            atomic_files.make_folder(final_path.parent)
            temp_path = stack.enter_context(self._staged(final_path.parent))
            count = partial(self._count_copied, stop, self._root_reservations, owner_id)
            atomic_files.copy_file(path, temp_path, count, sync=sync)
            atomic_files.rename_into_place(temp_path, final_path)
            if sync:  # the caller removes its file
                atomic_files.sync_folder(final_path.parent)

    @staticmethod
    def _count_copied(
        stop: threading.Event, reservations: DiskReservations, owner_id: str, size_bytes: int
    ) -> None:
        check_stop(stop)
        reservations.consume(owner_id, size_bytes)

    async def copy(self, key: str, new_key: str) -> ObjectInfo:
        """
        Create *new_key* as a hard link to *key*, or as a copy if the file system rejects hard links.

        Raises:
            DestinationError: There is not enough disk space for the copy, or the path cannot be created.
        """
        source, final_path = self.locate(key), self.locate(new_key)
        return await self._run(self._copy, source, final_path, new_key)

    def _copy(self, stop: threading.Event, source: Path, final_path: Path, new_key: str) -> ObjectInfo:
        with map_path_errors(final_path):
            if not (final_path.exists() and final_path.samefile(source)):
                self._place(partial(self._link, stop, source, final_path), final_path)
            return _object_info(new_key, final_path.stat())

    def _link(self, stop: threading.Event, source: Path, final_path: Path, temp_path: Path) -> None:
        with map_path_errors(final_path):
            atomic_files.link_or_copy(source, temp_path, partial(self._copy_within, stop))

    def _copy_within(self, stop: threading.Event, source: Path, temp_path: Path) -> None:
        """Copy *source* if the disk space that is not reserved by other downloads is sufficient."""
        owner_id = temp_path.name
        reservations = self._find_reservations()
        reservations.reserve(owner_id, source.stat().st_size)
        try:
            count = partial(self._count_copied, stop, reservations, owner_id)
            atomic_files.copy_file(source, temp_path, count)
        finally:
            reservations.release(owner_id)

    async def write_documents(self, documents: Mapping[str, bytes]) -> None:
        await self._run(self._write_documents, documents)

    def _write_documents(self, stop: threading.Event, documents: Mapping[str, bytes]) -> None:
        folders = set()
        for key, data in documents.items():
            final_path = self.locate(key)
            self._publish_data(stop, data, final_path)
            folders.add(final_path.parent)
        self._flush(folders)

    def _place(self, write: Callable[[Path], None], final_path: Path, prefix: str = "new") -> None:
        """
        Let *write* create a temporary file, and rename it to *final_path*.

        *write* is called again with a path next to *final_path* if the scratch folder is on another file
        system.
        """
        if not self._is_scratch_elsewhere:
            temp_path = self._scratch / f"{prefix}-{secrets.token_hex(8)}.tmp"
            with ExitStack() as undo:
                undo.callback(temp_path.unlink, missing_ok=True)
                with map_os_errors(self._scratch):
                    write(temp_path)
                with map_path_errors(final_path):
                    if _try_to_rename(temp_path, final_path):
                        undo.pop_all()
                        return
        with map_path_errors(final_path):
            atomic_files.make_folder(final_path.parent)
            with self._staged(final_path.parent) as temp_path:
                write(temp_path)
                atomic_files.rename_into_place(temp_path, final_path)

    @contextmanager
    def _staged(self, folder: Path) -> Iterator[Path]:
        """Yield a path for a temporary file in *folder*, which is removed if it still exists at the end."""
        name = f"bulkdl-{secrets.token_hex(8)}"
        temp_path, record = folder / f".{name}.tmp", self._scratch / (name + _RECORD_SUFFIX)
        with map_os_errors(self._scratch):
            record.write_bytes(os.fsencode(temp_path))
        try:
            yield temp_path
        except BaseException:
            with suppress(OSError):
                temp_path.unlink(missing_ok=True)
            raise
        finally:
            record.unlink(missing_ok=True)

    def _remove_staged_files(self) -> None:
        """Remove the temporary files next to final names that killed runs left."""
        with map_os_errors(self._scratch):
            for record in self._scratch.glob(f"bulkdl-*{_RECORD_SUFFIX}"):
                temp_path = Path(os.fsdecode(record.read_bytes()))
                if temp_path.name == f".{record.stem}.tmp":  # a power cut can leave an incomplete record
                    with suppress(OSError):
                        temp_path.unlink()
                record.unlink(missing_ok=True)

    async def delete(self, keys: Collection[str]) -> None:
        await self._run(self._delete, [self.locate(key) for key in keys])

    @staticmethod
    def _delete(stop: threading.Event, paths: Sequence[Path]) -> None:
        for path in paths:
            check_stop(stop)
            with map_path_errors(path), suppress(FileNotFoundError, NotADirectoryError):
                if stat.S_ISREG(path.lstat().st_mode):
                    path.unlink()

    async def flush(self, keys: Collection[str]) -> None:
        if self.durability is not Durability.NONE:
            folders = {self.locate(key).parent for key in keys}
            await retry_on_open_file_limit(partial(run_in, self._executors.flush, self._flush, folders))

    def _flush(self, folders: Collection[Path]) -> None:
        with map_os_errors(self.root):
            if self.durability is Durability.BATCH:
                atomic_files.sync_file_system(self.root)
            elif self.durability is Durability.FULL:
                for folder in folders:
                    atomic_files.sync_folder(folder)

    def reserve(self, owner_id: str, size_bytes: int) -> None:
        """Reserve space if a commit copies the file; otherwise the partial file has it already."""
        if self._is_scratch_elsewhere:
            with map_os_errors(self.root):
                self._root_reservations.reserve(owner_id, size_bytes)

    def release(self, owner_id: str) -> None:
        self._root_reservations.release(owner_id)

    async def list_objects(self, can_contain: CanContain) -> AsyncGenerator[Sequence[ObjectInfo], None]:
        """Yield all files, folder by folder, without the state directory and the directories of shards."""
        files = (
            info
            for info in iter_files(self.root, can_contain, self._state_folder)
            if not STAGED_NAME.fullmatch(info.key.rpartition("/")[2])
        )
        while infos := await asyncio.to_thread(lambda: list(islice(files, _LIST_KEYS))):
            yield infos

    def open_reader(self, key: str) -> AbstractContextManager[BinaryIO]:
        return open_regular(self.locate(key))


def _try_to_rename(path: Path, final_path: Path) -> bool:
    """Rename *path* to *final_path*; return False if they are on different file systems."""
    try:
        atomic_files.rename_into_place(path, final_path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _object_info(key: str, entry: os.stat_result) -> ObjectInfo:
    content_id = f"{entry.st_dev}:{entry.st_ino}" if entry.st_nlink > 1 else None
    return ObjectInfo(key, entry.st_size, content_id=content_id)
