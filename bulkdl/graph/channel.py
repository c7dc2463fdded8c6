"""
A bounded channel between two stages that can be closed.

``asyncio.Queue`` learns to shut down only with Python 3.13; this is the little of it that the
stages need on 3.11.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from bulkdl.waiting import WaitQueue

T = TypeVar("T")


class ChannelClosed(Exception):
    """The channel takes no more."""


class Channel(Generic[T]):
    """First in, first out; *capacity* items at most wait in it."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._takers = WaitQueue()
        self._putters = WaitQueue()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> None:
        """
        Add *item*, waiting for room.

        Raises:
            ChannelClosed: Nobody will take it any more.
        """
        await self._putters.wait_for(lambda: self._closed or len(self._items) < self._capacity)
        if self._closed:
            raise ChannelClosed
        self._items.append(item)
        self._takers.notify()

    async def wait_ready(self) -> bool:
        """Wait for an item, which has to be taken then; False once the channel is closed and empty."""
        await self._takers.wait_for(lambda: self._closed or self._items)
        return bool(self._items)

    def get_nowait(self) -> T | None:
        """The next item, if there is one: whoever was told of one may find that another was quicker."""
        return self._next() if self._items else None

    def _next(self) -> T:
        self._putters.notify()
        return self._items.popleft()

    def __aiter__(self) -> Channel[T]:
        return self

    async def __anext__(self) -> T:
        """The next item; ends when the channel is closed and empty."""
        if not await self.wait_ready():
            raise StopAsyncIteration
        return self._next()

    def close(self) -> None:
        """No more items; those that wait are still taken."""
        self._closed = True
        self._takers.notify_all()
        self._putters.notify_all()

    def close_and_drain(self) -> list[T]:
        """Close, and return what was waiting."""
        dropped = list(self._items)
        self._items.clear()
        self.close()
        return dropped
