"""
The permits of a worker: of the pool of its kind, or of the pool of large outputs of that kind.

The size of an item asset is known only from its response. A worker that receives a large body returns its
permit, so that another worker can download a small output, and waits for a permit of the large outputs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.graph.autoscale import ThroughputMeter

LARGE_OUTPUT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class PoolPermits:
    """The permits of one pool, and the meter of the throughput that determines their number."""

    limiter: ConcurrencyLimiter
    meter: ThroughputMeter


class WorkerSlot:
    """
    The permit of one worker.

    Attributes:
        permits: The pool of the permit.
        is_large: Whether the permit is that of a large output.
    """

    def __init__(self, permits: PoolPermits, large: PoolPermits | None) -> None:
        self.permits = permits
        self.is_large = False
        self._large = large
        self._is_held = False

    @property
    def may_continue(self) -> bool:
        """Whether the worker may download another output with its permit."""
        return not self.is_large and not self.permits.limiter.is_over_limit

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Hold a permit inside the block; wait for it first."""
        await self._acquire()
        try:
            yield
        finally:
            self._release()

    def must_change(self, total_bytes: int | None) -> bool:
        """Return whether an output of *total_bytes* needs a permit of the large outputs."""
        is_large_output = total_bytes is not None and total_bytes >= LARGE_OUTPUT_BYTES
        return is_large_output and not self.is_large and self._large is not None

    async def change_to_large(self) -> None:
        """Return the permit, and wait for one of the large outputs."""
        if self._large is None:
            raise RuntimeError("the pool has no permits for large outputs")
        self._release()
        self.permits, self.is_large = self._large, True
        await self._acquire()

    async def _acquire(self) -> None:
        await self.permits.limiter.acquire()
        self._is_held = True

    def _release(self) -> None:
        if self._is_held:
            self._is_held = False
            self.permits.limiter.release()
