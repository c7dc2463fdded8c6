"""The table of reactions: complete, and ranked as promised."""

from itertools import combinations

import pytest

from bulkdl.model import Reason
from bulkdl.reactions import EXIT_RANK, REACTIONS, Exit, Step, worst

NO_FAILURES = {
    Reason.FETCHED,
    Reason.LINKED,
    Reason.ALREADY_THERE,
    Reason.NOT_AVAILABLE,
    Reason.JOB_UNFINISHED,
    Reason.STOPPED,
}


def test_every_failure_has_its_reaction_and_nothing_else_has_one():
    assert set(REACTIONS) == set(Reason) - NO_FAILURES


@pytest.mark.parametrize("reason", REACTIONS)
def test_every_reaction_tells_a_person_what_to_do(reason):
    hint = REACTIONS[reason].hint
    assert hint.strip() == hint
    assert len(hint) > 10
    assert "\n" not in hint
    assert not hint.endswith(".")


def test_codes_rank_as_the_design_says():
    for higher, lower in combinations(
        [Exit.CREDENTIALS, Exit.DISK_FULL, Exit.INTEGRITY, Exit.FAILED, Exit.TEMPORARY, Exit.OK], 2
    ):
        assert worst({higher, lower}) is higher


def test_every_code_that_a_failure_can_leave_has_a_rank():
    assert {reaction.exit_code for reaction in REACTIONS.values()} <= set(EXIT_RANK)
    assert len(set(EXIT_RANK)) == len(EXIT_RANK)
    for code in EXIT_RANK:
        assert worst({code}) is code


def test_nothing_wrong_is_zero():
    assert worst(set()) is Exit.OK


@pytest.mark.parametrize(
    ("reasons", "step", "code"),
    [
        (
            "UNREACHABLE CONNECTION_LOST STALLED TRUNCATED THROTTLED SERVER_ERROR",
            Step.BACK_OFF,
            Exit.TEMPORARY,
        ),
        ("TOO_MANY_OPEN_FILES", Step.BACK_OFF, Exit.TEMPORARY),
        ("URL_EXPIRED", Step.RESIGN, Exit.TEMPORARY),
        ("OBJECT_CHANGED", Step.RESTART, Exit.TEMPORARY),
        ("ERROR_PAGE", Step.BACK_OFF, Exit.INTEGRITY),
        ("DIGEST_MISMATCH WRONG_CONTENT BROKEN_CONTENT", Step.RESTART, Exit.INTEGRITY),
        ("TOO_LARGE REFUSED TLS INSECURE_URL PATH_BLOCKED", Step.GIVE_UP, Exit.FAILED),
        ("CREDENTIALS", Step.GIVE_UP, Exit.CREDENTIALS),
        ("NOT_FOUND", Step.GIVE_UP, Exit.NOT_FOUND),
        ("LEDGER_LOCKED", Step.STOP_RUN, Exit.TEMPORARY),
        ("DISK_FULL", Step.STOP_RUN, Exit.DISK_FULL),
        ("DISK_ERROR", Step.STOP_RUN, Exit.USAGE),
        ("INTERNAL", Step.GIVE_UP, Exit.BUG),
    ],
)
def test_each_kind_of_failure_has_the_step_and_code_that_are_promised(reasons, step, code):
    for name in reasons.split():
        assert (REACTIONS[Reason[name]].step, REACTIONS[Reason[name]].exit_code) == (step, code), name


def test_bytes_that_may_be_right_are_never_dropped():
    """Only what says that the bytes are wrong makes a transfer begin at zero."""
    restarting = {reason for reason, reaction in REACTIONS.items() if reaction.step is Step.RESTART}
    assert restarting == {
        Reason.OBJECT_CHANGED,
        Reason.DIGEST_MISMATCH,
        Reason.WRONG_CONTENT,
        Reason.BROKEN_CONTENT,
    }
