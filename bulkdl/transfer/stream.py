"""
One object on its way into a part that grows at its end.

A body is gathered into blocks of 1 MiB. What fits into less than one block never becomes a part on
disk: it is committed in one step. Larger bodies are written behind the reading, and whatever has
come when an attempt breaks off is kept, as long as the server gave something to prove it by later.
"""

from __future__ import annotations

from contextlib import suppress

import aiohttp

from bulkdl.concurrency import shield_until_done
from bulkdl.errors import DestinationError, DownloadError, TransferError
from bulkdl.models import Output, Reason, RemoteObject, ResumeState, Validator
from bulkdl.transfer import validation
from bulkdl.transfer.body_reader import BLOCK_BYTES, BodyReader
from bulkdl.transfer.checksums import Digester
from bulkdl.transfer.context import TransferContext
from bulkdl.transfer.interfaces import Progress
from bulkdl.transfer.kept import CompleteBody, PartialDownload, check_complete


class StreamDownload:
    """
    Attributes:
        downloaded_bytes: Body bytes that came over the network, in all attempts.
    """

    def __init__(
        self, output: Output, kept: PartialDownload, context: TransferContext, progress: Progress
    ) -> None:
        self.downloaded_bytes = 0
        self._output = output
        self._kept = kept
        self._context = context
        self._progress = progress
        self._object = RemoteObject(None, Validator(), None)
        self._content_type = ""
        self._digester = Digester()
        self._suffix = ""
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._at_bytes = 0
        self._write_failed = False  # the part did not take a block: nothing may come behind it

    def begin(self, stored: RemoteObject, content_type: str) -> None:
        """Byte 0 of *stored* comes next."""
        self._reset_buffer(stored, 0)
        self._content_type = content_type
        self._digester = Digester(stored.digests)

    async def resume(self, state: ResumeState) -> None:
        """Have the digests and the suffix of the bytes that are kept; those behind them come next."""
        self._reset_buffer(state.object, state.offset)
        await self._kept.resume(state)
        if self._digester.at_bytes != state.offset or not self._suffix:
            part, digester = self._kept.part, Digester(state.object.digests)
            self._suffix = await self._kept.suffix(self._admit)
            await part.read(lambda stream: digester.read(stream, state.offset))
            self._digester = digester

    def _reset_buffer(self, stored: RemoteObject, at_bytes: int) -> None:
        self._object, self._at_bytes = stored, at_bytes
        self._block, self._block_bytes = [], 0
        self._write_failed = False

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
        body = self._context.new_body_reader(self._output, begun)
        try:
            await self._read_body(body, response, ceiling)
            check_complete(self._object, self._at_bytes)
            if self._block and self._digester.at_bytes:
                await self._store()
            await self._kept.part.flush_and_close()
        except DestinationError:  # what is in memory has nowhere to go
            with suppress(DownloadError):
                await self._kept.part.flush_and_close()
            raise
        except DownloadError:
            self._salvage(body.drain_buffered(response), ceiling)
            await self._save_partial(resumable)
            raise
        except BaseException:  # cancelled: that outranks whatever keeping the bytes brings to light
            self._salvage(body.drain_buffered(response), ceiling)
            with suppress(DownloadError):
                await self._save_partial(resumable)
            raise

    async def received(self) -> CompleteBody:
        """Return all of the object, once its body has been read; a small one is in memory."""
        body = b""
        if self._digester.at_bytes == 0:
            body = self._next_block()
            await self._kept.drop()
        return CompleteBody(self._object, self._suffix, self._digester, body)

    def _salvage(self, chunk: bytes, ceiling: int | None) -> None:
        with suppress(TransferError):
            self._accept_chunk(chunk, ceiling)

    async def _read_body(
        self, body: BodyReader, response: aiohttp.ClientResponse, ceiling: int | None
    ) -> None:
        goes_on = True
        while goes_on and (chunk := await body.read(response)):
            goes_on = self._accept_chunk(chunk, ceiling)
            if self._block_bytes >= BLOCK_BYTES:
                await self._store()
            if goes_on:
                await body.pace(len(chunk))

    def _accept_chunk(self, chunk: bytes, ceiling: int | None) -> bool:
        """
        Take in what may come of *chunk*.

        Returns:
            False when it goes beyond what was announced: the rest belongs to nobody, and whether the
            bytes before it are right is for the digest to say.
        """
        self.downloaded_bytes += len(chunk)
        fitting = chunk if ceiling is None else chunk[: max(0, ceiling - self._at_bytes)]
        if len(fitting) < len(chunk) and not (self._object.total_bytes and self._object.digests):
            announced = self._object.total_bytes is not None
            reason = Reason.UNEXPECTED_CONTENT if announced else Reason.TOO_LARGE
            raise TransferError(reason, f"more than {ceiling} bytes came")
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
            self._suffix = self._admit(block[: validation.HEAD_BYTES])
        self._block, self._block_bytes = [], 0
        self._digester.update(block)
        return block

    def _admit(self, head: bytes) -> str:
        return validation.check_magic_bytes(
            self._output.kind, head, self._content_type, has_digest=bool(self._object.digests)
        )

    async def _store(self) -> None:
        is_first = self._digester.at_bytes == 0
        await shield_until_done(self._hand_over(self._next_block(), is_first=is_first))

    async def _hand_over(self, block: bytes, *, is_first: bool) -> None:
        self._write_failed = True
        if is_first:
            await self._kept.begin(self._object)
        await self._kept.part.write(block)
        self._write_failed = False

    async def _save_partial(self, resumable: bool) -> None:
        """Leave what has come so that the next attempt, or the next run, can go on with it."""
        if not resumable:
            await self._kept.drop()
            return
        is_worth_it = self._digester.at_bytes or self._block_bytes >= validation.HEAD_BYTES
        try:
            if self._block and is_worth_it and not self._write_failed:
                await self._store()
        finally:
            await shield_until_done(self._kept.part.flush_and_close())
        if self._digester.at_bytes and not self._write_failed:
            self._kept.state = ResumeState(self._object, self._digester.at_bytes)
