from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.errors import ApiError
from bulkdl.failure_policy import FAILURE_POLICIES, RetryAction
from bulkdl.http.retry import RetryPolicy, RetryState, retry_after_s
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
def test_retry_after_s_parses_seconds_and_dates(header, seconds):
    assert retry_after_s(header, NOW) == seconds


@given(st.integers(-(10**6), 10**6))
def test_retry_after_s_with_a_date_returns_the_seconds_until_it(seconds):
    header = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_s(header, NOW) == max(seconds, 0)


@given(st.text(max_size=60))
def test_retry_after_s_with_any_text_returns_none_or_seconds(header):
    found = retry_after_s(header, NOW)
    assert found is None or found >= 0


@given(
    st.from_regex(
        r"\A(Fri, )?\d{1,9} (Jan|Feb|Dec) \d{1,9} \d{1,9}:\d{1,9}(:\d{1,9})?( [+-]?\d{1,9}| GMT)?\Z",
        fullmatch=True,
    )
)
def test_retry_after_s_with_an_invalid_date_returns_none_or_seconds(header):
    found = retry_after_s(header, NOW)
    assert found is None or found >= 0


def _record(failures, progressed=(), rand=lambda: 0.0):
    state = RetryState(POLICY, rand)
    decision = None
    for number, failure in enumerate(failures):
        decision = state.record(failure, progressed=number in progressed)
    return state, decision


def test_record_of_temporary_failures_gives_up_at_the_limit():
    lost = ApiError(Reason.CONNECTION_LOST, "x")
    assert _record([lost] * 3)[1].action is RetryAction.BACK_OFF
    assert _record([lost] * 4)[1].action is RetryAction.GIVE_UP


def test_record_with_progress_resets_the_count():
    lost = ApiError(Reason.CONNECTION_LOST, "x")
    state, decision = _record([lost] * 40, progressed=range(0, 40, 2))
    assert (state.attempts, decision.action) == (40, RetryAction.BACK_OFF)


def test_record_of_expired_urls_renews_free_of_charge_up_to_the_limit():
    expired = ApiError(Reason.URL_EXPIRED, "x")
    steps = [_record([expired] * count, rand=lambda: 0.5)[1] for count in range(1, 8)]
    assert [decision.action for decision in steps] == [RetryAction.RENEW_URL] * 5 + [RetryAction.GIVE_UP] * 2
    assert [decision.delay_s for decision in steps[:3]] == [0, 0, 0.5]


@pytest.mark.parametrize(
    "reason",
    [r for r in FAILURES if FAILURE_POLICIES[r].action in (RetryAction.GIVE_UP, RetryAction.STOP_RUN)],
)
def test_record_of_a_permanent_failure_ends_immediately(reason):
    assert _record([ApiError(reason, "x", retry_after_s=1)])[1].action is FAILURE_POLICIES[reason].action


def test_record_of_exhausted_retries_gives_up():
    failure = ApiError(Reason.SERVER_ERROR, "x")
    failure.retries_exhausted = True
    assert _record([failure])[1].action is RetryAction.GIVE_UP


def test_record_doubles_the_delay_up_to_the_cap():
    lost = ApiError(Reason.CONNECTION_LOST, "x")
    policy = RetryPolicy(max_attempts=99, base_s=1.0, cap_s=10.0)
    states = [RetryState(policy, lambda: 1.0, count, count) for count in (0, 1, 2, 3, 4, 97)]
    delays = [state.record(lost, progressed=False).delay_s for state in states]
    assert delays == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(("seconds", "min_s"), [(0.0, 0.0), (20.0, 20.0), (1e9, 300.0)])
def test_record_with_retry_after_waits_as_long_up_to_the_cap(seconds, min_s):
    throttled = ApiError(Reason.THROTTLED, "x", retry_after_s=seconds)
    assert _record([throttled])[1].delay_s == min_s
    assert _record([throttled], rand=lambda: 1.0)[1].delay_s == min_s + 1.0


@given(
    reason=st.sampled_from(FAILURES),
    attempts=st.integers(1, 10_000),
    attempts_without_progress=st.integers(0, 10_000),
    url_renewals=st.integers(0, 10_000),
    retry_after=st.none() | st.floats(-10, 1e12),
    rand=st.floats(0, 1, exclude_max=True),
    progressed=st.booleans(),
)
def test_record_with_any_state_returns_a_bounded_decision(
    reason, attempts, attempts_without_progress, url_renewals, retry_after, rand, progressed
):
    failure = ApiError(reason, "x", retry_after_s=retry_after)
    state = RetryState(POLICY, lambda: rand, attempts, attempts_without_progress, url_renewals)
    decision = state.record(failure, progressed=progressed)
    assert 0 <= decision.delay_s <= POLICY.retry_after_cap_s + POLICY.base_s
    assert decision.action in (FAILURE_POLICIES[reason].action, RetryAction.GIVE_UP)
