"""
A bounded channel between two stages that can be closed.

``asyncio.Queue`` learns to shut down only with Python 3.13; this is the little of it that the
stages need on 3.11.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class ChannelClosed(Exception):
    """The channel takes no more."""


class Channel(Generic[T]):
    """First in, first out; *capacity* items at most wait in it."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = asyncio.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> None:
        """
        Add *item*, waiting for room.

        Raises:
            ChannelClosed: Nobody will take it any more.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            if self._closed:
                raise ChannelClosed
            self._items.append(item)
            self._changed.notify_all()

    async def ready(self) -> bool:
        """Wait for an item; False once the channel is closed and empty."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self._items)
            return bool(self._items)

    async def take(self) -> T | None:
        """The next item, if nobody else was quicker."""
        async with self._changed:
            item = self._items.popleft() if self._items else None
            self._changed.notify_all()
            return item

    def __aiter__(self) -> Channel[T]:
        return self

    async def __anext__(self) -> T:
        """The next item; ends when the channel is closed and empty."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self._items)
            if not self._items:
                raise StopAsyncIteration
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    async def close(self) -> None:
        """No more items; those that wait are still taken."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def drop(self) -> list[T]:
        """Close, and return what was waiting."""
        async with self._changed:
            dropped = list(self._items)
            self._items.clear()
            self._closed = True
            self._changed.notify_all()
            return dropped
