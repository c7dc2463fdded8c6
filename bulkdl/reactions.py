"""
The one table that says what follows from each kind of failure. Pure data; nothing here waits.

``Step`` is what happens within a run, ``exit_code`` what a failure that stays contributes to the
end of the run, ``hint`` what a person can do about it. docs/reactions.md is rendered from it.
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
    """What a worker does after a failed attempt."""

    BACK_OFF = "wait, then go on at the same byte"
    RESIGN = "ask for a new signed URL, then go on at the same byte"
    RESTART = "drop the part, wait, then begin at zero"
    GIVE_UP = "no further attempt in this run"
    STOP_RUN = "no further attempt of anything in this run"


@dataclass(frozen=True, slots=True)
class Reaction:
    """What follows from one reason."""

    step: Step
    exit_code: Exit
    hint: str


_LATER = "run the same command again; it goes on where it stopped"

REACTIONS: dict[Reason, Reaction] = {
    Reason.UNREACHABLE: Reaction(
        Step.BACK_OFF, Exit.TEMPORARY, f"check the network and the API URL; {_LATER}"
    ),
    Reason.CONNECTION_LOST: Reaction(Step.BACK_OFF, Exit.TEMPORARY, _LATER),
    Reason.STALLED: Reaction(
        Step.BACK_OFF, Exit.TEMPORARY, f"{_LATER}; lower --speed-limit if the link is slow"
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
    Reason.DIGEST_MISMATCH: Reaction(
        Step.RESTART,
        Exit.INTEGRITY,
        "the bytes differ from the server's digest; check the network path, run again",
    ),
    Reason.ERROR_PAGE: Reaction(
        Step.BACK_OFF,
        Exit.INTEGRITY,
        "a server or a proxy sent a page where the output should be; look at the detail, run again",
    ),
    Reason.WRONG_CONTENT: Reaction(
        Step.RESTART,
        Exit.INTEGRITY,
        "the server sent something else than this output; look at the detail, run again",
    ),
    Reason.BROKEN_CONTENT: Reaction(
        Step.RESTART,
        Exit.INTEGRITY,
        "the content is damaged at its source or on the way; run again, then ask UP42",
    ),
    Reason.TOO_LARGE: Reaction(
        Step.GIVE_UP,
        Exit.FAILED,
        "raise archive_, quicklook_, geojson_ or json_max_bytes if this size is right",
    ),
    Reason.BAD_ANSWER: Reaction(
        Step.BACK_OFF, Exit.FAILED, "UP42 answered what this bulkdl cannot read; run again, then report it"
    ),
    Reason.REFUSED: Reaction(
        Step.GIVE_UP, Exit.FAILED, "the server refuses this request; the detail says how"
    ),
    Reason.FORBIDDEN: Reaction(
        Step.GIVE_UP, Exit.FAILED, "give this key permission for the project, or leave it out"
    ),
    Reason.CREDENTIALS: Reaction(
        Step.GIVE_UP,
        Exit.CREDENTIALS,
        "check the project id and its API key (or user name and password, or token)",
    ),
    Reason.NOT_FOUND: Reaction(Step.GIVE_UP, Exit.NOT_FOUND, "check the project or job id"),
    Reason.TLS: Reaction(
        Step.GIVE_UP,
        Exit.FAILED,
        "the server's certificate is not trusted here; check the clock, the proxy, the CA bundle",
    ),
    Reason.INSECURE_URL: Reaction(
        Step.GIVE_UP, Exit.FAILED, "UP42 named a URL without TLS; it was not followed, report it to UP42"
    ),
    Reason.DISK_FULL: Reaction(Step.STOP_RUN, Exit.DISK_FULL, "make room, then run the same command again"),
    Reason.DISK_ERROR: Reaction(
        Step.STOP_RUN, Exit.USAGE, "make the output directory writable, then run again"
    ),
    Reason.INTERNAL: Reaction(Step.GIVE_UP, Exit.BUG, "this is a bug in bulkdl: report it with the log"),
}

# The highest-ranked that applies. A missing job never turns up by itself, so it outranks "run again".
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
    """The exit code of a run in which all of *codes* apply."""
    return next((code for code in EXIT_RANK if code in codes), Exit.OK)


_TABLE_HEAD = """\
# What follows from each failure

Rendered from `bulkdl/reactions.py` by `make docs`; a test fails when it is stale.

A reason is in the log, in the ledger and in the report of a run. What a worker does next holds within a
run; the exit code is what a failure that stays adds to the end of the run. Of several the highest in
rank counts: {rank}. After a signal it is always 130 or 143.

| reason | temporary | within the run | exit code | what to do |
|---|---|---|---|---|
"""


def as_markdown() -> str:
    """The table as a page of the documentation."""
    head = _TABLE_HEAD.format(rank=" > ".join(str(int(code)) for code in EXIT_RANK))
    rows = [
        f"| `{reason.value}` | {'yes' if reaction.exit_code is Exit.TEMPORARY else 'no'} "
        f"| {reaction.step.value} | {int(reaction.exit_code)} | {reaction.hint} |"
        for reason, reaction in REACTIONS.items()
    ]
    return head + "\n".join(rows) + "\n"
