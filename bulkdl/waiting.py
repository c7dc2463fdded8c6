"""
Those who wait until something holds, woken one at a time.

``asyncio.Condition`` wakes with a lock that each takes again, and one that is cancelled just after it
was woken takes the word with it (mended in Python 3.13). Here a word that reaches nobody is passed on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress


class WaitQueue:
    """A queue of coroutines; whoever changes what they wait for says so."""

    def __init__(self) -> None:
        self._sleepers: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._sleepers)

    async def wait_for(self, ready: Callable[[], object]) -> None:
        """Return once *ready*; it is asked at once, and again after each word."""
        while not ready():
            sleeper = asyncio.get_running_loop().create_future()
            self._sleepers.append(sleeper)
            try:
                await sleeper
            except asyncio.CancelledError:
                if not sleeper.cancelled():
                    self.notify()
                with suppress(ValueError):
                    self._sleepers.remove(sleeper)
                raise

    def notify(self, count: int = 1) -> None:
        """Let the *count* who have waited longest look again."""
        while count > 0 and self._sleepers:
            sleeper = self._sleepers.popleft()
            if not sleeper.done():  # else it is cancelled, and has not come to leaving
                sleeper.set_result(None)
                count -= 1

    def notify_all(self) -> None:
        self.notify(len(self._sleepers))
