"""
The bytes of one output on their way to its final name: what one attempt does.

It asks for what is missing and sees what the answer means. The body goes into a part that grows at its
end (``growing.py``), or, if it is large, into one that is filled in several places at once
(``divided.py``). What has been received is checked and published here.
"""

from __future__ import annotations

import io

import aiohttp

from bulkdl.errors import Failure, SinkFailure, TransferFailure
from bulkdl.model import Output, PartState, Reason, Receipt, StoredObject
from bulkdl.reactions import REACTIONS, Step
from bulkdl.transfer import decisions, gates
from bulkdl.transfer.decisions import AskForStored, Begin, Continue, Head
from bulkdl.transfer.divided import Divided
from bulkdl.transfer.growing import Growing
from bulkdl.transfer.kept import Kept, Received
from bulkdl.transfer.means import Means
from bulkdl.transfer.ports import Name, Origin, Part, Progress, Retried


class Reception:
    """One output's attempts, one after another."""

    def __init__(
        self, output: Output, part: Part, means: Means, progress: Progress, retried: Retried
    ) -> None:
        self._output = output
        self._limits = means.limits
        self._kept = Kept(part)
        self._growing = Growing(output, self._kept, means, progress)
        self._divided = Divided(output, self._kept, means, progress, retried)
        self._accept_gzip = False

    @property
    def moved_bytes(self) -> int:
        """Body bytes that came over the network, in all attempts."""
        return self._growing.moved_bytes + self._divided.moved_bytes

    @property
    def resumed_from_bytes(self) -> int:
        """Bytes of an earlier run that the server proved to be still right."""
        return self._kept.resumed_from_bytes

    @property
    def kept_bytes(self) -> int:
        """Bytes that the next attempt need not fetch again."""
        return self._kept.at_bytes

    async def restore(self, origin: Origin) -> Receipt | None:
        """Take up what an earlier run has left; its receipt, if only recording it was missing."""
        receipt = await self._kept.look()
        if receipt is None or receipt.source != origin.source:
            return None
        self._kept.resumed_from_bytes = receipt.size_bytes
        return receipt

    async def restart_after(self, failure: Failure) -> None:
        """Drop what *failure* has made void: all that is kept, unless it was about bytes not let in."""
        if not isinstance(failure, gates.TurnedAway):
            await self._kept.drop()

    async def attempt(self, origin: Origin, name: Name) -> Receipt:
        """
        Bring the output to its full length, check it, and publish it.

        Raises:
            Failure: The attempt broke off; what is kept can be gone on with.
        """
        try:
            return await self._attempt(origin, name)
        except SinkFailure as failure:
            if REACTIONS[failure.reason].step is Step.BACK_OFF:
                await self._kept.reload()
            raise

    async def _attempt(self, origin: Origin, name: Name) -> Receipt:
        state = self._kept.state if origin.resumable else None
        if state is None or self._is_elsewhere(state, origin):
            received = await self._receive(origin, state)
        elif state.extents is not None:
            self._ceiling(state.object)
            received = await self._divided.go_on(origin, state)
        elif decisions.complete(state):
            await self._growing.go_on(state)
            received = await self._growing.received()
        else:
            received = await self._receive(origin, state)
        receipt = await self._publish(received, name)
        if not origin.resumable:
            await self._kept.release()
        return receipt

    def _is_elsewhere(self, state: PartState, origin: Origin) -> bool:
        """All is there, but of an object at another place: whether this is the same one must be asked."""
        return decisions.complete(state) and state.object.source != origin.source

    async def _receive(self, origin: Origin, state: PartState | None) -> Received:
        headers = decisions.request_headers(state, accept_gzip=self._accept_gzip)
        async with origin.open(headers) as response:
            if response.status not in (200, 206, 416):
                raise await origin.refusal(response)
            head = decisions.read_head(response.status, response.headers, origin.source)
            decision = decisions.decide(head, state, self._output.kind, accept_gzip=self._accept_gzip)
            if not isinstance(decision, AskForStored):
                return await self._take_in(origin, response, head, decision, state)
        self._accept_gzip = True
        return await self._receive(origin, state)

    async def _take_in(
        self,
        origin: Origin,
        response: aiohttp.ClientResponse,
        head: Head,
        decision: Begin | Continue,
        state: PartState | None,
    ) -> Received:
        ceiling = self._ceiling(decision.object)
        if isinstance(decision, Begin) and self._is_divisible(head, origin):
            return await self._divided.begin(origin, decision.object, response)
        if isinstance(decision, Begin) or state is None:
            self._growing.begin(decision.object, head.content_type)
        else:
            await self._growing.go_on(PartState(decision.object, state.at_bytes))
        await self._growing.read(response, origin.begun, ceiling, resumable=origin.resumable)
        return await self._growing.received()

    def _is_divisible(self, head: Head, origin: Origin) -> bool:
        least_bytes = self._limits.segment_bytes
        return self._divided.may_begin and origin.resumable and decisions.divisible(head, least_bytes)

    def _ceiling(self, stored: StoredObject) -> int | None:
        return decisions.ceiling_bytes(self._output.kind, stored.total_bytes, self._limits.ceilings)

    async def _inspect(self, received: Received) -> None:
        kind, size_bytes, body = self._output.kind, received.size_bytes, received.body
        if len(body) == size_bytes and gates.soon_inspected(kind, size_bytes):
            gates.inspect(kind, io.BytesIO(body), size_bytes)
        else:
            await self._kept.part.read(lambda stream: gates.inspect(kind, stream, size_bytes), body)

    async def _publish(self, received: Received, name: Name) -> Receipt:
        kind, stored, digester = self._output.kind, received.object, received.digester
        wrong = digester.contradicts(stored.digests)
        if wrong is not None:
            raise TransferFailure(Reason.DIGEST_MISMATCH, f"the server told {wrong}, the bytes are others")
        size_bytes, part = received.size_bytes, self._kept.part
        if gates.needs_inspection(kind, has_digest=bool(stored.digests)):
            await self._inspect(received)
        receipt = Receipt(name(received.suffix), size_bytes, digester.crc32c, stored.validator, stored.source)
        await part.commit(receipt, received.body)
        return receipt
