"""
Whether and when to try again. Pure: the clock and the dice are arguments.

An attempt that brought bytes sets the count of fruitless attempts back to zero, so a long
transfer over a bad line ends when the bytes end, and a dead line ends after ``limit`` attempts.
Beginning again at zero is counted by itself, whatever came in between: who fetches the same bytes
over and over gets no further.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bulkdl.errors import DownloadError
from bulkdl.failure_policy import FAILURE_POLICIES, RetryAction


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    Bounds on trying again.

    Attributes:
        limit: Attempts in a row without progress before an output is given up.
        base_s: Upper end of the first random wait; it doubles with each fruitless attempt.
        cap_s: Upper end of any random wait.
        retry_after_cap_s: Longest wait that a server's Retry-After can impose.
        free_limit: Re-signings in a row without progress that do not count as attempts.
    """

    max_attempts: int = 8
    base_s: float = 1.0
    cap_s: float = 60.0
    retry_after_cap_s: float = 300.0
    max_free_url_renewals: int = 4


@dataclass(frozen=True, slots=True)
class RetryState:
    """
    How the attempts on one output have gone so far.

    Attributes:
        fruitless: In a row, without progress.
        resigned: In a row, for a signed URL that was refused.
        restarted: In all, after which the bytes so far were void.
    """

    attempts: int = 0
    attempts_without_progress: int = 0
    url_renewals: int = 0
    restarts: int = 0

    def record(self, failure: DownloadError, *, progressed: bool) -> RetryState:
        """The tally after one more failed attempt."""
        step = FAILURE_POLICIES[failure.reason].action
        so_far = replace(self, attempts=self.attempts + 1)
        if step is RetryAction.RESTART:
            return replace(
                so_far,
                attempts_without_progress=self.attempts_without_progress + 1,
                restarts=self.restarts + 1,
            )
        if progressed:
            return replace(
                so_far, attempts_without_progress=0, url_renewals=1 if step is RetryAction.RENEW_URL else 0
            )
        if step is RetryAction.RENEW_URL:
            return replace(so_far, url_renewals=self.url_renewals + 1)
        return replace(so_far, attempts_without_progress=self.attempts_without_progress + 1)


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What to do next, and how many seconds from now."""

    action: RetryAction
    delay_s: float = 0.0


def decide_retry(
    failure: DownloadError, tally: RetryState, policy: RetryPolicy, rand: Callable[[], float]
) -> RetryDecision:
    """
    Decide what follows from *failure*, given the *tally* that already counts it.

    Args:
        rand: Gives a number in [0, 1); spreads the waits (full jitter).
    """
    step = FAILURE_POLICIES[failure.reason].action
    if step in (RetryAction.GIVE_UP, RetryAction.STOP_RUN):
        return RetryDecision(step)
    if failure.retries_exhausted:
        return RetryDecision(RetryAction.GIVE_UP)
    if step is RetryAction.RENEW_URL and tally.url_renewals <= policy.max_free_url_renewals:
        return RetryDecision(RetryAction.RENEW_URL)
    tries = max(
        tally.attempts_without_progress + max(0, tally.url_renewals - policy.max_free_url_renewals),
        tally.restarts,
    )
    if tries >= policy.max_attempts:
        return RetryDecision(RetryAction.GIVE_UP)
    return RetryDecision(step, _delay_s(failure, tries, policy, rand))


def _delay_s(failure: DownloadError, tries: int, policy: RetryPolicy, rand: Callable[[], float]) -> float:
    jitter_s = rand() * min(policy.cap_s, policy.base_s * 2.0 ** min(max(tries - 1, 0), 32))
    if failure.retry_after_s is None:
        return jitter_s
    return max(min(failure.retry_after_s, policy.retry_after_cap_s), 0.0) + min(jitter_s, policy.base_s)


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """
    Read a Retry-After header: seconds or an HTTP date (RFC 9110, section 10.2.3).

    Returns:
        Seconds from *now*, never negative; None when there is none or it cannot be read.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    moment = http_date(text)
    return None if moment is None else max((moment - now).total_seconds(), 0.0)


def http_date(text: str | None) -> datetime | None:
    """Read an HTTP date in any of its forms, in UTC; None when it cannot be read or is out of range."""
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, LookupError, OverflowError):
        return None
