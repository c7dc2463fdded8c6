"""OSError becomes DestinationError here, and nowhere above."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from bulkdl.errors import DestinationError
from bulkdl.models import Reason

T = TypeVar("T")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})
# What is wrong with one path and not with the disk.
_BLOCKED = frozenset(
    {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EACCES, errno.EPERM}
    | {errno.ELOOP, errno.ENAMETOOLONG}
)
_WAITS_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 10.0)


@contextmanager
def map_os_errors(path: Path) -> Iterator[None]:
    """Turn an OSError about *path*, which all outputs share, into a DestinationError."""
    try:
        yield
    except OSError as error:
        raise DestinationError(_reason_of(error), f"{path}: {error.strerror or error}") from None


@contextmanager
def translated_name(path: Path) -> Iterator[None]:
    """Turn an OSError about *path*, the name of one output or document, into a DestinationError."""
    try:
        yield
    except OSError as error:
        reason = Reason.PATH_BLOCKED if error.errno in _BLOCKED else _reason_of(error)
        raise DestinationError(reason, f"{path}: {error.strerror or error}") from None
    except UnicodeEncodeError as error:
        detail = f"{str(path)!a}: the file system's encoding ({error.encoding}) cannot represent it"
        raise DestinationError(Reason.PATH_BLOCKED, detail) from None


def _reason_of(error: OSError) -> Reason:
    if error.errno in FULL:
        return Reason.DISK_FULL
    return Reason.TOO_MANY_OPEN_FILES if error.errno in _OUT_OF_FILES else Reason.DISK_ERROR


async def with_open_files(work: Callable[[], Awaitable[T]]) -> T:
    """
    Await *work*, and repeat it while the process has too many open files. It must be repeatable.

    The wait is not in the thread that *work* uses: other work needs the threads to close its files.
    """
    for wait_s in _WAITS_S:
        try:
            return await work()
        except DestinationError as failure:
            if failure.reason is not Reason.TOO_MANY_OPEN_FILES:
                raise
        await asyncio.sleep(wait_s)
    return await work()
