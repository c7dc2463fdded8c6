"""
Limit the disk usage of all partial files.

A container often has no disk of its own: the file system shows the free space of the node, and the container
is evicted when it exceeds its share. A download waits for space before it receives its body. It gets the
space when other downloads are published.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from bulkdl.errors import DestinationError
from bulkdl.log import get_logger
from bulkdl.models import Reason

log = get_logger(__name__)

# Files that no download of this run owns, such as copies for processors, can be removed in this time.
_MAX_IDLE_S = 600.0
_RECHECK_S = 1.0
_STAT_BLOCK_BYTES = 512


class ScratchLimit:
    """
    The disk space of the files in *folder*, whose names start with the ID of their owner and ``-`` or ``.``.

    Args:
        limit_bytes: Maximum disk usage of all files together; 0 disables the limit. Small files and files of
            unknown size can exceed it.
        clock: Returns the time in seconds.
    """

    def __init__(
        self, folder: Path, limit_bytes: int = 0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._held: dict[str, int] = {}
        self._turn = asyncio.Lock()
        self._released = asyncio.Event()

    async def acquire(self, owner_id: str, size_bytes: int) -> None:
        """
        Wait until the files of *owner_id* may have *size_bytes*. The waiting owners get space in their order.

        The space includes the bytes that *owner_id* has stored already.

        Raises:
            DestinationError: TOO_LARGE; *size_bytes* exceed the limit. DISK_FULL; other files use the space,
                and no download can free it.
        """
        if not self._limit_bytes or self._held.get(owner_id, -1) >= size_bytes:
            return
        if size_bytes > self._limit_bytes:
            raise DestinationError(
                Reason.TOO_LARGE,
                f"the output has {size_bytes} bytes, and --scratch-limit is {self._limit_bytes} bytes",
            )
        async with self._turn:
            await self._wait_for_space(owner_id, size_bytes)
            self._held[owner_id] = size_bytes

    def release(self, owner_id: str) -> None:
        """Let other owners use the space of *owner_id* that no file occupies."""
        if self._held.pop(owner_id, None) is not None:
            self._released.set()

    async def _wait_for_space(self, owner_id: str, size_bytes: int) -> None:
        idle_since_s, last_usage = self._clock(), (-1, -1)
        while True:
            self._released.clear()
            others = {owner: held for owner, held in self._held.items() if owner != owner_id}
            unowned_bytes = await asyncio.to_thread(self._measure, {owner_id, *others})
            usage = (sum(others.values()), unowned_bytes)
            if sum(usage) + size_bytes <= self._limit_bytes:
                return
            if last_usage == (-1, -1):
                log.info("scratch.full", needed_bytes=size_bytes, used_bytes=sum(usage))
            if others or usage != last_usage:
                idle_since_s, last_usage = self._clock(), usage
            elif self._clock() - idle_since_s >= _MAX_IDLE_S:
                raise DestinationError(Reason.DISK_FULL, self._describe_full(size_bytes, unowned_bytes))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._released.wait(), _RECHECK_S)

    def _measure(self, owners: Collection[str]) -> int:
        """Return the disk usage of the files without an owner among *owners*; blocks."""
        size_bytes = 0
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.partition("-")[0].partition(".")[0] not in owners:
                    with suppress(FileNotFoundError):
                        size_bytes += entry.stat(follow_symlinks=False).st_blocks * _STAT_BLOCK_BYTES
        return size_bytes

    def _describe_full(self, size_bytes: int, unowned_bytes: int) -> str:
        return (
            f"{self._folder}: the scratch space is full: {size_bytes} bytes needed, --scratch-limit is "
            f"{self._limit_bytes} bytes, partial files of other outputs use {unowned_bytes} bytes; increase "
            "the limit"
        )
