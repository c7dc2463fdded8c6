"""What all downloads share: their limits and resources, and the reader of the body of a response."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.errors import TransferError
from bulkdl.http.errors import map_http_errors
from bulkdl.http.rate_limit import RateLimiter
from bulkdl.http.retry import RetryPolicy, RetryState
from bulkdl.http.stall import StallDetector
from bulkdl.models import Reason
from bulkdl.transfer.interfaces import ContentInspector

BLOCK_BYTES = 1 << 20
# Bounds of one read with a bandwidth limit: small enough to share the limit, large enough for a high limit.
_MIN_LIMITED_READ_BYTES = 64 << 10
_READS_PER_S = 64
_MIN_READS_PER_S = 4


class BodyReader:
    """
    The reader of the body of one response, in chunks, with a minimum speed and a bandwidth limit.

    Only this class uses undocumented behaviour of aiohttp, in ``drain_buffered``.

    Args:
        label: Names the output in messages; it contains no secret.
        bandwidth: Limit shared by all transfers.
        prefetched: Bytes that were already read of the body.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        label: str,
        stall_detector: StallDetector,
        bandwidth: RateLimiter,
        prefetched: bytes = b"",
    ) -> None:
        self._response = response
        self._content = response.content
        self._label = label
        self._stall_detector = stall_detector
        self._bandwidth = bandwidth
        self._prefetched = prefetched
        self._stalled: TransferError | None = None

    async def read(self) -> bytes:
        """
        Return the next chunk when the bandwidth limit allows it; empty at the end.

        Raises:
            TransferError: The connection was lost, or it is below the minimum speed. A chunk that arrives too
                late is returned, and the next call raises the error.
        """
        if self._prefetched:
            await self._bandwidth.acquire(len(self._prefetched))
            prefetched, self._prefetched = self._prefetched, b""
            return prefetched
        if self._stalled is not None:
            raise self._stalled
        allowed_bytes = await self._acquire_bandwidth()
        received_bytes = 0
        try:
            chunk = await self._read_monitored(allowed_bytes)
            received_bytes = len(chunk)
        finally:
            if allowed_bytes is not None:
                self._bandwidth.refund(allowed_bytes - received_bytes)
        return chunk

    async def _acquire_bandwidth(self) -> int | None:
        """
        Acquire the bandwidth of one read before it, and return its size; None if it is not limited.

        With many connections, a limit that is applied after the reads would let a first read of each pass.
        """
        burst = self._bandwidth.burst
        if burst is None or self._content.at_eof():
            return None
        most = min(max(burst / _READS_PER_S, _MIN_LIMITED_READ_BYTES), BLOCK_BYTES)
        allowed_bytes = max(1, int(min(most, burst / _MIN_READS_PER_S)))
        await self._bandwidth.acquire(allowed_bytes)
        return allowed_bytes

    async def _read_monitored(self, max_bytes: int | None) -> bytes:
        """Read a chunk, and note whether it was too slow: the next read raises the error then."""
        started_s = time.monotonic()
        chunk = await self._read_chunk(max_bytes)
        detector = self._stall_detector
        if chunk and detector.is_stalled(time.monotonic() - started_s, len(chunk)):
            self._stalled = TransferError(
                Reason.STALLED,
                f"{self._label}: below {detector.limit_bytes_per_s:g} bytes/s for {detector.window_s:g} s",
            )
        return chunk

    async def _read_chunk(self, max_bytes: int | None) -> bytes:
        with map_http_errors(TransferError, self._label):
            try:
                async with self._stall_detector.read_timeout():
                    if max_bytes is None:
                        return await self._content.readany()
                    return await self._content.read(max_bytes)
            except TimeoutError:
                raise TransferError(
                    Reason.STALLED, f"{self._label}: no data for {self._stall_detector.window_s:g} s"
                ) from None

    def drain_buffered(self) -> bytes:
        """Return bytes that arrived before the connection was lost; aiohttp keeps them behind the error."""
        content = self._content
        error = content.exception()
        content.set_exception(None)  # type: ignore[arg-type] # no documented call returns these bytes
        chunk = content.read_nowait()
        content.set_exception(error)  # type: ignore[arg-type]
        return chunk

    def close(self) -> None:
        """Close the connection of the response."""
        self._response.close()


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
        inspector: Inspects bodies in place of the check of their kind; None: the check is called.
    """

    limits: Limits
    policy: RetryPolicy
    bandwidth: RateLimiter
    permits: ConcurrencyLimiter
    rand: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    inspector: ContentInspector | None = None

    def new_retry_state(self) -> RetryState:
        """Return the state of a series of attempts, before the first one."""
        return RetryState(self.policy, self.rand)

    def new_body_reader(
        self, label: str, response: aiohttp.ClientResponse, prefetched: bytes = b""
    ) -> BodyReader:
        """Return the reader of *response* for the output *label*; *prefetched* was read already."""
        stall_detector = StallDetector(self.limits.speed_limit_bytes_per_s, self.limits.speed_time_s)
        return BodyReader(response, label, stall_detector, self.bandwidth, prefetched)
