"""
Where the bytes of several connections land: in one divided part, each in its place.

What a connection brings is gathered into blocks. Each is written behind the reading, and noted with its
checksum as soon as it is written. Before the first one of a new object, this is let in and the part made
ready. Whoever breaks off, is stopped or leaves has first written what has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress

import aiohttp

from bulkdl.concurrency import shield_until_done
from bulkdl.errors import DownloadError, TransferError
from bulkdl.models import Extent, Reason
from bulkdl.transfer import validation
from bulkdl.transfer.body_reader import BLOCK_BYTES, BodyReader
from bulkdl.transfer.interfaces import PartialFilePort
from bulkdl.transfer.segment_scheduler import Segment

ShouldContinue = Callable[[], bool]


class SegmentWriter:
    """
    The part, as all connections see it.

    Attributes:
        extents: The bytes that are there, in the order in which they came.
        begun: Set once the part is one of this object.
    """

    def __init__(
        self,
        part: PartialFilePort,
        extents: Iterable[Extent],
        admit: Callable[[bytes], object],
        begin: Callable[[], Coroutine[None, None, None]],
    ) -> None:
        """
        Take up what is there.

        Args:
            admit: Lets an object in by its first bytes, or raises ContentRejected.
            begin: Makes the part ready for a new object, which has been let in.
        """
        self.extents = list(extents)
        self.started = asyncio.Event()
        self._part = part
        self._admit = admit
        self._begin = begin
        self._beginning: asyncio.Future[None] | None = None

    @property
    def at_bytes(self) -> int:
        return sum(extent.size_bytes for extent in self.extents)

    async def begin(self, head: bytes) -> None:
        """Let the object in; who is cancelled meanwhile finds it done when its bytes are to be kept."""
        if self._beginning is None:
            self._admit(head)
            self._beginning = asyncio.ensure_future(self._begin())
        await asyncio.shield(self._beginning)
        self.started.set()

    async def write(self, start: int, chunks: Sequence[bytes]) -> None:
        self.extents.append(await self._part.write_at(start, chunks))


class SegmentReader:
    """
    One response on its way into its place.

    Args:
        span: What it is to bring; it may become shorter meanwhile.
        progress: Called with the bytes that came just now.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        body: BodyReader,
        span: Segment,
        landing: SegmentWriter,
        progress: Callable[[int], None],
    ) -> None:
        self._response = response
        self._body = body
        self._span = span
        self._landing = landing
        self._progress = progress
        self._block = _Block(span.offset)

    async def read(self, may_stay: ShouldContinue) -> None:
        """
        Read until all of the span is there, or the connection may not stay; what has come is written.

        Raises:
            ContentRejected: It begins like something else; nothing of it is written.
            Failure: It broke off, or what came cannot be written.
        """
        try:
            await self._gather(may_stay)
        except validation.ContentRejected:
            raise
        except DownloadError:
            await self._finish()
            raise
        except BaseException:  # cancelled: that outranks whatever writing the bytes brings to light
            with suppress(DownloadError):
                await self._finish()
            raise
        await self._finish()

    async def _gather(self, may_stay: ShouldContinue) -> None:
        while self._span.remaining_bytes and may_stay():
            chunk = await self._body.read(self._response)
            if not chunk:
                raise TransferError(Reason.TRUNCATED, f"the connection ended at byte {self._span.offset}")
            self._take(chunk)
            if self._block.size_bytes >= (
                BLOCK_BYTES if self._landing.started.is_set() else validation.HEAD_BYTES
            ):
                await self._write_behind()
            await self._body.pace(len(chunk))

    def _take(self, chunk: bytes) -> None:
        fitting = chunk[: self._span.remaining_bytes]
        if fitting:
            self._span.offset += len(fitting)
            self._block.add(fitting)
            self._progress(len(fitting))

    async def _write_behind(self) -> None:
        """Start to write what has come, once what came before it is written."""
        block = self._block
        await block.settle()
        if not self._landing.started.is_set():
            await self._landing.begin(block.head)
        block.writing = asyncio.ensure_future(self._landing.write(*block.cut()))

    async def _finish(self) -> None:
        """Write what has come, also what waits unread."""
        self._take(self._body.drain_buffered(self._response))
        await shield_until_done(self._write_rest())

    async def _write_rest(self) -> None:
        if self._block.size_bytes >= (1 if self._landing.started.is_set() else validation.HEAD_BYTES):
            await self._write_behind()
        await self._block.settle()


class _Block:
    """Chunks that follow one another, on their way to becoming one write."""

    def __init__(self, start: int) -> None:
        self.size_bytes = 0
        self.writing: asyncio.Future[None] | None = None
        self._start = start
        self._chunks: list[bytes] = []

    def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self.size_bytes += len(chunk)

    @property
    def head(self) -> bytes:
        return b"".join(self._chunks)[: validation.HEAD_BYTES]

    def cut(self) -> tuple[int, list[bytes]]:
        """Where what has come begins, and what it is."""
        start, chunks = self._start, self._chunks
        self._start += self.size_bytes
        self._chunks, self.size_bytes = [], 0
        return start, chunks

    async def settle(self) -> None:
        if self.writing is not None:
            await asyncio.shield(self.writing)
            self.writing = None
