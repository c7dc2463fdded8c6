"""
One large object over several connections at once.

Each connection fetches spans that a Board hands out; what comes goes into its place (``landing.py``). A
connection that breaks off tries again by itself, by the same table as any transfer, while the others go
on. The first connection is always there; others come while spare permits are to be had and leave when
there are fewer, but none before the first bytes of a new object are let in. What passes with time and yet
one of them cannot get past (a server may want fewer of us) is its own end; for the first one, as what is
there for good is for any, it is the end of the attempt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial

import aiohttp

from bulkdl.errors import Failure, first_of
from bulkdl.http.retry import Verdict
from bulkdl.model import Extent, Kind, StoredObject
from bulkdl.reactions import REACTIONS, Step
from bulkdl.transfer import decisions, gates
from bulkdl.transfer.body import Body
from bulkdl.transfer.landing import Landing, MayStay, Reading
from bulkdl.transfer.patience import Patience
from bulkdl.transfer.permits import Permits
from bulkdl.transfer.ports import Origin, Part
from bulkdl.transfer.spans import Board, Span

_LOOK_S = 0.1
_PASSING = frozenset({Step.BACK_OFF, Step.RESIGN})


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
        landing: Where the bytes are.
    """

    def __init__(self, stored: StoredObject, extents: tuple[Extent, ...], around: Surroundings) -> None:
        if stored.total_bytes is None:
            raise ValueError("an object of unknown length cannot be divided")
        self.landing = Landing(around.part, extents, around.admit, around.begin)
        self._stored = stored
        self._around = around
        self._board = Board(stored.total_bytes, [(extent.start, extent.end) for extent in extents])
        self._extra = 0
        self._most_extra = around.connections - 1
        self._left = asyncio.Event()
        self._preparing = asyncio.Lock()
        self._moved_bytes = 0

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
                    self.landing.begun.set()
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
        await self.landing.begun.wait()
        await self._until_slow()
        while True:
            while self._extra >= self._most_extra or not self._board.has_piece:
                await self._one_has_left()
            await around.permits.acquire_spare()
            self._extra += 1
            stay = _Stay(around.permits)
            line = group.create_task(self._work_beside(stay), name=f"segment-{self._extra}")
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

    async def _work_beside(self, stay: _Stay) -> None:
        """What a further connection does; one that is of no use is not replaced."""
        try:
            await self._work(stay)
        except Failure as failure:
            if not failure.exhausted or REACTIONS[failure.reason].step not in _PASSING:
                raise
            self._most_extra -= 1

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
                await self._reading(response, span).read(_for_good)
            finally:
                response.close()  # it may go on with what others have fetched meanwhile
        except Failure as failure:
            if not self.landing.begun.is_set():
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
            await self._reading(response, span).read(may_stay)

    async def _head_of(self, response: aiohttp.ClientResponse) -> bytes:
        body, head = self._around.body(), b""
        while len(head) < gates.HEAD_BYTES and (chunk := await body.read(response)):
            head += chunk
        return head

    def _reading(self, response: aiohttp.ClientResponse, span: Span) -> Reading:
        return Reading(response, self._around.body(), span, self.landing, self._came)

    def _came(self, size_bytes: int) -> None:
        self._moved_bytes += size_bytes
        self._around.progress(size_bytes)
