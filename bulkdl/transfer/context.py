"""Limits and shared resources of all downloads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.http.rate_limit import RateLimiter
from bulkdl.http.retry import RetryPolicy, RetryState
from bulkdl.http.stall import StallDetector
from bulkdl.models import Output
from bulkdl.transfer.body_reader import BodyReader


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Limits of one body.

    Attributes:
        speed_limit_bytes_per_s: A transfer that is slower for *speed_time_s* is stalled.
        max_bytes: Maximum size by kind, whether the server announces a size or not.
        connections: Maximum number of connections for one object.
        segment_min_size_bytes: Minimum size of an object that is downloaded in segments.
        segment_if_slower_than_bytes_per_s: Use more connections only if the first one is slower; 0: always.
    """

    speed_limit_bytes_per_s: float = 1024
    speed_time_s: float = 30
    max_bytes: Mapping[str, int] = field(default_factory=dict)
    connections: int = 8
    segment_min_size_bytes: int = 64 << 20
    segment_if_slower_than_bytes_per_s: float = 0


@dataclass(frozen=True, slots=True)
class TransferContext:
    """
    Context that all downloads share.

    Attributes:
        bandwidth: Rate limit of body bytes.
        permits: Limit of the connections to the storage.
        rand: Returns a number in [0, 1), which spreads the delays between attempts.
    """

    limits: Limits
    policy: RetryPolicy
    bandwidth: RateLimiter
    permits: ConcurrencyLimiter
    rand: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def new_retry_state(self) -> RetryState:
        """Return the state of a series of attempts, before the first one."""
        return RetryState(self.policy, self.rand)

    def new_body_reader(
        self, output: Output, response: aiohttp.ClientResponse, prefetched: bytes = b""
    ) -> BodyReader:
        """Return the reader of *response*, of whose body *prefetched* was read already."""
        stall_detector = StallDetector(self.limits.speed_limit_bytes_per_s, self.limits.speed_time_s)
        return BodyReader(response, str(output), stall_detector, self.bandwidth, prefetched)
