"""
One object on its way into a part that grows at its end.

A body is gathered into blocks of 1 MiB. What fits into less than one block never becomes a part on
disk: it is committed in one step. Larger bodies are written behind the reading, and whatever has
come when an attempt breaks off is kept, as long as the server gave something to prove it by later.
"""

from __future__ import annotations

from contextlib import suppress

import aiohttp

from bulkdl.errors import Failure, SinkFailure, TransferFailure
from bulkdl.model import Output, PartState, Reason, StoredObject, Validator
from bulkdl.transfer import gates
from bulkdl.transfer.body import BLOCK_BYTES, Body
from bulkdl.transfer.digests import Digester
from bulkdl.transfer.finishing import finished
from bulkdl.transfer.kept import Kept, Received, refuse_truncated
from bulkdl.transfer.means import Means
from bulkdl.transfer.ports import Progress


class Growing:
    """
    Attributes:
        moved_bytes: Body bytes that came over the network, in all attempts.
    """

    def __init__(self, output: Output, kept: Kept, means: Means, progress: Progress) -> None:
        self.moved_bytes = 0
        self._output = output
        self._kept = kept
        self._means = means
        self._progress = progress
        self._object = StoredObject(None, Validator(), None)
        self._content_type = ""
        self._digester = Digester()
        self._suffix = ""
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._at_bytes = 0
        self._has_gap = False  # the part did not take a block: nothing may come behind it

    def begin(self, stored: StoredObject, content_type: str) -> None:
        """Byte 0 of *stored* comes next."""
        self._expect(stored, 0)
        self._content_type = content_type
        self._digester = Digester(stored.digests)

    async def go_on(self, state: PartState) -> None:
        """Have the digests and the suffix of the bytes that are kept; those behind them come next."""
        self._expect(state.object, state.at_bytes)
        await self._kept.resume(state)
        if self._digester.at_bytes != state.at_bytes or not self._suffix:
            part, digester = self._kept.part, Digester(state.object.digests)
            self._suffix = await self._kept.suffix(self._admit)
            await part.read(lambda stream: digester.read(stream, state.at_bytes))
            self._digester = digester

    def _expect(self, stored: StoredObject, at_bytes: int) -> None:
        self._object, self._at_bytes = stored, at_bytes
        self._block, self._block_bytes = [], 0
        self._has_gap = False

    async def read(
        self, response: aiohttp.ClientResponse, begun: bytes, ceiling: int | None, *, resumable: bool
    ) -> None:
        """
        Read a body to its end.

        Args:
            begun: Has been read of it already.
            ceiling: As many bytes may come in all.

        Raises:
            Failure: It broke off; what has come is kept if its origin is *resumable*.
        """
        body = self._means.body_of(self._output, begun)
        try:
            await self._gather(body, response, ceiling)
            refuse_truncated(self._object, self._at_bytes)
            if self._block and self._digester.at_bytes:
                await self._store()
            await self._kept.part.pause()
        except SinkFailure:  # what is in memory has nowhere to go
            with suppress(Failure):
                await self._kept.part.pause()
            raise
        except Failure:
            self._salvage(body.salvaged(response), ceiling)
            await self._keep(resumable)
            raise
        except BaseException:  # cancelled: that outranks whatever keeping the bytes brings to light
            self._salvage(body.salvaged(response), ceiling)
            with suppress(Failure):
                await self._keep(resumable)
            raise

    async def received(self) -> Received:
        """Return all of the object, once its body has been read; a small one is in memory."""
        body = b""
        if self._digester.at_bytes == 0:
            body = self._next_block()
            await self._kept.drop()
        return Received(self._object, self._suffix, self._digester, body)

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
        fitting = chunk if ceiling is None else chunk[: max(0, ceiling - self._at_bytes)]
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
        """What has been gathered; the first block only if it is let in."""
        block = b"".join(self._block)
        if self._digester.at_bytes == 0:
            self._suffix = self._admit(block[: gates.HEAD_BYTES])
        self._block, self._block_bytes = [], 0
        self._digester.update(block)
        return block

    def _admit(self, head: bytes) -> str:
        return gates.admit(self._output.kind, head, self._content_type, has_digest=bool(self._object.digests))

    async def _store(self) -> None:
        is_first = self._digester.at_bytes == 0
        await finished(self._hand_over(self._next_block(), is_first=is_first))

    async def _hand_over(self, block: bytes, *, is_first: bool) -> None:
        self._has_gap = True
        if is_first:
            await self._kept.begin(self._object)
        await self._kept.part.write(block)
        self._has_gap = False

    async def _keep(self, resumable: bool) -> None:
        """Leave what has come so that the next attempt, or the next run, can go on with it."""
        if not resumable:
            await self._kept.drop()
            return
        is_worth_it = self._digester.at_bytes or self._block_bytes >= gates.HEAD_BYTES
        try:
            if self._block and is_worth_it and not self._has_gap:
                await self._store()
        finally:
            await finished(self._kept.part.pause())
        if self._digester.at_bytes and not self._has_gap:
            self._kept.state = PartState(self._object, self._digester.at_bytes)
