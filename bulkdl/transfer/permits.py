"""
How many may be at work at once. The number can change while they are.

A worker holds a permit for its output; a large archive may take spare ones for more connections,
but only while nobody waits with an output of its own.
"""

from __future__ import annotations

from bulkdl.concurrency import WaitQueue


class ConcurrencyLimiter:
    """
    Attributes:
        limit: How many may be out. Lowering it takes none away: who holds one looks at ``too_many``.
        in_use: How many are out.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self._wanted = 0
        self._outputs = WaitQueue()
        self._spares = WaitQueue()

    @property
    def is_over_limit(self) -> bool:
        """More are out than there should be."""
        return self.in_use > self.limit

    async def acquire(self) -> None:
        """Take a permit for an output, waiting for one."""
        self._wanted += 1
        try:
            await self._outputs.wait_for(lambda: self.in_use < self.limit)
            self.in_use += 1
        finally:
            self._wanted -= 1
            self._tell()

    async def acquire_spare(self) -> None:
        """Take a permit that no output waits for."""
        await self._spares.wait_for(lambda: self.in_use < self.limit and not self._wanted)
        self.in_use += 1

    def release(self) -> None:
        self.in_use -= 1
        self._tell()

    def release_if_over_limit(self) -> bool:
        """Give a spare permit back if too many are out; the answer is whether it is gone."""
        if not self.is_over_limit:
            return False
        self.release()
        return True

    def resize(self, limit: int) -> None:
        self.limit = limit
        self._tell()

    def _tell(self) -> None:
        free = self.limit - self.in_use
        self._outputs.notify(free)
        if not self._wanted:
            self._spares.notify(free)
