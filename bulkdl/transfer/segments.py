"""
Assign the segments of a large object to connections, and write the received bytes into one partial file.

The first connection has requested the whole object and reads from its start. Other connections take segments
from the far end of the bytes that it has not reached, so that its response is shortened as late as possible.
If no segment is free, an idle connection takes the second half of the longest segment in progress.

Each connection collects its bytes in blocks. A block is written while the next one is read, and its extent
and checksum are recorded after the write. Before the first block of a new object, the magic bytes are
checked and the partial file is created. A connection that fails, is cancelled or ends first writes what it
has received.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bulkdl.concurrency import shield_until_done
from bulkdl.errors import ContentRejectedError, DownloadError, TransferError
from bulkdl.models import Extent, Reason, ResumeState
from bulkdl.source_spec import HEAD_BYTES
from bulkdl.transfer.context import BLOCK_BYTES, BodyReader
from bulkdl.transfer.partial_download import PartialDownload

MIN_SEGMENT_BYTES = 512 << 10
_SEGMENT_SIZE_RANGE = (1 << 20, 64 << 20)

ShouldContinue = Callable[[], bool]


@dataclass(slots=True, eq=False)
class Segment:
    """
    A byte range that one connection downloads.

    Attributes:
        offset: The next byte to receive.
        end: The first byte behind the segment; another connection can move it towards *offset*.
        open_ended: Whether the request continues to the end of the object.
    """

    offset: int
    end: int
    open_ended: bool = False

    @property
    def remaining_bytes(self) -> int:
        """Bytes that are not received yet."""
        return self.end - self.offset


class SegmentScheduler:
    """
    The missing bytes of one object and the segments in progress. Pure bookkeeping.

    Args:
        total_bytes: Size of the object.
        done: (start, end) of bytes that are stored; ranges do not overlap.
    """

    def __init__(self, total_bytes: int, done: Iterable[tuple[int, int]] = ()) -> None:
        self._total_bytes = total_bytes
        self._free = _find_gaps(total_bytes, sorted(done))
        self._active: list[Segment] = []

    @property
    def missing_bytes(self) -> int:
        """Bytes that no connection has received."""
        free_bytes = sum(end - start for start, end in self._free)
        return free_bytes + sum(segment.remaining_bytes for segment in self._active)

    def take_all(self) -> Segment:
        """Return the whole object as a segment, for the connection that has requested it."""
        self._free = []
        return self._start(Segment(0, self._total_bytes, open_ended=True))

    def take(self) -> Segment | None:
        """Return a segment for an idle connection; None if another connection would not help."""
        if self._free:
            return self._take_free()
        longest = self._find_divisible()
        if longest is None:
            return None
        half_bytes = longest.remaining_bytes // 2
        size_bytes = min(self._segment_bytes(), half_bytes) if longest.open_ended else half_bytes
        longest.end -= size_bytes
        return self._start(Segment(longest.end, longest.end + size_bytes))

    @property
    def has_segment(self) -> bool:
        """Whether ``take`` would return a segment."""
        return bool(self._free) or self._find_divisible() is not None

    def _find_divisible(self) -> Segment | None:
        longest = max(self._active, key=lambda segment: segment.remaining_bytes, default=None)
        if longest is None or longest.remaining_bytes < 2 * MIN_SEGMENT_BYTES:
            return None
        return longest

    def _take_free(self) -> Segment:
        start, end = self._free.pop(0)
        size_bytes = self._segment_bytes()
        if end - start > size_bytes + MIN_SEGMENT_BYTES:
            self._free.insert(0, (start + size_bytes, end))
            end = start + size_bytes
        return self._start(Segment(start, end))

    def _segment_bytes(self) -> int:
        min_bytes, max_bytes = _SEGMENT_SIZE_RANGE
        return max(min_bytes, min(max_bytes, self.missing_bytes // (2 * (len(self._active) + 1))))

    def _start(self, segment: Segment) -> Segment:
        self._active.append(segment)
        return segment

    def finish(self, segment: Segment) -> None:
        """End the work on *segment*; bytes that were not received are free for other connections."""
        self._active.remove(segment)
        if segment.remaining_bytes:
            self._free.insert(0, (segment.offset, segment.end))


def _find_gaps(total_bytes: int, done: list[tuple[int, int]]) -> list[tuple[int, int]]:
    gaps, offset = [], 0
    for start, end in done:
        if start > offset:
            gaps.append((offset, start))
        offset = max(offset, end)
    if offset < total_bytes:
        gaps.append((offset, total_bytes))
    return gaps


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
