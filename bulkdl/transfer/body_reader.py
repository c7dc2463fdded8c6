"""
Reading one response: chunk by chunk, with a floor under its speed and a pace over it.
"""

from __future__ import annotations

import time

import aiohttp

from bulkdl.errors import TransferError
from bulkdl.http.errors import map_http_errors
from bulkdl.http.rate_limit import RateLimiter
from bulkdl.http.stall import StallDetector
from bulkdl.models import Reason

BLOCK_BYTES = 1 << 20


class BodyReader:
    """
    The reader of one response.

    Args:
        where: For messages; never holds a secret.
        bandwidth: Shared by all transfers.
        begun: Has been read of the body already.
    """

    def __init__(self, where: str, floor: StallDetector, bandwidth: RateLimiter, begun: bytes = b"") -> None:
        self._where = where
        self._floor = floor
        self._bandwidth = bandwidth
        self._begun = begun
        self._late: TransferError | None = None

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """
        The next chunk; empty at the end.

        Raises:
            TransferError: The connection broke, or has been too slow for too long. That a chunk
                came too late is raised in place of the next one, for the chunk itself is good.
        """
        if self._begun:
            begun, self._begun = self._begun, b""
            return begun
        if self._late is not None:
            raise self._late
        asked_at = time.monotonic()
        chunk = await self._next(response)
        if chunk and self._floor.is_stalled(time.monotonic() - asked_at, len(chunk)):
            floor = self._floor
            self._late = TransferError(
                Reason.STALLED,
                f"{self._where}: under {floor.limit_bytes_per_s:g} bytes/s for {floor.window_s:g} s",
            )
        return chunk

    async def _next(self, response: aiohttp.ClientResponse) -> bytes:
        with map_http_errors(TransferError, self._where):
            try:
                async with self._floor.read_timeout():
                    return await response.content.readany()
            except TimeoutError:
                raise TransferError(
                    Reason.STALLED, f"{self._where}: no bytes for {self._floor.window_s:g} s"
                ) from None

    async def pace(self, size_bytes: int) -> None:
        """Wait until that much more may come."""
        await self._bandwidth.acquire(size_bytes)

    def drain_buffered(self, response: aiohttp.ClientResponse) -> bytes:
        """What had come before the connection broke; aiohttp keeps it behind the error."""
        content = response.content
        error = content.exception()
        content.set_exception(None)  # type: ignore[arg-type] # there is no other way to the bytes
        chunk = content.read_nowait()
        content.set_exception(error)  # type: ignore[arg-type]
        return chunk
