"""
How many may be at work at once. The number can change while they are.

A worker holds a permit for its output; a large archive may take spare ones for more connections,
but only while nobody waits with an output of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Permits:
    """
    Attributes:
        limit: How many may be out. Lowering it takes none away: holders of spare ones yield them.
        in_use: How many are out.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self._waiting = 0
        self._sleepers: list[asyncio.Future[None]] = []

    async def acquire(self) -> None:
        """Take a permit for an output, waiting for one."""
        self._waiting += 1
        try:
            await self._until(lambda: self.in_use < self.limit)
        finally:
            self._waiting -= 1
            self._wake()
        self.in_use += 1

    async def acquire_spare(self) -> None:
        """Take a permit that no output waits for."""
        await self._until(lambda: self.in_use < self.limit and not self._waiting)
        self.in_use += 1

    def release(self) -> None:
        self.in_use -= 1
        self._wake()

    def yielded(self) -> bool:
        """Give a spare permit back if more are out than there should be; the answer is whether it is gone."""
        if self.in_use <= self.limit:
            return False
        self.release()
        return True

    def resize(self, limit: int) -> None:
        self.limit = limit
        self._wake()

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            sleeper = asyncio.get_running_loop().create_future()
            self._sleepers.append(sleeper)
            try:
                await sleeper
            finally:
                self._sleepers.remove(sleeper)

    def _wake(self) -> None:
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)
