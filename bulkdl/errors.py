"""
What can go wrong, by who must act. Errors carry fields; the class builds the message.

Foreign exceptions (aiohttp, OSError, sqlite3) are translated where they enter, so that above
the edges only these are caught.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from bulkdl.models import Reason


class BulkdlError(Exception):
    """Root of all errors of this package."""


def first_leaf_exception(error: BaseException) -> BaseException:
    """The first error in a group, however deep the groups; *error* itself when it is none."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class ConfigError(BulkdlError):
    """
    Something the user wrote is wrong: a flag, a variable, a key, a line of a file. Exit code 2.

    Attributes:
        where: The flag, the variable, or file and key or line.
        problem: What is wrong with it, and what was expected.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


class LedgerMissingError(ConfigError):
    """The output directory does not contain a ledger. Exit code 2."""

    def __init__(self, output: Path) -> None:
        super().__init__(
            f"--output {output}",
            "contains no ledger; name the output directory of bulkdl run (with shards: that of one shard), "
            "or recreate a lost ledger with bulkdl verify --rebuild",
        )


class DownloaderStateError(BulkdlError):
    """A Downloader is used outside of its ``async with`` block, or its block is entered twice."""


class NotFoundError(BulkdlError):
    """UP42 knows no such project or job. Exit code 4."""

    def __init__(self, what: str, identity: str) -> None:
        super().__init__(f"UP42 knows no {what} {identity}")
        self.what = what
        self.identity = identity


class DownloadError(BulkdlError):
    """
    An attempt that did not succeed; *reason* decides in ``failure_policy.py`` what happens next.

    Attributes:
        detail: One line for a person; never holds a secret.
        retry_after_s: What the server asked us to wait, already in seconds from now.
        retries_exhausted: It has been tried again already, as far as that makes sense.
    """

    retries_exhausted = False

    def __init__(self, reason: Reason, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


class ApiError(DownloadError):
    """UP42's API refused, failed, or answered something that cannot be read."""


class TransferError(DownloadError):
    """The bytes of one output did not come, or are not what they should be."""


class DestinationError(DownloadError):
    """The place where bytes land refused them (full, read-only, gone)."""


class LedgerError(BulkdlError):
    """The ledger cannot be used as it is. Exit code 2."""


class LedgerDamaged(LedgerError):
    """SQLite reports that the file is corrupt or is not a database. Exit code 2."""


class LedgerVersionError(LedgerError):
    """A newer bulkdl wrote this ledger."""

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(
            f"{path}: the ledger has version {found}, this bulkdl knows up to {known}; "
            "use the bulkdl that wrote it, or a newer one"
        )
        self.found = found
        self.known = known


class OutputLockedError(BulkdlError):
    """Another run holds this output directory. Exit code 11."""

    def __init__(self, path: str, host: str, pid: int, since_at: datetime) -> None:
        super().__init__(
            f"{path}: another run holds this output directory (host {host}, pid {pid}, "
            f"since {since_at.isoformat(timespec='seconds')}); wait for it, or choose another directory"
        )
        self.host = host
        self.pid = pid
        self.since_at = since_at
