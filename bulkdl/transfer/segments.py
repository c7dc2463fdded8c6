"""
One large object over several connections at once.

Each connection fetches spans that a Board hands out, and puts what comes into its place in the part,
block by block, each noted with its checksum as soon as it is written. A connection that breaks off
tries again by itself, by the same table as any transfer, while the others go on; what none of them can
get past ends the attempt. The first connection is always there; others come while spare permits are
to be had and leave when there are fewer, but none before the first bytes of a new object are let in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import aiohttp

from bulkdl.errors import Failure, TransferFailure, first_of
from bulkdl.http.retry import Verdict
from bulkdl.model import Extent, Kind, Reason, StoredObject
from bulkdl.reactions import Step
from bulkdl.transfer import decisions, gates
from bulkdl.transfer.body import BLOCK_BYTES, Body
from bulkdl.transfer.finishing import finished
from bulkdl.transfer.patience import Patience
from bulkdl.transfer.permits import Permits
from bulkdl.transfer.ports import Origin, Part
from bulkdl.transfer.spans import Board, Span

_LOOK_S = 0.1

MayStay = Callable[[], bool]


class _Stay:
    """The spare permit of one connection: asked whether it is kept still, it yields if there are too many."""

    def __init__(self, permits: Permits) -> None:
        self._permits = permits
        self._kept = True

    def __call__(self) -> bool:
        self._kept = self._kept and not self._permits.yielded()
        return self._kept

    def end(self) -> None:
        if self._kept:
            self._permits.release()


def _for_good() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """
    What the connections of one object share with the rest of its transfer.

    Attributes:
        segment_below_bytes_per_s: While the first connection is faster it stays the only one; 0: others come
            at once.
        body: Makes the reader of one response.
        admit: Lets an object in by its first bytes, or raises TurnedAway.
        begin: Makes the part ready for a new object, which has been let in.
        patience: Makes the judge of one connection's failures.
        progress: Called with the bytes that came just now.
        retried: Called when a connection is about to try again.
    """

    origin: Origin
    part: Part
    permits: Permits
    connections: int
    segment_below_bytes_per_s: float
    body: Callable[[], Body]
    admit: Callable[[bytes], object]
    begin: Callable[[], Coroutine[None, None, None]]
    patience: Callable[[], Patience]
    progress: Callable[[int], None]
    retried: Callable[[Failure, Verdict], None]
    sleep: Callable[[float], Awaitable[None]]


class Segments:
    """
    Attributes:
        extents: The bytes that are there, in the order in which they came.
    """

    def __init__(self, stored: StoredObject, extents: tuple[Extent, ...], around: Surroundings) -> None:
        assert stored.total_bytes is not None, "only what has a length can be divided"  # noqa: S101
        self.extents = list(extents)
        self._stored = stored
        self._around = around
        self._board = Board(stored.total_bytes, [(extent.start, extent.end) for extent in extents])
        self._extra = 0
        self._left = asyncio.Event()
        self._begun = asyncio.Event()
        self._beginning: asyncio.Future[None] | None = None
        self._preparing = asyncio.Lock()
        self._moved_bytes = 0

    @property
    def at_bytes(self) -> int:
        return sum(extent.size_bytes for extent in self.extents)

    @property
    def has_begun(self) -> bool:
        """Whether the part is one of this object."""
        return self._begun.is_set()

    async def receive(self, first: aiohttp.ClientResponse | None) -> None:
        """
        Bring what is missing.

        Args:
            first: A response for the whole whose body has not been read, if there is one.

        Raises:
            Failure: A connection met what trying again does not mend. The extents are right.
        """
        worker = asyncio.current_task()
        try:
            async with asyncio.TaskGroup() as group:
                grow = group.create_task(self._grow(group), name="segments-grow")
                try:
                    if first is not None:
                        await self._read_first(first)
                    self._begun.set()
                    await self._work_to_the_end()
                finally:
                    grow.cancel()
        except* Failure as failures:
            if worker is not None and worker.cancelling():  # which the TaskGroup of Python 3.11 forgets
                raise asyncio.CancelledError from None
            raise first_of(failures) from None

    async def _grow(self, group: asyncio.TaskGroup) -> None:
        """Open further connections while there are spare permits, and something to do for them."""
        around = self._around
        await self._begun.wait()
        await self._until_slow()
        while True:
            while self._extra >= around.connections - 1 or not self._board.has_piece:
                await self._one_has_left()
            await around.permits.acquire_spare()
            self._extra += 1
            stay = _Stay(around.permits)
            line = group.create_task(self._work(stay), name=f"segment-{self._extra}")
            line.add_done_callback(partial(self._line_ended, stay))

    async def _until_slow(self) -> None:
        """Leave one connection alone for as long as it is fast: others would cost more than they bring."""
        fast = self._around.segment_below_bytes_per_s
        while fast:
            before_bytes, began_s = self._moved_bytes, time.monotonic()
            await asyncio.sleep(_LOOK_S)
            if self._moved_bytes - before_bytes < fast * (time.monotonic() - began_s):
                return

    def _line_ended(self, stay: _Stay, _line: asyncio.Task[None]) -> None:
        self._extra -= 1
        stay.end()
        self._left.set()

    async def _one_has_left(self) -> None:
        self._left.clear()
        await self._left.wait()

    async def _work_to_the_end(self) -> None:
        """What the first connection does: the others may leave something behind."""
        await self._work(_for_good)
        while self._extra:
            await self._one_has_left()
            await self._work(_for_good)

    async def _work(self, may_stay: MayStay) -> None:
        while may_stay():
            span = self._board.take()
            if span is None:
                return
            try:
                await self._fetch(span, may_stay)
            finally:
                self._board.finish(span)

    async def _read_first(self, response: aiohttp.ClientResponse) -> None:
        span = self._board.front()
        try:
            try:
                await self._read(response, span, _for_good)
            finally:
                response.close()  # it may go on with what others have fetched meanwhile
        except Failure as failure:
            if not self.has_begun:
                raise
            await self._after(failure, self._around.patience(), address=0, progressed=True)
            await self._fetch(span, _for_good)
        finally:
            self._board.finish(span)

    async def _fetch(self, span: Span, may_stay: MayStay) -> None:
        patience = self._around.patience()
        while span.left and may_stay():
            before, address = span.at, await self._address()
            try:
                await self._ask(span, may_stay)
            except Failure as failure:
                await self._after(failure, patience, address=address, progressed=span.at > before)

    async def _after(self, failure: Failure, patience: Patience, *, address: int, progressed: bool) -> None:
        """Wait until this connection may ask again, or raise what it cannot get past."""
        verdict = patience.judge(failure, progressed=progressed)
        if verdict.step is Step.RESIGN:
            self._around.origin.renew(address)
        elif verdict.step is not Step.BACK_OFF:
            failure.exhausted = verdict.step is Step.GIVE_UP
            raise failure
        self._around.retried(failure, verdict)
        await self._around.sleep(verdict.delay_s)

    async def _address(self) -> int:
        async with self._preparing:
            try:
                return await self._around.origin.prepare()
            except Failure as failure:
                failure.exhausted = True  # the API client has tried again itself
                raise

    async def _ask(self, span: Span, may_stay: MayStay) -> None:
        origin = self._around.origin
        headers = decisions.piece_headers(self._stored, span.at, span.end, accept_gzip=False)
        async with origin.open(headers) as response:
            if response.status not in (200, 206, 416):
                raise await origin.refusal(response)
            head = decisions.read_head(response.status, response.headers, origin.source)
            try:
                decisions.check_piece(head, self._stored, span.at, Kind.ARCHIVE)
            except decisions.SentWhole:
                self._around.admit(await self._head_of(response))
                raise
            await self._read(response, span, may_stay)

    async def _head_of(self, response: aiohttp.ClientResponse) -> bytes:
        body, head = self._around.body(), b""
        while len(head) < gates.HEAD_BYTES and (chunk := await body.read(response)):
            head += chunk
        return head

    async def _read(self, response: aiohttp.ClientResponse, span: Span, may_stay: MayStay) -> None:
        """Read into the part what belongs to *span*, which may become shorter meanwhile."""
        block = _Block(span.at)
        body = self._around.body()
        try:
            while span.left and may_stay():
                chunk = await _next(body, response, span)
                self._take(chunk, span, block)
                if block.size_bytes >= (BLOCK_BYTES if self.has_begun else gates.HEAD_BYTES):
                    await self._write_behind(block)
                await body.pace(len(chunk))
        except gates.TurnedAway:
            raise
        except Failure:
            await self._finish(block, body.salvaged(response), span)
            raise
        except BaseException:  # cancelled: that outranks whatever writing the bytes brings to light
            with suppress(Failure):
                await self._finish(block, body.salvaged(response), span)
            raise
        await self._finish(block, body.salvaged(response) if span.left else b"", span)

    def _take(self, chunk: bytes, span: Span, block: _Block) -> None:
        fitting = chunk[: span.left]
        span.at += len(fitting)
        block.add(fitting)
        self._moved_bytes += len(fitting)
        self._around.progress(len(fitting))

    async def _write_behind(self, block: _Block) -> None:
        """Start to write what has come, once what came before it is written."""
        await block.settle()
        if not self.has_begun:
            await self._begin(block.head)
        block.writing = asyncio.ensure_future(self._write(*block.cut()))

    async def _begin(self, head: bytes) -> None:
        """Let the object in; who is cancelled meanwhile finds it done when its bytes are to be kept."""
        if self._beginning is None:
            self._around.admit(head)
            self._beginning = asyncio.ensure_future(self._around.begin())
        await asyncio.shield(self._beginning)
        self._begun.set()

    async def _write(self, start: int, chunks: list[bytes]) -> None:
        self.extents.append(await self._around.part.write_at(start, chunks))

    async def _finish(self, block: _Block, salvaged: bytes, span: Span) -> None:
        """Write what has come."""
        if salvaged:
            self._take(salvaged, span, block)
        await finished(self._write_rest(block))

    async def _write_rest(self, block: _Block) -> None:
        if block.size_bytes >= (1 if self.has_begun else gates.HEAD_BYTES):
            await self._write_behind(block)
        await block.settle()


async def _next(body: Body, response: aiohttp.ClientResponse, span: Span) -> bytes:
    chunk = await body.read(response)
    if not chunk:
        raise TransferFailure(Reason.TRUNCATED, f"the connection ended at byte {span.at}")
    return chunk


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
        return b"".join(self._chunks)[: gates.HEAD_BYTES]

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
