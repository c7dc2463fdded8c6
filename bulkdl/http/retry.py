"""
Decide whether and when a failed attempt is repeated. Pure: the random numbers and the clock are arguments.

An attempt that received data resets the count of attempts without progress. A long transfer over an
unreliable connection therefore continues, and a dead connection ends after ``max_attempts``. Restarts at
byte 0 are counted separately and never reset, because a download that restarts repeatedly makes no progress.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bulkdl.errors import DownloadError
from bulkdl.failure_policy import FAILURE_POLICIES, RetryAction


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    Limits of the retries.

    Attributes:
        max_attempts: Attempts in a row without progress before the output fails.
        base_s: Upper limit of the first random delay; it doubles with each attempt without progress.
        cap_s: Upper limit of each random delay.
        retry_after_cap_s: Longest delay that Retry-After can impose.
        max_free_url_renewals: URL renewals in a row without progress that do not count as attempts.
    """

    max_attempts: int = 8
    base_s: float = 1.0
    cap_s: float = 60.0
    retry_after_cap_s: float = 300.0
    max_free_url_renewals: int = 4


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """The next action after a failed attempt, and its delay."""

    action: RetryAction
    delay_s: float = 0.0


@dataclass(slots=True)
class RetryState:
    """
    The failed attempts of one output or one request.

    Attributes:
        policy: Limits of the retries.
        rand: Returns a number in [0, 1), which spreads the delays (full jitter).
        attempts: Failed attempts.
        attempts_without_progress: Failed attempts in a row that received no data.
        url_renewals: Rejected signed URLs in a row.
        restarts: Failed attempts after which the existing bytes were invalid.
    """

    policy: RetryPolicy
    rand: Callable[[], float]
    attempts: int = 0
    attempts_without_progress: int = 0
    url_renewals: int = 0
    restarts: int = 0

    def record(self, failure: DownloadError, *, progressed: bool) -> RetryDecision:
        """Count one more failed attempt and decide what follows."""
        action = FAILURE_POLICIES[failure.reason].action
        self._count(action, progressed=progressed)
        if action in (RetryAction.GIVE_UP, RetryAction.STOP_RUN):
            return RetryDecision(action)
        if failure.retries_exhausted:
            return RetryDecision(RetryAction.GIVE_UP)
        excess_renewals = max(0, self.url_renewals - self.policy.max_free_url_renewals)
        if action is RetryAction.RENEW_URL and not excess_renewals:
            return RetryDecision(RetryAction.RENEW_URL)
        tries = max(self.attempts_without_progress + excess_renewals, self.restarts)
        if tries >= self.policy.max_attempts:
            return RetryDecision(RetryAction.GIVE_UP)
        return RetryDecision(action, self._delay_s(failure, tries))

    def _count(self, action: RetryAction, *, progressed: bool) -> None:
        self.attempts += 1
        if action is RetryAction.RESTART:
            self.attempts_without_progress += 1
            self.restarts += 1
        elif progressed:
            self.attempts_without_progress = 0
            self.url_renewals = 1 if action is RetryAction.RENEW_URL else 0
        elif action is RetryAction.RENEW_URL:
            self.url_renewals += 1
        else:
            self.attempts_without_progress += 1

    def _delay_s(self, failure: DownloadError, tries: int) -> float:
        policy = self.policy
        jitter_s = self.rand() * min(policy.cap_s, policy.base_s * 2.0 ** min(max(tries - 1, 0), 32))
        if failure.retry_after_s is None:
            return jitter_s
        return max(min(failure.retry_after_s, policy.retry_after_cap_s), 0.0) + min(jitter_s, policy.base_s)


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """
    Parse a Retry-After header: seconds or an HTTP date (RFC 9110, section 10.2.3).

    Returns:
        Seconds from *now*, never negative; None if the header is missing or invalid.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    retry_at = http_date(text)
    return None if retry_at is None else max((retry_at - now).total_seconds(), 0.0)


def http_date(text: str | None) -> datetime | None:
    """Parse an HTTP date in any of its forms, in UTC; None if it is invalid or out of range."""
    if text is None:
        return None
    try:
        parsed = parsedate_to_datetime(text)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, TypeError, LookupError, OverflowError):
        return None
