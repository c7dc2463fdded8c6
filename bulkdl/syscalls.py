"""Call functions of Linux that the standard library does not have, on open file descriptors."""

from __future__ import annotations

import ctypes
import errno
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_syncfs = getattr(_LIBC, "syncfs", None)
_sync_file_range = getattr(_LIBC, "sync_file_range", None)
_renameat2 = getattr(_LIBC, "renameat2", None)
_SYNC_FILE_RANGE_WRITE = 2
_RENAME_EXCHANGE = 2
_CANNOT_EXCHANGE_ERRNOS = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})


def sync_file_system(handle: int) -> None:
    """
    Make all data durable that was written to the file system of the open file or folder *handle*.

    Systems without syncfs sync all file systems.
    """
    if _syncfs is None:
        os.sync()
    elif _syncfs(handle) != 0:
        _raise_os_error()


def start_writeback(handle: int, offset: int = 0, size_bytes: int = 0) -> None:
    """
    Start to write this range to disk (size 0: to the end), which shortens the fsync that follows.

    This is only a hint. If the system does not support it, the fsync writes all data.
    """
    if _sync_file_range is not None:
        _sync_file_range(handle, ctypes.c_int64(offset), ctypes.c_int64(size_bytes), _SYNC_FILE_RANGE_WRITE)


def exchange_names(handle: int, name: bytes, other_handle: int, other_name: bytes) -> bool:
    """
    Exchange two existing names in open folders atomically.

    Returns:
        Whether the names were exchanged. False: the system or the file system does not support it.
    """
    if _renameat2 is None:
        return False
    if _renameat2(handle, name, other_handle, other_name, _RENAME_EXCHANGE) == 0:
        return True
    if ctypes.get_errno() in _CANNOT_EXCHANGE_ERRNOS:
        return False
    _raise_os_error()
    return False


def _raise_os_error() -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))
