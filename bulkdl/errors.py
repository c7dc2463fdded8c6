"""
Define all exceptions of bulkdl. An exception has fields, and its class builds the message.

Exceptions of libraries (aiohttp, OSError, sqlite3) are converted where they are raised. All other code
catches only the exceptions of this module.
"""

from __future__ import annotations

from datetime import UTC, datetime

from bulkdl.models import Reason


class BulkdlError(Exception):
    """Root of all errors of this package."""


def first_leaf_exception(error: BaseException) -> BaseException:
    """Return the first exception in a group, including nested groups; *error* itself if it is not a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class ConfigError(BulkdlError):
    """
    A flag, a variable, a key or a line of a file is invalid. Exit code 2.

    Attributes:
        where: The flag, the variable, or the file with the key or line.
        problem: The problem, and the expected value.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


class LedgerMissingError(ConfigError):
    """
    The state directory does not contain a ledger. Exit code 2.

    Args:
        setting: The setting that selects the state directory, with its value.
    """

    def __init__(self, setting: str) -> None:
        super().__init__(
            setting,
            "contains no ledger; choose the directory of bulkdl run (with shards: of a single shard), "
            "or recreate a lost ledger with bulkdl verify --rebuild",
        )


class DownloaderStateError(BulkdlError):
    """A Downloader is used outside of its ``async with`` block, or its block is entered twice."""


class NotFoundError(BulkdlError):
    """The source has no scope or container with this ID. Exit code 4."""

    def __init__(self, kind: str, identity: str) -> None:
        super().__init__(f"{kind} {identity} not found; check the ID and the credentials")
        self.kind = kind
        self.identity = identity


class DownloadError(BulkdlError):
    """
    An attempt failed. ``failure_policy.py`` defines the retry action for its *reason*.

    Attributes:
        detail: One line for the user, without secrets.
        retry_after_s: The delay that the server requested, in seconds from now.
        retries_exhausted: Whether the attempt was already retried and must not be retried again.
    """

    retries_exhausted = False

    def __init__(self, reason: Reason, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


class ApiError(DownloadError):
    """
    The API of a source rejected the request, failed, or sent an invalid response.

    Attributes:
        is_absent: Whether the provider states that the requested object does not exist. Any other
            ``NOT_FOUND`` is a failure.
    """

    is_absent = False


class TransferError(DownloadError):
    """The download of one output failed, or its content is invalid."""


class ContentRejectedError(TransferError):
    """The first bytes show that a body is not the requested output; none of it was stored."""


class DestinationError(DownloadError):
    """The destination cannot be read or written (full, read-only, missing)."""


class ProcessingError(DownloadError):
    """A processor cannot process one output. Raised by processors; other outputs are not affected."""


class LedgerError(BulkdlError):
    """The ledger cannot be used. Exit code 2."""


class LedgerDamagedError(LedgerError):
    """SQLite reports that the file is corrupt or is not a database. Exit code 2."""


class LedgerVersionError(LedgerError):
    """A newer bulkdl wrote this ledger. Exit code 2."""

    def __init__(self, path: str, found_version: int, supported_version: int) -> None:
        super().__init__(
            f"{path}: unexpected ledger version {found_version}; this bulkdl supports versions up to "
            f"{supported_version}; use the bulkdl that wrote the ledger, or a newer one"
        )
        self.found_version = found_version
        self.supported_version = supported_version


class OutputLockedError(BulkdlError):
    """Another run has the lease of this output directory. Exit code 11."""

    def __init__(self, path: str, host: str, pid: int, since_at: datetime) -> None:
        age_s = max(0, round((datetime.now(UTC) - since_at).total_seconds()))
        super().__init__(
            f"{path}: another run locks this output directory (host {host}, pid {pid}, for {age_s} s, "
            f"since {since_at.isoformat(timespec='seconds')}); wait for its end, or choose another directory"
        )
        self.host = host
        self.pid = pid
        self.since_at = since_at
