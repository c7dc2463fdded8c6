"""Convert an ``OSError`` to ``DestinationError`` with the reason that it means."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from bulkdl.errors import DestinationError
from bulkdl.models import Reason

DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
_OPEN_FILE_LIMIT_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE})
# These errors concern one path and not the disk.
_PATH_ERRNOS = frozenset(
    {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EACCES, errno.EPERM}
    | {errno.ELOOP, errno.ENAMETOOLONG}
)


@contextlib.contextmanager
def map_os_errors(path: Path) -> Iterator[None]:
    """Convert an OSError about *path*, which all outputs share, to DestinationError."""
    try:
        yield
    except OSError as error:
        raise DestinationError(reason_of(error), f"{path}: {error.strerror or error}") from None


@contextlib.contextmanager
def map_path_errors(path: Path) -> Iterator[None]:
    """Convert an OSError about *path*, the path of one output or document, to DestinationError."""
    try:
        yield
    except (OSError, UnicodeEncodeError) as error:
        raise path_error(error, path) from None


def path_error(error: OSError | UnicodeEncodeError, path: Path | str) -> DestinationError:
    """Return *error* about *path*, the path of one output or document, as DestinationError."""
    if isinstance(error, UnicodeEncodeError):
        detail = f"{str(path)!a}: the file system's encoding ({error.encoding}) cannot represent it"
        return DestinationError(Reason.PATH_BLOCKED, detail)
    reason = Reason.PATH_BLOCKED if error.errno in _PATH_ERRNOS else reason_of(error)
    return DestinationError(reason, f"{path}: {error.strerror or error}")


def reason_of(error: OSError) -> Reason:
    if error.errno in DISK_FULL_ERRNOS:
        return Reason.DISK_FULL
    if error.errno in _OPEN_FILE_LIMIT_ERRNOS:
        return Reason.TOO_MANY_OPEN_FILES
    return Reason.DISK_ERROR
