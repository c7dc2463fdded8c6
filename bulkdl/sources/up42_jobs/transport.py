"""
One conversation with the API: in its turn, bounded in size, tried again within a policy.

``Manners`` is what all requests of a run to one API share. Waiting for the turn comes before
the token is taken up, so that a token is used while it is fresh.
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
from bulkdl.http.rate_limit import Cooldown, RateLimiter, Sleep, cooldown_seconds
from bulkdl.http.retry import RetryPolicy, RetryState, decide_retry
from bulkdl.http.stall import StallDetector
from bulkdl.log import get_logger
from bulkdl.models import Reason

_log = get_logger(__name__)
_T = TypeVar("_T")

# What may follow an API request; the other steps belong to transfers.
_AGAIN = frozenset({RetryAction.BACK_OFF})


class TokenFailure(ApiError):
    """No token could be had."""

    retries_exhausted = True


@dataclass(frozen=True, slots=True)
class Timeouts:
    """
    How long a server may take. There is no bound on the whole of an answer that comes along.

    Attributes:
        headers_timeout_s: Until the last of the headers, however they trickle in.
        speed_limit_bytes_per_s: A body slower than this for *speed_time_s* has stalled.
    """

    headers_timeout_s: float = 60.0
    speed_limit_bytes_per_s: float = 1024.0
    speed_time_s: float = 30.0


_USUAL_PATIENCE = Timeouts()


@dataclass(frozen=True, slots=True)
class RequestPolicy:
    """How this program behaves towards one API."""

    pace: RateLimiter
    cooldown: Cooldown
    policy: RetryPolicy
    rand: Callable[[], float] = random.random
    sleep: Sleep = asyncio.sleep
    patience: Timeouts = _USUAL_PATIENCE

    async def acquire(self, url: URL, *, can_wait: bool = False) -> None:
        """Return when a request to *url* may go; those that others follow from go first."""
        await self.cooldown.wait(host_of(url))
        await self.pace.acquire(low_priority=can_wait)
        await self.cooldown.wait(host_of(url))  # it may have begun while others had their turn

    async def send(self, request: Awaitable[aiohttp.ClientResponse]) -> aiohttp.ClientResponse:
        """
        Make *request* and return its response once all headers are there.

        Raises:
            TimeoutError: They are not, in time.
        """
        async with asyncio.timeout(self.patience.headers_timeout_s):
            return await request

    def apply_cooldown(self, response: aiohttp.ClientResponse, status: int | None = None) -> float | None:
        """
        Hold everybody back if *response* asks for it; return what it asked, in seconds.

        Args:
            status: The one that its body tells, if that is another one.
        """
        asked_s = requested_wait_s(response)
        host_s = cooldown_seconds(status or response.status, asked_s, self.policy)
        if host_s is not None:
            self.cooldown.start(host_of(response.url), host_s)
        return asked_s

    async def retry(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """
        Make *attempt* until it succeeds or its failure is one to stay with.

        Raises:
            ApiError: The last attempt's.
        """
        tally = RetryState()
        while True:
            try:
                return await attempt()
            except ApiError as failure:
                tally = tally.record(failure, progressed=False)
                verdict = decide_retry(failure, tally, self.policy, self.rand)
                if verdict.action not in _AGAIN:
                    raise
                _log.info(
                    "request.retry_scheduled",
                    reason=failure.reason.value,
                    detail=failure.detail,
                    attempts=tally.attempts,
                    delay_s=round(verdict.delay_s, 3),
                )
            await self.sleep(verdict.delay_s)


def host_of(url: URL) -> str:
    """Return host and, unless it is the usual one, port: what a cooldown is kept for."""
    return url.host_port_subcomponent or ""


def describe_request(method: str, url: URL) -> str:
    """Return *method* and *url* for a message: without the query."""
    return f"{method} {host_of(url)}{url.raw_path}"


async def body_of(
    response: aiohttp.ClientResponse, limit_bytes: int, where: str, patience: Timeouts = _USUAL_PATIENCE
) -> bytes:
    """
    Read a body of at most *limit_bytes*.

    Raises:
        ApiError: TOO_LARGE (no more than the limit has been read), or STALLED.
    """
    told = response.content_length
    if told is not None and told > limit_bytes:
        raise _too_large(where, limit_bytes)
    floor = StallDetector(patience.speed_limit_bytes_per_s, patience.speed_time_s)
    chunks: list[bytes] = []
    size = 0
    while True:
        asked_s = time.monotonic()
        async with floor.read_timeout():
            chunk = await response.content.readany()
        if not chunk:
            return b"".join(chunks)
        if floor.is_stalled(time.monotonic() - asked_s, len(chunk)):
            raise ApiError(Reason.STALLED, f"{where}: the answer comes too slowly, {size} bytes so far")
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(where, limit_bytes)
        chunks.append(chunk)


async def peek_body(
    response: aiohttp.ClientResponse, least_bytes: int, patience: Timeouts = _USUAL_PATIENCE
) -> tuple[bytes, bool]:
    """
    Read until *least_bytes* are there, or the body ends or breaks off; whoever reads on is told of that.

    Returns:
        What came, and whether it is all there is.

    Raises:
        TimeoutError: Nothing, or hardly anything, came for too long.
    """
    floor = StallDetector(patience.speed_limit_bytes_per_s, patience.speed_time_s)
    begun = b""
    while len(begun) < least_bytes:
        asked_s = time.monotonic()
        async with floor.read_timeout():
            try:
                chunk = await response.content.readany()
            except (aiohttp.ClientError, OSError):
                return begun, False
        if not chunk:
            return begun, True
        if floor.is_stalled(time.monotonic() - asked_s, len(chunk)):
            raise TimeoutError
        begun += chunk
    return begun, False


def _too_large(where: str, limit_bytes: int) -> ApiError:
    return ApiError(Reason.TOO_LARGE, f"{where}: the answer has more than {limit_bytes} bytes")
