"""What all transfers share: bounds, pace, permits, patience."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.http.rate_limit import RateLimiter
from bulkdl.http.retry import RetryPolicy, RetryState
from bulkdl.http.stall import StallDetector
from bulkdl.models import Kind, Output
from bulkdl.transfer.body_reader import BodyReader


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Bounds on one body.

    Attributes:
        speed_limit_bytes_per_s: Slower than this for *speed_time_s* is a stall.
        ceilings: Most bytes by kind, announced or not.
        segment_bytes: From this size on an object may come over several connections.
        connections: How many at most.
        segment_below_bytes_per_s: Only where the first of them is slower; 0: in any case.
    """

    speed_limit_bytes_per_s: float = 1024
    speed_time_s: float = 30
    ceilings: Mapping[Kind, int] = field(default_factory=dict)
    segment_bytes: int = 64 << 20
    connections: int = 8
    segment_below_bytes_per_s: float = 0


@dataclass(frozen=True, slots=True)
class TransferContext:
    """
    What all transfers share.

    Attributes:
        bandwidth: The pace of body bytes.
        permits: How many connections to the storage there may be.
        rand: Spreads the waits between attempts.
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

    def new_body_reader(self, output: Output, begun: bytes = b"") -> BodyReader:
        """The reader of one response with bytes of *output*, of which *begun* has been read."""
        floor = StallDetector(self.limits.speed_limit_bytes_per_s, self.limits.speed_time_s)
        return BodyReader(str(output), floor, self.bandwidth, begun)
