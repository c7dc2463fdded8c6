"""Read the body of one response in chunks, with a minimum speed and a bandwidth limit."""

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
    The reader of the body of one response.

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
        Return the next chunk; empty at the end.

        Raises:
            TransferError: The connection was lost, or it is below the minimum speed. A chunk that arrives too
                late is returned, and the next call raises the error.
        """
        if self._prefetched:
            prefetched, self._prefetched = self._prefetched, b""
            return prefetched
        if self._stalled is not None:
            raise self._stalled
        started_s = time.monotonic()
        chunk = await self._read_chunk()
        detector = self._stall_detector
        if chunk and detector.is_stalled(time.monotonic() - started_s, len(chunk)):
            self._stalled = TransferError(
                Reason.STALLED,
                f"{self._label}: below {detector.limit_bytes_per_s:g} bytes/s for {detector.window_s:g} s",
            )
        return chunk

    async def _read_chunk(self) -> bytes:
        with map_http_errors(TransferError, self._label):
            try:
                async with self._stall_detector.read_timeout():
                    return await self._content.readany()
            except TimeoutError:
                raise TransferError(
                    Reason.STALLED, f"{self._label}: no data for {self._stall_detector.window_s:g} s"
                ) from None

    async def throttle(self, size_bytes: int) -> None:
        """Wait until the bandwidth limit allows *size_bytes* more bytes."""
        await self._bandwidth.acquire(size_bytes)

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
