"""
Steps that survive a power cut: write aside, fsync, rename into place, fsync the folder.

All of it blocks and is called in a thread, one call for each file.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# Linux has them, the standard library has not; elsewhere os.sync() does the same for all file systems.
_LIBC = ctypes.CDLL(None, use_errno=True)
_syncfs = getattr(_LIBC, "syncfs", None)
_sync_file_range = getattr(_LIBC, "sync_file_range", None)
_SYNC_FILE_RANGE_WRITE = 2
# posix_fallocate is not used: where the file system cannot allocate, glibc writes the whole length instead.
_fallocate = getattr(_LIBC, "fallocate64", None) or getattr(_LIBC, "fallocate", None)
_CANNOT_ALLOCATE = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_COPY_BYTES = 1 << 20

_CHUNKS_AT_ONCE = 512  # of the 1024 (IOV_MAX) that Linux takes


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags, 0o666)
    try:
        yield handle
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make the names in *folder* durable."""
    with _opened(folder, os.O_RDONLY | os.O_DIRECTORY) as handle:
        os.fsync(handle)


def sync_file_system(folder: Path) -> None:
    """Make everything durable that has been written to the file system of *folder*."""
    with _opened(folder, os.O_RDONLY | os.O_DIRECTORY) as handle:
        if _syncfs is None:
            os.sync()
        elif _syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))


def sync_file(path: Path) -> None:
    """Make the content of the existing file *path* durable."""
    with _opened(path, os.O_WRONLY) as handle:
        os.fsync(handle)


def allocate(path: Path, size_bytes: int) -> None:
    """
    Give the existing file *path* its size and, where the file system can, its disk space.

    Raises:
        OSError: The disk is full, or the file cannot have this size.
    """
    with _opened(path, os.O_WRONLY) as handle:
        if not _has_allocated(handle, size_bytes):
            os.ftruncate(handle, size_bytes)


def _has_allocated(handle: int, size_bytes: int) -> bool:
    if _fallocate is None or size_bytes <= 0:
        return False
    while _fallocate(handle, 0, ctypes.c_int64(0), ctypes.c_int64(size_bytes)) != 0:
        number = ctypes.get_errno()
        if number in _CANNOT_ALLOCATE:
            return False
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
    return True


def write_file(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write *data* to *path* and, with *sync*, make it durable."""
    with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as handle:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        if sync:
            os.fsync(handle)


def pwrite_chunks(path: Path, at: int, chunks: Sequence[bytes], *, hint: bool = True) -> None:
    """
    Put *chunks*, one behind the other, into the existing file *path*; not durable before it is fsynced.

    Args:
        hint: It will be: see ``begin_to_sync``.
    """
    start = at
    with _opened(path, os.O_WRONLY) as handle:
        for first in range(0, len(chunks), _CHUNKS_AT_ONCE):
            some = chunks[first : first + _CHUNKS_AT_ONCE]
            size = sum(map(len, some))
            written = os.pwritev(handle, some, at)
            if written < size:
                _write_rest(handle, at + written, memoryview(b"".join(some))[written:])
            at += size
        if hint:
            start_writeback(handle, start, at - start)


def start_writeback(handle: int, at: int = 0, size_bytes: int = 0) -> None:
    """
    Have the kernel begin to write these bytes out (0: to the end), so that an fsync finds little to wait for.

    A hint, no promise: where it is not known or not possible, the fsync does all of the work.
    """
    if _sync_file_range is not None:
        _sync_file_range(handle, ctypes.c_int64(at), ctypes.c_int64(size_bytes), _SYNC_FILE_RANGE_WRITE)


def _write_rest(handle: int, at: int, view: memoryview) -> None:
    while view:
        written = os.pwrite(handle, view, at)
        view, at = view[written:], at + written


def append_line(path: Path, line: bytes) -> None:
    """Append one short line, in one write."""
    with path.open("ab", buffering=0) as stream:
        stream.write(line)


def rename_into_place(aside: Path, final: Path) -> None:
    """
    Give the file *aside* its final name; an older file of that name is replaced at once.

    The name is durable only once the folder is synced: many names of one folder share that.
    """
    try:
        aside.replace(final)
    except FileNotFoundError:  # the first of its folder
        make_folder(final.parent)
        aside.replace(final)


def publish(aside: Path, final: Path) -> None:
    """Give the fsynced file *aside* its final name, durably."""
    rename_into_place(aside, final)
    sync_folder(final.parent)


def make_folder(folder: Path) -> None:
    """Make *folder* and its parents, durably."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for level in reversed(missing):
        level.mkdir(exist_ok=True)
        try:
            sync_folder(level.parent)
        except OSError:  # the next call must not take a name for durable that is not
            with contextlib.suppress(OSError):
                level.rmdir()
            raise


def link_or_copy(source: Path, aside: Path, final: Path, copy: Callable[[Path, Path], None]) -> None:
    """Publish the content of *source* as *final* too: by a hard link, or with *copy* if links are refused."""
    make_folder(final.parent)
    if final.exists() and final.samefile(source):
        return
    aside.unlink(missing_ok=True)
    try:
        os.link(source, aside)
    except OSError:
        with contextlib.ExitStack() as undo:
            undo.callback(aside.unlink, missing_ok=True)
            copy(source, aside)
            undo.pop_all()
    with contextlib.ExitStack() as undo:
        undo.callback(aside.unlink, missing_ok=True)
        rename_into_place(aside, final)
        undo.pop_all()


def copy_file(source: Path, target: Path, copied: Callable[[int], None]) -> None:
    """
    Copy *source* to the new file *target* and make its content durable.

    Args:
        copied: Called with the size of each block after it is written; an exception ends the copy.
    """
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        while block := reader.read(_COPY_BYTES):
            view = memoryview(block)
            while view:
                view = view[writer.write(view) :]
            copied(len(block))
        os.fsync(writer.fileno())
