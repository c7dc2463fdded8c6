"""
Define the retry action, the exit code and the hint for each failure reason.

This module contains only data. ``step`` is the action of a worker after a failed attempt.
``exit_code`` is the exit code of a run in which the failure remains. ``hint`` is the next step for
the user. ``make docs`` generates docs/failure-policy.md from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from bulkdl.models import Reason


class ExitCode(IntEnum):
    """Exit codes of the command line."""

    OK = 0
    BUG = 1
    USAGE = 2
    FAILED = 3
    NOT_FOUND = 4
    TEMPORARY = 5
    INTEGRITY = 6
    CREDENTIALS = 7
    MAX_TRANSFER = 8
    MAX_DURATION = 10
    LOCKED = 11
    DISK_FULL = 12
    INTERRUPTED = 130
    TERMINATED = 143


class RetryAction(Enum):
    """The action of a worker after a failed attempt."""

    BACK_OFF = "wait, then resume at the same byte"
    RENEW_URL = "request a new signed URL, then resume at the same byte"
    RESTART = "discard the partial file, wait, then restart at byte 0"
    GIVE_UP = "do not retry in this run"
    STOP_RUN = "stop the run"


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """Retry action, exit code and hint for one reason."""

    action: RetryAction
    exit_code: ExitCode
    hint: str


_LATER = "run the same command again to resume"

FAILURE_POLICIES: dict[Reason, FailurePolicy] = {
    Reason.UNREACHABLE: FailurePolicy(
        RetryAction.BACK_OFF, ExitCode.TEMPORARY, f"check the network and the API URL; {_LATER}"
    ),
    Reason.CONNECTION_LOST: FailurePolicy(RetryAction.BACK_OFF, ExitCode.TEMPORARY, _LATER),
    Reason.STALLED: FailurePolicy(
        RetryAction.BACK_OFF, ExitCode.TEMPORARY, f"{_LATER}; lower --speed-limit if the connection is slow"
    ),
    Reason.TRUNCATED: FailurePolicy(RetryAction.BACK_OFF, ExitCode.TEMPORARY, _LATER),
    Reason.THROTTLED: FailurePolicy(RetryAction.BACK_OFF, ExitCode.TEMPORARY, f"lower --rate; {_LATER}"),
    Reason.SERVER_ERROR: FailurePolicy(
        RetryAction.BACK_OFF, ExitCode.TEMPORARY, f"wait for the service, then {_LATER}"
    ),
    Reason.URL_EXPIRED: FailurePolicy(
        RetryAction.RENEW_URL,
        ExitCode.TEMPORARY,
        f"check this machine's clock and the storage's permissions; {_LATER}",
    ),
    Reason.OBJECT_CHANGED: FailurePolicy(
        RetryAction.RESTART, ExitCode.TEMPORARY, f"the object keeps changing at its source; {_LATER}"
    ),
    Reason.LEDGER_LOCKED: FailurePolicy(
        RetryAction.STOP_RUN,
        ExitCode.TEMPORARY,
        f"wait for the process that locks the ledger (a backup, a copy), then {_LATER}",
    ),
    Reason.LEASE_LOST: FailurePolicy(
        RetryAction.STOP_RUN,
        ExitCode.LOCKED,
        "wait for the end of the other run; if there is none, check the connection to the object store",
    ),
    Reason.CHECKSUM_MISMATCH: FailurePolicy(
        RetryAction.RESTART,
        ExitCode.INTEGRITY,
        "checksum mismatch: check the network and the proxy, then run again",
    ),
    Reason.ERROR_PAGE: FailurePolicy(
        RetryAction.BACK_OFF,
        ExitCode.INTEGRITY,
        "a server or a proxy sent an error page instead of the output; see the detail, then run again",
    ),
    Reason.UNEXPECTED_CONTENT: FailurePolicy(
        RetryAction.RESTART,
        ExitCode.INTEGRITY,
        "unexpected content type; see the detail, then run again",
    ),
    Reason.CORRUPT_CONTENT: FailurePolicy(
        RetryAction.RESTART,
        ExitCode.INTEGRITY,
        "invalid content (damaged at the source or in transit); run again, then contact the provider",
    ),
    Reason.REFUSED_CONTENT: FailurePolicy(
        RetryAction.GIVE_UP,
        ExitCode.FAILED,
        "the archive was kept but not unpacked; see the detail, then unpack it with another tool",
    ),
    Reason.TOO_LARGE: FailurePolicy(
        RetryAction.GIVE_UP,
        ExitCode.FAILED,
        "raise the size limit if this size is correct (max_size, api_response_max_size, scratch_limit)",
    ),
    Reason.INVALID_RESPONSE: FailurePolicy(
        RetryAction.BACK_OFF,
        ExitCode.FAILED,
        "unexpected response from the server; run again, then report it",
    ),
    Reason.REJECTED: FailurePolicy(
        RetryAction.GIVE_UP, ExitCode.FAILED, "the server rejected the request; see the detail"
    ),
    Reason.FORBIDDEN: FailurePolicy(
        RetryAction.GIVE_UP,
        ExitCode.FAILED,
        "permission denied: grant these credentials access, or change the selection",
    ),
    Reason.CREDENTIALS: FailurePolicy(
        RetryAction.GIVE_UP,
        ExitCode.CREDENTIALS,
        "check the credentials of the source (ID and key, user name and password, or token)",
    ),
    Reason.NOT_FOUND: FailurePolicy(
        RetryAction.GIVE_UP, ExitCode.NOT_FOUND, "not found: check the IDs of the selection"
    ),
    Reason.TLS: FailurePolicy(
        RetryAction.GIVE_UP,
        ExitCode.FAILED,
        "certificate verification failed: check the system clock, the proxy and the CA bundle",
    ),
    Reason.INSECURE_URL: FailurePolicy(
        RetryAction.GIVE_UP,
        ExitCode.FAILED,
        "the source returned a URL without TLS, which was not followed; report it to the provider",
    ),
    Reason.TOO_MANY_OPEN_FILES: FailurePolicy(
        RetryAction.BACK_OFF, ExitCode.TEMPORARY, f"raise the limit of open files (ulimit -n); {_LATER}"
    ),
    Reason.PUBLISH_FAILED: FailurePolicy(
        RetryAction.BACK_OFF,
        ExitCode.TEMPORARY,
        f"the partial file is kept; check the object store, then {_LATER} with the upload",
    ),
    Reason.PATH_BLOCKED: FailurePolicy(
        RetryAction.GIVE_UP,
        ExitCode.FAILED,
        "remove or rename what is at this path, or make its folder writable, then run again",
    ),
    Reason.DISK_FULL: FailurePolicy(
        RetryAction.STOP_RUN, ExitCode.DISK_FULL, "free disk space, then run the same command again"
    ),
    Reason.DISK_ERROR: FailurePolicy(
        RetryAction.STOP_RUN, ExitCode.USAGE, "make the output directory writable, then run again"
    ),
    Reason.STORE_DENIED: FailurePolicy(
        RetryAction.STOP_RUN,
        ExitCode.CREDENTIALS,
        "check the credentials of the object store and the permissions of the bucket, then run again",
    ),
    Reason.PROCESSOR_FAILED: FailurePolicy(
        RetryAction.GIVE_UP,
        ExitCode.FAILED,
        "the processor failed unexpectedly; see the log, then report it to the author of the processor",
    ),
    Reason.INTERNAL: FailurePolicy(
        RetryAction.GIVE_UP, ExitCode.BUG, "this is a bug in bulkdl; report it with the log"
    ),
}

# Ordered by rank. NOT_FOUND outranks TEMPORARY: a missing container needs a change by the user.
EXIT_RANK = (
    ExitCode.BUG,
    ExitCode.USAGE,
    ExitCode.CREDENTIALS,
    ExitCode.LOCKED,
    ExitCode.DISK_FULL,
    ExitCode.INTEGRITY,
    ExitCode.FAILED,
    ExitCode.NOT_FOUND,
    ExitCode.MAX_DURATION,
    ExitCode.MAX_TRANSFER,
    ExitCode.TEMPORARY,
)


def highest_ranked_exit_code(codes: set[ExitCode]) -> ExitCode:
    """Return the highest-ranked exit code in *codes*."""
    return next((code for code in EXIT_RANK if code in codes), ExitCode.OK)
