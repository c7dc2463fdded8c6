"""
Write files so that they survive a power cut: temporary file, fsync, rename, fsync of the folder.

All functions block, except ``retry_on_open_file_limit``. Call them in a thread, with one call for each
file. ``bulkdl.os_errors`` converts their ``OSError`` to ``DestinationError``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from bulkdl import syscalls
from bulkdl.errors import DestinationError
from bulkdl.models import Reason

T = TypeVar("T")

OPEN_FILE_RETRY_DELAYS_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 10.0)

_LIBC = ctypes.CDLL(None, use_errno=True)
# posix_fallocate is not used: where the file system cannot allocate, glibc writes the whole length instead.
_fallocate = getattr(_LIBC, "fallocate64", None) or getattr(_LIBC, "fallocate", None)
_CANNOT_ALLOCATE_ERRNOS = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_COPY_BLOCK_BYTES = 1 << 20

_MAX_CHUNKS_PER_CALL = 512  # Linux accepts 1024 (IOV_MAX)


async def retry_on_open_file_limit(work: Callable[[], Awaitable[T]]) -> T:
    """
    Await *work*, and repeat it while the process has too many open files. *work* must be repeatable.

    The delay is not in a thread: other operations need the threads to close their files.
    """
    for delay_s in OPEN_FILE_RETRY_DELAYS_S:
        try:
            return await work()
        except DestinationError as error:
            if error.reason is not Reason.TOO_MANY_OPEN_FILES:
                raise
        await asyncio.sleep(delay_s)
    return await work()


@contextlib.contextmanager
def _open_handle(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags, 0o666)
    try:
        yield handle
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make the entries of *folder* durable."""
    with _open_handle(folder, os.O_RDONLY | os.O_DIRECTORY) as handle:
        os.fsync(handle)


def sync_file_system(folder: Path) -> None:
    """Make all data durable that was written to the file system of *folder*."""
    with _open_handle(folder, os.O_RDONLY | os.O_DIRECTORY) as handle:
        syscalls.sync_file_system(handle)


def sync_file(path: Path) -> None:
    """Make the content of the existing file *path* durable."""
    with _open_handle(path, os.O_WRONLY) as handle:
        os.fsync(handle)


def allocate(path: Path, size_bytes: int) -> None:
    """
    Set the size of the existing file *path*, and allocate its disk space if the file system supports it.

    Raises:
        OSError: The disk is full, or the file cannot have this size.
    """
    with _open_handle(path, os.O_WRONLY) as handle:
        if not _try_to_allocate(handle, size_bytes):
            os.ftruncate(handle, size_bytes)


def _try_to_allocate(handle: int, size_bytes: int) -> bool:
    if _fallocate is None or size_bytes <= 0:
        return False
    while _fallocate(handle, 0, ctypes.c_int64(0), ctypes.c_int64(size_bytes)) != 0:
        code = ctypes.get_errno()
        if code in _CANNOT_ALLOCATE_ERRNOS:
            return False
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True


def write_file(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write *data* to *path* and, with *sync*, make it durable."""
    with _open_handle(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as handle:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        if sync:
            os.fsync(handle)


def pwrite_chunks(path: Path, offset: int, chunks: Sequence[bytes], *, writeback: bool = True) -> None:
    """
    Write *chunks* one after another into the existing file *path*, from *offset* on, without fsync.

    Args:
        writeback: Whether to start the writeback, because an fsync follows later.
    """
    end = offset
    with _open_handle(path, os.O_WRONLY) as handle:
        for first in range(0, len(chunks), _MAX_CHUNKS_PER_CALL):
            batch = chunks[first : first + _MAX_CHUNKS_PER_CALL]
            size = sum(map(len, batch))
            written = os.pwritev(handle, batch, end)
            if written < size:
                _pwrite_all(handle, end + written, memoryview(b"".join(batch))[written:])
            end += size
        if writeback:
            syscalls.start_writeback(handle, offset, end - offset)


def _pwrite_all(handle: int, offset: int, view: memoryview) -> None:
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written


def append_line(path: Path, line: bytes) -> None:
    """Append one short line with one write call."""
    with path.open("ab", buffering=0) as stream:
        stream.write(line)


def rename_into_place(temp_path: Path, final_path: Path) -> None:
    """
    Rename *temp_path* to *final_path*, and replace an existing file atomically.

    The name is durable only after ``sync_folder``: many files of one folder share one call.
    """
    try:
        temp_path.replace(final_path)
    except FileNotFoundError:  # the folder does not exist yet
        make_folder(final_path.parent)
        temp_path.replace(final_path)


def publish(temp_path: Path, final_path: Path) -> None:
    """Rename the fsynced file *temp_path* to *final_path*, durably."""
    rename_into_place(temp_path, final_path)
    sync_folder(final_path.parent)


def make_folder(folder: Path) -> None:
    """Create *folder* and its parents, durably."""
    for level in _missing_levels(folder):
        level.mkdir(exist_ok=True)
        try:
            sync_folder(level.parent)
        except OSError:  # a later call must not find a folder whose name is not durable
            with contextlib.suppress(OSError):
                level.rmdir()
            raise


def _missing_levels(folder: Path) -> list[Path]:
    """Return *folder* and those of its parents that do not exist, the outermost first."""
    missing: list[Path] = []
    while not folder.is_dir():
        if folder == folder.parent:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        missing.append(folder)
        folder = folder.parent
    return missing[::-1]


def make_root_folder(folder: Path) -> None:
    """
    Create *folder* and its parents, durably if their parents are readable.

    Use it for the folders that the user names: a parent that is writable and not readable cannot be synced.
    """
    for level in _missing_levels(folder):
        level.mkdir(exist_ok=True)
        with contextlib.suppress(OSError):
            sync_folder(level.parent)


def exchange_folders(folder: Path, other: Path) -> bool:
    """Exchange the names of two folders atomically; return False if the file system does not support it."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    with _open_handle(folder.parent, flags) as parent, _open_handle(other.parent, flags) as other_parent:
        return syscalls.exchange_names(
            parent, os.fsencode(folder.name), other_parent, os.fsencode(other.name)
        )


def link_or_copy(source: Path, target: Path, copy: Callable[[Path, Path], None]) -> None:
    """Hard-link *source* as the new file *target*, or call *copy* if the file system rejects the link."""
    try:
        os.link(source, target)
    except OSError:
        copy(source, target)


def copy_file(
    source: Path, target: Path, on_block_copied: Callable[[int], None], *, sync: bool = True
) -> None:
    """
    Copy *source* to the new file *target* and, with *sync*, make its content durable.

    Args:
        on_block_copied: Called with the size of each block after it is written. An exception ends the copy.
    """
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        while block := reader.read(_COPY_BLOCK_BYTES):
            view = memoryview(block)
            while view:
                view = view[writer.write(view) :]
            on_block_copied(len(block))
        if sync:
            os.fsync(writer.fileno())
