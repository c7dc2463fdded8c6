"""
Send requests to the API within the rate limit, limit the size of responses, and retry.

``RequestPolicy`` holds the rate limits, cooldown, retry policy and timeouts that all API requests of a run
share. Each origin has its own rate limit. A request waits for the rate limit before it reads the token, so
that the token is still fresh.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.failure_policy import RetryAction
from bulkdl.http.errors import requested_wait_s
from bulkdl.http.rate_limit import Cooldown, OriginRateLimiters, Sleep, cooldown_seconds
from bulkdl.http.retry import RetryPolicy, RetryState
from bulkdl.http.stall import StallDetector
from bulkdl.log import get_logger
from bulkdl.models import Reason

_log = get_logger(__name__)
_T = TypeVar("_T")

# The only retry action for API requests. The other actions are for transfers.
_RETRYABLE = frozenset({RetryAction.BACK_OFF})


class TokenFailure(ApiError):
    """Obtaining a token failed."""

    retries_exhausted = True


@dataclass(frozen=True, slots=True)
class Timeouts:
    """
    Timeouts of a request. There is no total timeout for a response that makes progress.

    Attributes:
        headers_timeout_s: Maximum time until all response headers are received.
        speed_limit_bytes_per_s: A body that is slower than this for *speed_time_s* has stalled.
    """

    headers_timeout_s: float = 60.0
    speed_limit_bytes_per_s: float = 1024.0
    speed_time_s: float = 30.0


_DEFAULT_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class RequestPolicy:
    """The policy that all API requests of a run share."""

    rate_limiters: OriginRateLimiters
    cooldown: Cooldown
    retry_policy: RetryPolicy
    rand: Callable[[], float] = random.random
    sleep: Sleep = asyncio.sleep
    timeouts: Timeouts = _DEFAULT_TIMEOUTS

    async def acquire(self, url: URL, *, low_priority: bool = False) -> None:
        """
        Wait until a request to *url* may be sent.

        Args:
            low_priority: Let other requests pass. For requests that do not lead to further requests.
        """
        await self.cooldown.wait(get_host(url))
        await self.rate_limiters.limiter(str(url.origin())).acquire(low_priority=low_priority)
        await self.cooldown.wait(get_host(url))  # it may have started during the wait for the rate limit

    async def send(self, request: Awaitable[aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
        """
        Send *request* and return its response after all headers are received.

        Raises:
            TimeoutError: The headers were not received in time.
        """
        async with asyncio.timeout(self.timeouts.headers_timeout_s):
            return await request

    def apply_cooldown(self, response: aiohttp.ClientResponse, status: int | None = None) -> float | None:
        """
        Start the cooldown of the host if *response* requires it.

        Args:
            status: The status that the body contains, if it differs from the status of the response.

        Returns:
            The wait that the server requested, in seconds.
        """
        retry_after_s = requested_wait_s(response)
        delay_s = cooldown_seconds(status or response.status, retry_after_s, self.retry_policy)
        if delay_s is not None:
            self.cooldown.start(get_host(response.url), delay_s)
        return retry_after_s

    async def retry(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """
        Repeat *attempt* until it succeeds or its error must not be retried.

        Raises:
            ApiError: The error of the last attempt.
        """
        retry_state = RetryState(self.retry_policy, self.rand)
        while True:
            try:
                return await attempt()
            except ApiError as failure:
                decision = retry_state.record(failure, progressed=False)
                if decision.action not in _RETRYABLE:
                    raise
                _log.info(
                    "request.retry_scheduled",
                    reason=failure.reason.value,
                    detail=failure.detail,
                    attempts=retry_state.attempts,
                    delay_s=round(decision.delay_s, 3),
                )
            await self.sleep(decision.delay_s)


def get_host(url: URL) -> str:
    """Return the host of *url*, with a port that is not the default. A cooldown applies to this value."""
    return url.host_port_subcomponent or ""


def describe_request(method: str, url: URL) -> str:
    """Return *method* and *url* without the query, as a label for messages."""
    return f"{method} {get_host(url)}{url.raw_path}"


async def read_body(
    response: aiohttp.ClientResponse, limit_bytes: int, label: str, timeouts: Timeouts = _DEFAULT_TIMEOUTS
) -> bytes:
    """
    Read a body of at most *limit_bytes*.

    Args:
        label: The request, for error messages.

    Raises:
        ApiError: TOO_LARGE (reading stops at the limit) or STALLED.
    """
    content_length = response.content_length
    if content_length is not None and content_length > limit_bytes:
        raise _too_large(label, limit_bytes)
    detector = StallDetector(timeouts.speed_limit_bytes_per_s, timeouts.speed_time_s)
    chunks: list[bytes] = []
    size_bytes = 0
    while True:
        started_at = time.monotonic()
        async with detector.read_timeout():
            chunk = await response.content.readany()
        if not chunk:
            return b"".join(chunks)
        if detector.is_stalled(time.monotonic() - started_at, len(chunk)):
            raise ApiError(Reason.STALLED, f"{label}: the response stalled after {size_bytes} bytes")
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise _too_large(label, limit_bytes)
        chunks.append(chunk)


async def peek_body(
    response: aiohttp.ClientResponse, min_bytes: int, timeouts: Timeouts = _DEFAULT_TIMEOUTS
) -> tuple[bytes, bool]:
    """
    Read at least *min_bytes*, or less if the body ends or the connection fails.

    A failed connection is not an error here: the next read of *response* raises it.

    Returns:
        The bytes that were read, and whether they are the complete body.

    Raises:
        TimeoutError: The body stalled.
    """
    detector = StallDetector(timeouts.speed_limit_bytes_per_s, timeouts.speed_time_s)
    prefetched = b""
    while len(prefetched) < min_bytes:
        started_at = time.monotonic()
        async with detector.read_timeout():
            try:
                chunk = await response.content.readany()
            except (aiohttp.ClientError, OSError):
                return prefetched, False
        if not chunk:
            return prefetched, True
        if detector.is_stalled(time.monotonic() - started_at, len(chunk)):
            raise TimeoutError
        prefetched += chunk
    return prefetched, False


def _too_large(label: str, limit_bytes: int) -> ApiError:
    return ApiError(Reason.TOO_LARGE, f"{label}: the response is larger than {limit_bytes} bytes")
