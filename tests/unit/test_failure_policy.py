"""The table of failure policies is complete and ranked."""

from itertools import combinations

import pytest

from bulkdl.failure_policy import EXIT_RANK, FAILURE_POLICIES, ExitCode, RetryAction, highest_ranked_exit_code
from bulkdl.models import Reason

NO_FAILURES = {
    Reason.DOWNLOADED,
    Reason.LINKED,
    Reason.UP_TO_DATE,
    Reason.NOT_AVAILABLE,
    Reason.CONTAINER_UNFINISHED,
    Reason.STOPPED,
}


def test_failure_policies_contain_exactly_the_failure_reasons():
    assert set(FAILURE_POLICIES) == set(Reason) - NO_FAILURES


@pytest.mark.parametrize("reason", FAILURE_POLICIES)
def test_hint_of_each_policy_is_one_line_without_a_full_stop(reason):
    hint = FAILURE_POLICIES[reason].hint
    assert hint.strip() == hint
    assert len(hint) > 10
    assert "\n" not in hint
    assert not hint.endswith(".")


def test_highest_ranked_exit_code_follows_the_documented_order():
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


def test_exit_rank_contains_all_exit_codes_of_policies():
    assert {policy.exit_code for policy in FAILURE_POLICIES.values()} <= set(EXIT_RANK)
    assert len(set(EXIT_RANK)) == len(EXIT_RANK)
    for code in EXIT_RANK:
        assert highest_ranked_exit_code({code}) is code


def test_highest_ranked_exit_code_without_failures_is_ok():
    assert highest_ranked_exit_code(set()) is ExitCode.OK


@pytest.mark.parametrize(
    ("reasons", "action", "code"),
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
        ("LEASE_LOST", RetryAction.STOP_RUN, ExitCode.LOCKED),
        ("DISK_FULL", RetryAction.STOP_RUN, ExitCode.DISK_FULL),
        ("DISK_ERROR", RetryAction.STOP_RUN, ExitCode.USAGE),
        ("INTERNAL", RetryAction.GIVE_UP, ExitCode.BUG),
    ],
)
def test_policy_of_each_reason_has_the_documented_action_and_exit_code(reasons, action, code):
    for name in reasons.split():
        assert (FAILURE_POLICIES[Reason[name]].action, FAILURE_POLICIES[Reason[name]].exit_code) == (
            action,
            code,
        ), name


def test_restart_is_the_action_only_for_reasons_with_wrong_bytes():
    restarting = {
        reason for reason, policy in FAILURE_POLICIES.items() if policy.action is RetryAction.RESTART
    }
    assert restarting == {
        Reason.OBJECT_CHANGED,
        Reason.CHECKSUM_MISMATCH,
        Reason.UNEXPECTED_CONTENT,
        Reason.CORRUPT_CONTENT,
    }
