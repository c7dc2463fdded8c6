"""OSError becomes SinkFailure here, and nowhere above."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bulkdl.errors import SinkFailure
from bulkdl.model import Reason

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what the operating system says about *path* into a SinkFailure."""
    try:
        yield
    except OSError as error:
        reason = Reason.DISK_FULL if error.errno in _FULL else Reason.DISK_ERROR
        raise SinkFailure(reason, f"{path}: {error.strerror or error}") from None
