from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.errors import ApiError
from bulkdl.failure_policy import FAILURE_POLICIES, RetryAction
from bulkdl.http.retry import RetryPolicy, RetryState, decide_retry, retry_after_s
from bulkdl.models import Reason

NOW = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=4, base_s=1.0, cap_s=10.0, retry_after_cap_s=300.0, max_free_url_renewals=2)
FAILURES = sorted(FAILURE_POLICIES)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("999999999999999999999999", 999999999999.0),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("Fri, 01 Mar 2024 12:00:09 GMT", 9.0),
        ("Fri, 01 Mar 2024 11:00:00 GMT", 0.0),
        ("Friday, 01-Mar-24 12:00:09 GMT", 9.0),
        ("Fri Mar  1 12:00:09 2024", 9.0),
        ("Fri, 01 Mar 2024 12:00:09 +99999999999999999999", None),
        ("Fri, 01 Mar 2024 12:00:09 -9999999999", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
    ],
)
def test_retry_after_in_all_its_forms(header, seconds):
    assert retry_after_s(header, NOW) == seconds


@given(st.integers(-(10**6), 10**6))
def test_retry_after_as_a_date_is_the_time_until_it(seconds):
    header = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_s(header, NOW) == max(seconds, 0)


@given(st.text(max_size=60))
def test_no_retry_after_makes_trouble(header):
    found = retry_after_s(header, NOW)
    assert found is None or found >= 0


@given(
    st.from_regex(
        r"\A(Fri, )?\d{1,9} (Jan|Feb|Dec) \d{1,9} \d{1,9}:\d{1,9}(:\d{1,9})?( [+-]?\d{1,9}| GMT)?\Z",
        fullmatch=True,
    )
)
def test_no_nearly_a_date_makes_trouble(header):
    found = retry_after_s(header, NOW)
    assert found is None or found >= 0


def _run(failures, progressed=(), rand=lambda: 0.0):
    tally = RetryState()
    verdict = None
    for number, failure in enumerate(failures):
        tally = tally.record(failure, progressed=number in progressed)
        verdict = decide_retry(failure, tally, POLICY, rand)
    return tally, verdict


def test_a_temporary_failure_is_given_up_at_the_limit():
    lost = ApiError(Reason.CONNECTION_LOST, "x")
    assert _run([lost] * 3)[1].action is RetryAction.BACK_OFF
    assert _run([lost] * 4)[1].action is RetryAction.GIVE_UP


def test_bytes_set_the_count_back():
    lost = ApiError(Reason.CONNECTION_LOST, "x")
    tally, verdict = _run([lost] * 40, progressed=range(0, 40, 2))
    assert (tally.attempts, verdict.action) == (40, RetryAction.BACK_OFF)


def test_a_few_new_urls_cost_no_attempt_and_no_wait_but_not_for_ever():
    expired = ApiError(Reason.URL_EXPIRED, "x")
    steps = [_run([expired] * count, rand=lambda: 0.5)[1] for count in range(1, 8)]
    assert [verdict.action for verdict in steps] == [RetryAction.RENEW_URL] * 5 + [RetryAction.GIVE_UP] * 2
    assert [verdict.delay_s for verdict in steps[:3]] == [0, 0, 0.5]


@pytest.mark.parametrize(
    "reason",
    [r for r in FAILURES if FAILURE_POLICIES[r].action in (RetryAction.GIVE_UP, RetryAction.STOP_RUN)],
)
def test_a_permanent_failure_ends_at_once(reason):
    assert _run([ApiError(reason, "x", retry_after_s=1)])[1].action is FAILURE_POLICIES[reason].action


def test_what_has_been_tried_again_already_is_not_tried_again_above():
    failure = ApiError(Reason.SERVER_ERROR, "x")
    failure.retries_exhausted = True
    assert _run([failure])[1].action is RetryAction.GIVE_UP


def test_waits_double_up_to_the_cap():
    lost = ApiError(Reason.CONNECTION_LOST, "x")
    policy = RetryPolicy(max_attempts=99, base_s=1.0, cap_s=10.0)
    waits = [decide_retry(lost, RetryState(n, n), policy, lambda: 1.0).delay_s for n in (1, 2, 3, 4, 5, 98)]
    assert waits == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(("asked_s", "least_s"), [(0.0, 0.0), (20.0, 20.0), (1e9, 300.0)])
def test_what_the_server_asks_is_waited_and_capped(asked_s, least_s):
    throttled = ApiError(Reason.THROTTLED, "x", retry_after_s=asked_s)
    assert _run([throttled])[1].delay_s == least_s
    assert _run([throttled], rand=lambda: 1.0)[1].delay_s == least_s + 1.0


@given(
    reason=st.sampled_from(FAILURES),
    attempts=st.integers(1, 10_000),
    fruitless=st.integers(0, 10_000),
    resigned=st.integers(0, 10_000),
    asked_s=st.none() | st.floats(-10, 1e12),
    dice=st.floats(0, 1, exclude_max=True),
)
def test_every_verdict_is_within_bounds(reason, attempts, fruitless, resigned, asked_s, dice):
    failure = ApiError(reason, "x", retry_after_s=asked_s)
    verdict = decide_retry(failure, RetryState(attempts, fruitless, resigned), POLICY, lambda: dice)
    assert 0 <= verdict.delay_s <= POLICY.retry_after_cap_s + POLICY.base_s
    assert verdict.action in (FAILURE_POLICIES[reason].action, RetryAction.GIVE_UP)
