"""
Define the retry action, the exit code and the hint for each failure reason.

This module contains only data. ``step`` is the action of a worker after a failed attempt.
``exit_code`` is the exit code of a run in which the failure remains. ``hint`` tells the user what to
do next. ``make docs`` generates docs/failure-policy.md from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from bulkdl.model import Reason


class Exit(IntEnum):
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
    HELD = 11
    DISK_FULL = 12
    INTERRUPTED = 130
    TERMINATED = 143


class Step(Enum):
    """The action of a worker after a failed attempt."""

    BACK_OFF = "wait, then resume at the same byte"
    RESIGN = "request a new signed URL, then resume at the same byte"
    RESTART = "discard the partial file, wait, then restart at byte 0"
    GIVE_UP = "do not retry in this run"
    STOP_RUN = "stop the run"


@dataclass(frozen=True, slots=True)
class Reaction:
    """Retry action, exit code and hint for one reason."""

    step: Step
    exit_code: Exit
    hint: str


_LATER = "run the same command again to resume"

REACTIONS: dict[Reason, Reaction] = {
    Reason.UNREACHABLE: Reaction(
        Step.BACK_OFF, Exit.TEMPORARY, f"check the network and the API URL; {_LATER}"
    ),
    Reason.CONNECTION_LOST: Reaction(Step.BACK_OFF, Exit.TEMPORARY, _LATER),
    Reason.STALLED: Reaction(
        Step.BACK_OFF, Exit.TEMPORARY, f"{_LATER}; lower --speed-limit if the connection is slow"
    ),
    Reason.TRUNCATED: Reaction(Step.BACK_OFF, Exit.TEMPORARY, _LATER),
    Reason.THROTTLED: Reaction(Step.BACK_OFF, Exit.TEMPORARY, f"lower --rate; {_LATER}"),
    Reason.SERVER_ERROR: Reaction(Step.BACK_OFF, Exit.TEMPORARY, f"wait for the service, then {_LATER}"),
    Reason.URL_EXPIRED: Reaction(
        Step.RESIGN, Exit.TEMPORARY, f"check this machine's clock and the storage's permissions; {_LATER}"
    ),
    Reason.OBJECT_CHANGED: Reaction(
        Step.RESTART, Exit.TEMPORARY, f"the object keeps changing at its source; {_LATER}"
    ),
    Reason.LEDGER_LOCKED: Reaction(
        Step.STOP_RUN,
        Exit.TEMPORARY,
        f"wait for the process that locks the ledger (a backup, a copy), then {_LATER}",
    ),
    Reason.DIGEST_MISMATCH: Reaction(
        Step.RESTART,
        Exit.INTEGRITY,
        "checksum mismatch: check the network and the proxy, then run again",
    ),
    Reason.ERROR_PAGE: Reaction(
        Step.BACK_OFF,
        Exit.INTEGRITY,
        "a server or a proxy sent an error page instead of the output; see the detail, then run again",
    ),
    Reason.WRONG_CONTENT: Reaction(
        Step.RESTART,
        Exit.INTEGRITY,
        "unexpected content type; see the detail, then run again",
    ),
    Reason.BROKEN_CONTENT: Reaction(
        Step.RESTART,
        Exit.INTEGRITY,
        "invalid content (damaged at the source or in transit); run again, then contact UP42",
    ),
    Reason.TOO_LARGE: Reaction(
        Step.GIVE_UP,
        Exit.FAILED,
        "raise the size limit if this size is correct (archive_max_size, quicklook_max_size, "
        "geojson_max_size or api_response_max_size)",
    ),
    Reason.BAD_ANSWER: Reaction(
        Step.BACK_OFF, Exit.FAILED, "unexpected response from UP42; run again, then report it"
    ),
    Reason.REFUSED: Reaction(Step.GIVE_UP, Exit.FAILED, "the server rejected the request; see the detail"),
    Reason.FORBIDDEN: Reaction(
        Step.GIVE_UP,
        Exit.FAILED,
        "permission denied: grant this key access to the project, or remove the project from the selection",
    ),
    Reason.CREDENTIALS: Reaction(
        Step.GIVE_UP,
        Exit.CREDENTIALS,
        "check the project ID and its API key (or the user name and password, or the token)",
    ),
    Reason.NOT_FOUND: Reaction(Step.GIVE_UP, Exit.NOT_FOUND, "not found: check the project ID or the job ID"),
    Reason.TLS: Reaction(
        Step.GIVE_UP,
        Exit.FAILED,
        "certificate verification failed: check the system clock, the proxy and the CA bundle",
    ),
    Reason.INSECURE_URL: Reaction(
        Step.GIVE_UP,
        Exit.FAILED,
        "UP42 returned a URL without TLS, which was not followed; report it to UP42",
    ),
    Reason.TOO_MANY_OPEN_FILES: Reaction(
        Step.BACK_OFF, Exit.TEMPORARY, f"raise the limit of open files (ulimit -n); {_LATER}"
    ),
    Reason.PATH_BLOCKED: Reaction(
        Step.GIVE_UP,
        Exit.FAILED,
        "remove or rename what is at this path, or make its folder writable, then run again",
    ),
    Reason.DISK_FULL: Reaction(
        Step.STOP_RUN, Exit.DISK_FULL, "free disk space, then run the same command again"
    ),
    Reason.DISK_ERROR: Reaction(
        Step.STOP_RUN, Exit.USAGE, "make the output directory writable, then run again"
    ),
    Reason.INTERNAL: Reaction(Step.GIVE_UP, Exit.BUG, "this is a bug in bulkdl; report it with the log"),
}

# Ordered by rank. A missing job does not appear by itself, so NOT_FOUND outranks TEMPORARY.
EXIT_RANK = (
    Exit.BUG,
    Exit.USAGE,
    Exit.CREDENTIALS,
    Exit.HELD,
    Exit.DISK_FULL,
    Exit.INTEGRITY,
    Exit.FAILED,
    Exit.NOT_FOUND,
    Exit.MAX_DURATION,
    Exit.MAX_TRANSFER,
    Exit.TEMPORARY,
)


def worst(codes: set[Exit]) -> Exit:
    """Return the highest-ranked exit code in *codes*."""
    return next((code for code in EXIT_RANK if code in codes), Exit.OK)
