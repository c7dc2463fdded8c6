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

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.errors import DownloadError, first_leaf_exception
from bulkdl.failure_policy import FAILURE_POLICIES, RetryAction
from bulkdl.http.retry import RetryDecision, RetryState
from bulkdl.models import Extent, Kind, RemoteObject
from bulkdl.transfer import response_rules, validation
from bulkdl.transfer.body_reader import BodyReader
from bulkdl.transfer.interfaces import PartialFilePort, RemoteFile
from bulkdl.transfer.segment_io import SegmentReader, SegmentWriter, ShouldContinue
from bulkdl.transfer.segment_scheduler import Segment, SegmentScheduler

_LOOK_S = 0.1
_PASSING = frozenset({RetryAction.BACK_OFF, RetryAction.RENEW_URL})


class _ConnectionPermit:
    """The spare permit of one connection: asked whether it is kept still, it yields if there are too many."""

    def __init__(self, permits: ConcurrencyLimiter) -> None:
        self._permits = permits
        self._kept = True

    def __call__(self) -> bool:
        self._kept = self._kept and not self._permits.release_if_over_limit()
        return self._kept

    def end(self) -> None:
        if self._kept:
            self._permits.release()


def _for_good() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class SegmentContext:
    """
    What the connections of one object share with the rest of its transfer.

    Attributes:
        segment_below_bytes_per_s: While the first connection is faster it stays the only one; 0: others come
            at once.
        body: Makes the reader of one response.
        admit: Lets an object in by its first bytes, or raises ContentRejected.
        begin: Makes the part ready for a new object, which has been let in.
        patience: Makes the judge of one connection's failures.
        progress: Called with the bytes that came just now.
        retried: Called when a connection is about to try again.
    """

    origin: RemoteFile
    part: PartialFilePort
    permits: ConcurrencyLimiter
    connections: int
    segment_below_bytes_per_s: float
    body: Callable[[], BodyReader]
    admit: Callable[[bytes], object]
    begin: Callable[[], Coroutine[None, None, None]]
    patience: Callable[[], RetryState]
    progress: Callable[[int], None]
    retried: Callable[[DownloadError, RetryDecision], None]
    sleep: Callable[[float], Awaitable[None]]


class Segments:
    """
    Attributes:
        landing: Where the bytes are.
    """

    def __init__(self, stored: RemoteObject, extents: tuple[Extent, ...], around: SegmentContext) -> None:
        if stored.total_bytes is None:
            raise ValueError("an object of unknown length cannot be divided")
        self.landing = SegmentWriter(around.part, extents, around.admit, around.begin)
        self._stored = stored
        self._around = around
        self._board = SegmentScheduler(stored.total_bytes, [(extent.start, extent.end) for extent in extents])
        self._extra = 0
        self._most_extra = around.connections - 1
        self._left = asyncio.Event()
        self._preparing = asyncio.Lock()
        self._downloaded_bytes = 0

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
                    self.landing.started.set()
                    await self._work_to_the_end()
                finally:
                    grow.cancel()
        except* DownloadError as failures:
            if worker is not None and worker.cancelling():  # which the TaskGroup of Python 3.11 forgets
                raise asyncio.CancelledError from None
            raise first_leaf_exception(failures) from None

    async def _grow(self, group: asyncio.TaskGroup) -> None:
        """Open further connections while there are spare permits, and something to do for them."""
        around = self._around
        await self.landing.started.wait()
        await self._until_slow()
        while True:
            while self._extra >= self._most_extra or not self._board.has_segment:
                await self._one_has_left()
            await around.permits.acquire_spare()
            self._extra += 1
            stay = _ConnectionPermit(around.permits)
            line = group.create_task(self._extra_connection(stay), name=f"segment-{self._extra}")
            line.add_done_callback(partial(self._on_connection_done, stay))

    async def _until_slow(self) -> None:
        """Leave one connection alone for as long as it is fast: others would cost more than they bring."""
        fast = self._around.segment_below_bytes_per_s
        while fast:
            before_bytes, began_s = self._downloaded_bytes, time.monotonic()
            await asyncio.sleep(_LOOK_S)
            if self._downloaded_bytes - before_bytes < fast * (time.monotonic() - began_s):
                return

    def _on_connection_done(self, stay: _ConnectionPermit, _line: asyncio.Task[None]) -> None:
        self._extra -= 1
        stay.end()
        self._left.set()

    async def _one_has_left(self) -> None:
        self._left.clear()
        await self._left.wait()

    async def _extra_connection(self, stay: _ConnectionPermit) -> None:
        """What a further connection does; one that is of no use is not replaced."""
        try:
            await self._work(stay)
        except DownloadError as failure:
            if not failure.retries_exhausted or FAILURE_POLICIES[failure.reason].action not in _PASSING:
                raise
            self._most_extra -= 1

    async def _work_to_the_end(self) -> None:
        """What the first connection does: the others may leave something behind."""
        await self._work(_for_good)
        while self._extra:
            await self._one_has_left()
            await self._work(_for_good)

    async def _work(self, may_stay: ShouldContinue) -> None:
        while may_stay():
            span = self._board.take()
            if span is None:
                return
            try:
                await self._fetch(span, may_stay)
            finally:
                self._board.finish(span)

    async def _read_first(self, response: aiohttp.ClientResponse) -> None:
        span = self._board.take_all()
        try:
            try:
                await self._reading(response, span).read(_for_good)
            finally:
                response.close()  # it may go on with what others have fetched meanwhile
        except DownloadError as failure:
            if not self.landing.started.is_set():
                raise
            await self._after(failure, self._around.patience(), address=0, progressed=True)
            await self._fetch(span, _for_good)
        finally:
            self._board.finish(span)

    async def _fetch(self, span: Segment, may_stay: ShouldContinue) -> None:
        patience = self._around.patience()
        while span.remaining_bytes and may_stay():
            before, address = span.offset, await self._address()
            try:
                await self._request_range(span, may_stay)
            except DownloadError as failure:
                await self._after(failure, patience, address=address, progressed=span.offset > before)

    async def _after(
        self, failure: DownloadError, patience: RetryState, *, address: int, progressed: bool
    ) -> None:
        """Wait until this connection may ask again, or raise what it cannot get past."""
        verdict = patience.record(failure, progressed=progressed)
        if verdict.action is RetryAction.RENEW_URL:
            self._around.origin.renew(address)
        elif verdict.action is not RetryAction.BACK_OFF:
            failure.retries_exhausted = verdict.action is RetryAction.GIVE_UP
            raise failure
        self._around.retried(failure, verdict)
        await self._around.sleep(verdict.delay_s)

    async def _address(self) -> int:
        async with self._preparing:
            try:
                return await self._around.origin.prepare()
            except DownloadError as failure:
                failure.retries_exhausted = True  # the API client has tried again itself
                raise

    async def _request_range(self, span: Segment, may_stay: ShouldContinue) -> None:
        origin = self._around.origin
        headers = response_rules.segment_headers(self._stored, span.offset, span.end, accept_gzip=False)
        async with origin.open(headers) as response:
            if response.status not in (200, 206, 416):
                raise await origin.error_from_response(response)
            head = response_rules.read_response_info(response.status, response.headers, origin.source)
            try:
                response_rules.check_segment_response(head, self._stored, span.offset, Kind.ARCHIVE)
            except response_rules.RangeIgnored:
                self._around.admit(await self._head_of(response))
                raise
            await self._reading(response, span).read(may_stay)

    async def _head_of(self, response: aiohttp.ClientResponse) -> bytes:
        body, head = self._around.body(), b""
        while len(head) < validation.HEAD_BYTES and (chunk := await body.read(response)):
            head += chunk
        return head

    def _reading(self, response: aiohttp.ClientResponse, span: Segment) -> SegmentReader:
        return SegmentReader(response, self._around.body(), span, self.landing, self._came)

    def _came(self, size_bytes: int) -> None:
        self._downloaded_bytes += size_bytes
        self._around.progress(size_bytes)
