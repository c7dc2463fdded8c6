"""
Write the bytes of several connections into one segmented partial file.

Each connection collects its bytes in blocks. A block is written while the next one is read, and its extent
and checksum are recorded after the write. Before the first block of a new object, the magic bytes are
checked and the partial file is created. A connection that fails, is cancelled or ends first writes what it
has received.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from bulkdl.concurrency import shield_until_done
from bulkdl.errors import ContentRejectedError, DownloadError, TransferError
from bulkdl.models import Extent, Reason, ResumeState
from bulkdl.source_spec import HEAD_BYTES
from bulkdl.transfer.body_reader import BLOCK_BYTES, BodyReader
from bulkdl.transfer.partial_download import PartialDownload
from bulkdl.transfer.segment_scheduler import Segment

ShouldContinue = Callable[[], bool]


class SegmentWriter:
    """
    The segmented partial file that all connections share.

    Attributes:
        extents: The stored extents in the order in which they were written.
        started: Set when the partial file exists and belongs to this object.
        received_bytes: Bytes that all connections received in this attempt.
    """

    def __init__(self, partial: PartialDownload, state: ResumeState) -> None:
        self.extents = list(state.extents or ())
        self.started = asyncio.Event()
        self.received_bytes = 0
        self._partial = partial
        self._object = state.object
        self._initial_bytes = self.stored_bytes
        self._creation: asyncio.Future[None] | None = None

    @property
    def stored_bytes(self) -> int:
        """Bytes in the partial file."""
        return sum(extent.size_bytes for extent in self.extents)

    @property
    def state(self) -> ResumeState:
        """The state with which the next attempt can resume."""
        return ResumeState(self._object, self.stored_bytes, tuple(sorted(self.extents, key=_start_of)))

    def record_received(self, size_bytes: int) -> None:
        """Count received bytes."""
        self.received_bytes += size_bytes
        offset_bytes = self._initial_bytes + self.received_bytes
        self._partial.record_received(offset_bytes, self._object.total_bytes, size_bytes)

    async def start(self, head: bytes) -> None:
        """
        Check the magic bytes of a new object and create its partial file, once for all connections.

        Cancellation does not interrupt the creation; the file exists when received bytes are written.

        Raises:
            ContentRejectedError: *head* is not the start of the requested output.
        """
        if self._creation is None:
            self._partial.check_magic_bytes(self._object, head)
            self._creation = asyncio.ensure_future(self._partial.create(self._object, segmented=True))
        await asyncio.shield(self._creation)
        self.started.set()

    async def write(self, start: int, chunks: Sequence[bytes]) -> None:
        """Write adjacent *chunks* at *start*."""
        self.extents.append(await self._partial.file.write_at(start, chunks))


def _start_of(extent: Extent) -> int:
    return extent.start


class SegmentReader:
    """
    Reads one response into its segment.

    Args:
        segment: The bytes to read; another connection can shorten it.
    """

    def __init__(self, body: BodyReader, segment: Segment, writer: SegmentWriter) -> None:
        self._body = body
        self._segment = segment
        self._writer = writer
        self._block = _Block(segment.offset)

    async def read(self, should_continue: ShouldContinue) -> None:
        """
        Read until the segment is complete or the connection should end, and write what was received.

        Raises:
            ContentRejectedError: The body is not the requested output; nothing was written.
            DownloadError: The connection failed, or the bytes cannot be written.
        """
        try:
            await self._read_body(should_continue)
        except ContentRejectedError:
            raise
        except DownloadError:
            await self._finish()
            raise
        except BaseException:  # the cancellation outranks a failure to write the bytes
            with suppress(DownloadError):
                await self._finish()
            raise
        await self._finish()

    async def _read_body(self, should_continue: ShouldContinue) -> None:
        while self._segment.remaining_bytes and should_continue():
            chunk = await self._body.read()
            if not chunk:
                raise TransferError(
                    Reason.TRUNCATED, f"truncated: the connection ended at byte {self._segment.offset}"
                )
            self._accept_chunk(chunk)
            if self._block.size_bytes >= (BLOCK_BYTES if self._writer.started.is_set() else HEAD_BYTES):
                await self._write_in_background()
            await self._body.throttle(len(chunk))

    def _accept_chunk(self, chunk: bytes) -> None:
        accepted = chunk[: self._segment.remaining_bytes]
        if accepted:
            self._segment.offset += len(accepted)
            self._block.add(accepted)
            self._writer.record_received(len(accepted))

    async def _write_in_background(self) -> None:
        """Start to write the block when the write of the previous block has ended."""
        block = self._block
        await block.wait_written()
        if not self._writer.started.is_set():
            await self._writer.start(block.head)
        block.writing = asyncio.ensure_future(self._writer.write(*block.take()))

    async def _finish(self) -> None:
        """Write all received bytes, including those in the buffer of the connection."""
        self._accept_chunk(self._body.drain_buffered())
        await shield_until_done(self._write_rest())

    async def _write_rest(self) -> None:
        if self._block.size_bytes >= (1 if self._writer.started.is_set() else HEAD_BYTES):
            await self._write_in_background()
        await self._block.wait_written()


class _Block:
    """Adjacent chunks that are written together."""

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
        return b"".join(self._chunks)[:HEAD_BYTES]

    def take(self) -> tuple[int, list[bytes]]:
        """Return the start and the chunks, and continue with an empty block behind them."""
        start, chunks = self._start, self._chunks
        self._start += self.size_bytes
        self._chunks, self.size_bytes = [], 0
        return start, chunks

    async def wait_written(self) -> None:
        if self.writing is not None:
            await asyncio.shield(self.writing)
            self.writing = None
