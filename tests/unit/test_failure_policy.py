"""The table of reactions: complete, and ranked as promised."""

from itertools import combinations

import pytest

from bulkdl.failure_policy import EXIT_RANK, FAILURE_POLICIES, ExitCode, RetryAction, highest_ranked_exit_code
from bulkdl.models import Reason

NO_FAILURES = {
    Reason.DOWNLOADED,
    Reason.LINKED,
    Reason.UP_TO_DATE,
    Reason.NOT_AVAILABLE,
    Reason.JOB_UNFINISHED,
    Reason.STOPPED,
}


def test_every_failure_has_its_reaction_and_nothing_else_has_one():
    assert set(FAILURE_POLICIES) == set(Reason) - NO_FAILURES


@pytest.mark.parametrize("reason", FAILURE_POLICIES)
def test_every_reaction_tells_a_person_what_to_do(reason):
    hint = FAILURE_POLICIES[reason].hint
    assert hint.strip() == hint
    assert len(hint) > 10
    assert "\n" not in hint
    assert not hint.endswith(".")


def test_codes_rank_as_the_design_says():
    for higher, lower in combinations(
        [
            ExitCode.CREDENTIALS,
            ExitCode.DISK_FULL,
            ExitCode.INTEGRITY,
            ExitCode.FAILED,
            ExitCode.TEMPORARY,
            ExitCode.OK,
        ],
        2,
    ):
        assert highest_ranked_exit_code({higher, lower}) is higher


def test_every_code_that_a_failure_can_leave_has_a_rank():
    assert {reaction.exit_code for reaction in FAILURE_POLICIES.values()} <= set(EXIT_RANK)
    assert len(set(EXIT_RANK)) == len(EXIT_RANK)
    for code in EXIT_RANK:
        assert highest_ranked_exit_code({code}) is code


def test_nothing_wrong_is_zero():
    assert highest_ranked_exit_code(set()) is ExitCode.OK


@pytest.mark.parametrize(
    ("reasons", "step", "code"),
    [
        (
            "UNREACHABLE CONNECTION_LOST STALLED TRUNCATED THROTTLED SERVER_ERROR",
            RetryAction.BACK_OFF,
            ExitCode.TEMPORARY,
        ),
        ("TOO_MANY_OPEN_FILES", RetryAction.BACK_OFF, ExitCode.TEMPORARY),
        ("URL_EXPIRED", RetryAction.RENEW_URL, ExitCode.TEMPORARY),
        ("OBJECT_CHANGED", RetryAction.RESTART, ExitCode.TEMPORARY),
        ("ERROR_PAGE", RetryAction.BACK_OFF, ExitCode.INTEGRITY),
        ("CHECKSUM_MISMATCH UNEXPECTED_CONTENT CORRUPT_CONTENT", RetryAction.RESTART, ExitCode.INTEGRITY),
        ("TOO_LARGE REJECTED TLS INSECURE_URL PATH_BLOCKED", RetryAction.GIVE_UP, ExitCode.FAILED),
        ("CREDENTIALS", RetryAction.GIVE_UP, ExitCode.CREDENTIALS),
        ("NOT_FOUND", RetryAction.GIVE_UP, ExitCode.NOT_FOUND),
        ("LEDGER_LOCKED", RetryAction.STOP_RUN, ExitCode.TEMPORARY),
        ("DISK_FULL", RetryAction.STOP_RUN, ExitCode.DISK_FULL),
        ("DISK_ERROR", RetryAction.STOP_RUN, ExitCode.USAGE),
        ("INTERNAL", RetryAction.GIVE_UP, ExitCode.BUG),
    ],
)
def test_each_kind_of_failure_has_the_step_and_code_that_are_promised(reasons, step, code):
    for name in reasons.split():
        assert (FAILURE_POLICIES[Reason[name]].action, FAILURE_POLICIES[Reason[name]].exit_code) == (
            step,
            code,
        ), name


def test_bytes_that_may_be_right_are_never_dropped():
    """Only what says that the bytes are wrong makes a transfer begin at zero."""
    restarting = {
        reason for reason, reaction in FAILURE_POLICIES.items() if reaction.action is RetryAction.RESTART
    }
    assert restarting == {
        Reason.OBJECT_CHANGED,
        Reason.CHECKSUM_MISMATCH,
        Reason.UNEXPECTED_CONTENT,
        Reason.CORRUPT_CONTENT,
    }
