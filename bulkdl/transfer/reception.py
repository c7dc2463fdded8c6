"""
The bytes of one output on their way into its part: what one attempt does.

A body is gathered into blocks of 1 MiB. What fits into less than one block never becomes a part on
disk: it is committed in one step. Larger bodies are written behind the reading, and whatever has
come when an attempt breaks off is kept, as long as the server gave something to prove it by later.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp

from bulkdl.errors import Failure, SinkFailure, TransferFailure
from bulkdl.http.pace import Pace
from bulkdl.http.retry import RetryPolicy
from bulkdl.http.speed import SpeedFloor
from bulkdl.model import Extent, Kind, Output, PartState, Reason, Receipt, StoredObject, Validator
from bulkdl.transfer import decisions, gates
from bulkdl.transfer.body import BLOCK_BYTES, Body
from bulkdl.transfer.decisions import AskForStored, Begin
from bulkdl.transfer.digests import Digester, needs_md5
from bulkdl.transfer.patience import Patience
from bulkdl.transfer.permits import Permits
from bulkdl.transfer.ports import Name, Origin, Part, Progress, Retried
from bulkdl.transfer.segments import Segments, Surroundings


@dataclass(frozen=True, slots=True)
class Limits:
    """
    Bounds on one body.

    Attributes:
        speed_limit_bytes_per_s: Slower than this for *speed_time_s* is a stall.
        ceilings: Most bytes for the kinds whose length nobody need announce.
        segment_bytes: From this size on an object may come over several connections.
        connections: How many at most.
    """

    speed_limit_bytes_per_s: float = 1024
    speed_time_s: float = 30
    ceilings: Mapping[Kind, int] = field(default_factory=dict)
    segment_bytes: int = 64 << 20
    connections: int = 8


@dataclass(frozen=True, slots=True)
class Means:
    """
    What all transfers share.

    Attributes:
        bandwidth: The pace of body bytes.
        permits: How many connections to the storage there may be.
        rand: Spreads the waits between attempts.
    """

    limits: Limits
    policy: RetryPolicy
    bandwidth: Pace
    permits: Permits
    rand: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def patience(self) -> Patience:
        return Patience(self.policy, self.rand)


class Reception:
    """
    Attributes:
        moved_bytes: Body bytes that came over the network, in all attempts.
        resumed_from_bytes: Bytes of an earlier run that the server proved to be still right.
        kept_bytes: Bytes that the next attempt need not fetch again.
    """

    def __init__(
        self, output: Output, part: Part, means: Means, progress: Progress, retried: Retried
    ) -> None:
        self.moved_bytes = 0
        self.resumed_from_bytes = 0
        self._output = output
        self._part = part
        self._means = means
        self._retried = retried
        self._progress = progress
        self._state: PartState | None = None
        self._in_part = False
        self._is_storing = False
        self._accept_gzip = False
        self._may_divide = means.limits.connections > 1
        self._digester = Digester()
        self._suffix = ""
        self._content_type = ""
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._at_bytes = 0
        self._object = StoredObject(None, Validator(), None)

    @property
    def kept_bytes(self) -> int:
        return self._state.at_bytes if self._state and decisions.continuable(self._state) else 0

    async def restore(self, origin: Origin) -> Receipt | None:
        """Take up what an earlier run has left; its receipt, if only recording it was missing."""
        found = await self._part.look()
        self._in_part = found is not None
        if isinstance(found, Receipt):
            if found.source != origin.source:
                return None
            self.resumed_from_bytes = found.size_bytes
            return found
        self._state = found
        self.resumed_from_bytes = self.kept_bytes
        return None

    async def restart(self) -> None:
        """Drop what is there and begin at zero next time."""
        await self._empty_part()
        self._state = None
        self.resumed_from_bytes = 0

    async def _empty_part(self) -> None:
        if self._in_part:
            await self._part.discard()
            self._in_part = False

    async def attempt(self, origin: Origin, name: Name) -> Receipt:
        """
        Bring the output to its full length, check it, and publish it.

        Raises:
            Failure: The attempt broke off; what is kept can be gone on with.
        """
        state = self._state if origin.resumable else None
        if state is not None and state.extents is not None:
            await self._receive_pieces(origin, state.object, state.extents, None)
        elif state is not None and decisions.complete(state) and state.object.source == origin.source:
            await self._go_on(state)
        else:
            await self._receive(origin, state)
        receipt = await self._publish(name)
        if self._in_part and not origin.resumable:
            await self._part.release()  # nobody will ever look for it
        return receipt

    async def _receive(self, origin: Origin, state: PartState | None) -> None:
        headers = decisions.request_headers(state, accept_gzip=self._accept_gzip)
        async with origin.open(headers) as response:
            if response.status not in (200, 206, 416):
                raise await origin.refusal(response)
            head = decisions.read_head(response.status, response.headers, origin.source)
            decision = decisions.decide(head, state, self._output.kind, accept_gzip=self._accept_gzip)
            if not isinstance(decision, AskForStored):
                self._content_type = head.content_type
                if isinstance(decision, Begin) or state is None:
                    await self._begin(decision.object)
                    if self._may_divide and decisions.divisible(head, self._means.limits.segment_bytes):
                        await self._divide(origin, response)
                        return
                else:
                    await self._go_on(PartState(decision.object, state.at_bytes))
                await self._read_body(response, origin)
                return
        self._accept_gzip = True
        await self._receive(origin, state)

    async def _divide(self, origin: Origin, response: aiohttp.ClientResponse) -> None:
        self._in_part = True
        await self._part.begin(self._object, divided=True)
        await self._receive_pieces(origin, self._object, (), response)

    async def _receive_pieces(
        self,
        origin: Origin,
        stored: StoredObject,
        extents: tuple[Extent, ...],
        first: aiohttp.ClientResponse | None,
    ) -> None:
        means = self._means
        around = Surroundings(
            origin,
            self._part,
            means.permits,
            means.limits.connections,
            body=self._body,
            admit=lambda block: self._admit(block[: gates.HEAD_BYTES]),
            patience=means.patience,
            progress=self._piece_came,
            retried=self._retried,
            sleep=means.sleep,
        )
        segments = Segments(stored, extents, around)
        self._object, self._at_bytes = stored, segments.at_bytes
        try:
            await segments.receive(first)
        except Failure as failure:
            self._may_divide = failure.reason is not Reason.OBJECT_CHANGED
            raise
        finally:
            self._state = PartState(stored, segments.at_bytes, tuple(sorted(segments.extents, key=_start)))
        await self._digest_pieces(self._state)

    async def _digest_pieces(self, state: PartState) -> None:
        head = await self._part.read(lambda stream: stream.read(gates.HEAD_BYTES))
        self._suffix = self._admit(head)
        self._at_bytes = state.at_bytes
        self._refuse_truncated()
        if needs_md5(state.object.digests):
            self._digester = digester = Digester(state.object.digests)
            await self._part.read(lambda stream: digester.read(stream, state.at_bytes))
        else:
            self._digester = Digester.of_extents(state.extents or ())

    def _piece_came(self, size_bytes: int) -> None:
        self.moved_bytes += size_bytes
        self._at_bytes += size_bytes
        self._progress(self._at_bytes, self._object.total_bytes, size_bytes)

    def _body(self) -> Body:
        limits = self._means.limits
        floor = SpeedFloor(limits.speed_limit_bytes_per_s, limits.speed_time_s)
        return Body(str(self._output), floor, self._means.bandwidth)

    async def _begin(self, stored: StoredObject) -> None:
        await self._empty_part()
        self._object, self._state, self._is_storing = stored, None, False
        self._digester = Digester(stored.digests)
        self._at_bytes, self.resumed_from_bytes = 0, 0
        self._block, self._block_bytes = [], 0

    async def _go_on(self, state: PartState) -> None:
        """Have the digests and the suffix of the bytes that are kept."""
        self._object, self._at_bytes = state.object, state.at_bytes
        self._block, self._block_bytes = [], 0
        if self._digester.at_bytes != state.at_bytes or not self._suffix:
            digester = Digester(state.object.digests)
            head = await self._part.read(lambda stream: stream.read(gates.HEAD_BYTES))
            self._suffix = self._admit(head)
            await self._part.read(lambda stream: digester.read(stream, state.at_bytes))
            self._digester = digester

    async def _read_body(self, response: aiohttp.ClientResponse, origin: Origin) -> None:
        ceiling = decisions.ceiling_bytes(
            self._output.kind, self._object.total_bytes, self._means.limits.ceilings
        )
        body = self._body()
        try:
            await self._gather(body, response, ceiling)
            self._refuse_truncated()
            await self._part.pause()
        except SinkFailure:  # what is in memory has nowhere to go
            with suppress(Failure):
                await self._part.pause()
            raise
        except Failure:
            self._salvage(body.salvaged(response), ceiling)
            await self._keep(origin)
            raise
        except BaseException:  # cancelled: that outranks whatever keeping the bytes brings to light
            self._salvage(body.salvaged(response), ceiling)
            with suppress(Failure):
                await self._keep(origin)
            raise

    def _refuse_truncated(self) -> None:
        total_bytes = self._object.total_bytes
        if total_bytes is not None and self._at_bytes != total_bytes:
            raise TransferFailure(Reason.TRUNCATED, f"{self._at_bytes} of {total_bytes} bytes came")

    def _salvage(self, chunk: bytes, ceiling: int | None) -> None:
        with suppress(TransferFailure):
            self._take(chunk, ceiling)

    async def _gather(self, body: Body, response: aiohttp.ClientResponse, ceiling: int | None) -> None:
        goes_on = True
        while goes_on and (chunk := await body.read(response)):
            goes_on = self._take(chunk, ceiling)
            if self._block_bytes >= BLOCK_BYTES:
                await self._store()
            if goes_on:
                await body.pace(len(chunk))

    def _take(self, chunk: bytes, ceiling: int | None) -> bool:
        """
        Take in what may come of *chunk*.

        Returns:
            False when it goes beyond what was announced: the rest belongs to nobody, and whether the
            bytes before it are right is for the digest to say.
        """
        self.moved_bytes += len(chunk)
        fitting = chunk if ceiling is None else chunk[: ceiling - self._at_bytes]
        if len(fitting) < len(chunk) and not (self._object.total_bytes and self._object.digests):
            announced = self._object.total_bytes is not None
            reason = Reason.WRONG_CONTENT if announced else Reason.TOO_LARGE
            raise TransferFailure(reason, f"more than {ceiling} bytes came")
        if fitting:
            self._at_bytes += len(fitting)
            self._block.append(fitting)
            self._block_bytes += len(fitting)
            self._progress(self._at_bytes, self._object.total_bytes, len(fitting))
        return len(fitting) == len(chunk)

    def _next_block(self) -> bytes:
        block = b"".join(self._block)
        if self._digester.at_bytes == 0:
            self._suffix = self._admit(block[: gates.HEAD_BYTES])
        self._block, self._block_bytes = [], 0
        self._digester.update(block)
        return block

    def _admit(self, head: bytes) -> str:
        return gates.admit(self._output.kind, head, self._content_type, has_digest=bool(self._object.digests))

    async def _store(self) -> None:
        first = self._digester.at_bytes == 0
        block = self._next_block()
        self._is_storing = True  # until the part has the block: whoever is stopped in between has lost it
        if first:
            self._in_part = True
            await self._part.begin(self._object)
        await self._part.write(block)
        self._is_storing = False

    async def _keep(self, origin: Origin) -> None:
        """Leave what has come so that the next attempt, or the next run, can go on with it."""
        if not origin.resumable:
            await self._empty_part()
            return
        if self._is_storing:
            await self._part.pause()
            return
        if self._block and (self._digester.at_bytes or self._block_bytes >= gates.HEAD_BYTES):
            await self._store()
        await self._part.pause()
        if self._digester.at_bytes:
            self._state = PartState(self._object, self._digester.at_bytes)

    async def _publish(self, name: Name) -> Receipt:
        tail = self._next_block() if self._block else b""
        wrong = self._digester.contradicts(self._object.digests)
        if wrong is not None:
            raise TransferFailure(Reason.DIGEST_MISMATCH, f"the server told {wrong}, the bytes are others")
        kind, size_bytes = self._output.kind, self._at_bytes
        if size_bytes == 0:
            self._admit(b"")
        if gates.needs_inspection(kind, has_digest=bool(self._object.digests)):
            await self._part.read(lambda stream: gates.inspect(kind, stream, size_bytes), tail)
        stored = self._object
        receipt = Receipt(
            name(self._suffix), size_bytes, self._digester.crc32c, stored.validator, stored.source
        )
        await self._part.commit(receipt, tail)
        return receipt


def _start(extent: Extent) -> int:
    return extent.start
