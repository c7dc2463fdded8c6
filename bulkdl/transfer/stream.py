"""
Receive an object over one connection into a partial file that grows at its end.

The body is collected in blocks of 1 MiB. A body smaller than one block does not become a partial file: it is
committed in one step. Larger bodies are written while the next block is read. When an attempt ends early, the
received bytes are kept if the server sent a validator that can prove them later.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Self

from bulkdl.concurrency import shield_until_done
from bulkdl.errors import DestinationError, DownloadError, TransferError
from bulkdl.models import Reason, RemoteObject, ResumeState
from bulkdl.source_spec import HEAD_BYTES
from bulkdl.transfer import response_rules
from bulkdl.transfer.checksums import Digester
from bulkdl.transfer.context import BLOCK_BYTES, BodyReader, TransferContext
from bulkdl.transfer.partial_download import CompleteBody, PartialDownload, ReadPrefix, check_complete


class StreamReceiver:
    """
    Receives the rest of an object in one attempt.

    Args:
        stored: The object.
        content_type: Content-Type of the response; it is needed only at byte 0.
        prefix: Digests of the bytes that the partial file has; None at byte 0.
        resumable: Whether a later attempt can resume; otherwise received bytes are discarded on failure.
    """

    def __init__(
        self,
        partial: PartialDownload,
        context: TransferContext,
        stored: RemoteObject,
        *,
        content_type: str = "",
        prefix: ReadPrefix | None = None,
        resumable: bool,
    ) -> None:
        self._partial = partial
        self._context = context
        self._object = stored
        self._content_type = content_type
        self._resumable = resumable
        self._digester = prefix.digester if prefix else Digester(stored.digests)
        self._suffix = prefix.suffix if prefix else ""
        self._offset_bytes = self._digester.at_bytes
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._write_failed = False  # a block is missing in the file: no block may follow it

    @classmethod
    async def resume(cls, partial: PartialDownload, context: TransferContext, state: ResumeState) -> Self:
        """Return a receiver of the bytes after *state*, with the digests of the stored bytes."""
        await partial.resume(state)
        prefix = partial.prefix
        if prefix is None or prefix.digester.at_bytes != state.offset:
            digester = Digester(state.object.digests)
            suffix = await partial.read_suffix(state.object)
            await partial.file.read(lambda stream: digester.read(stream, state.offset))
            prefix = ReadPrefix(digester, suffix)
        return cls(partial, context, state.object, prefix=prefix, resumable=True)

    async def read(self, body: BodyReader | None) -> CompleteBody:
        """
        Read *body* to its end; None if no bytes are missing.

        Raises:
            DownloadError: The attempt failed. Received bytes are kept if the download is resumable.
        """
        if body is not None:
            await self._receive(body)
        data = b""
        if self._digester.at_bytes == 0:
            data = self._take_block()
            await self._partial.discard()
        return CompleteBody(self._object, self._suffix, self._digester, data)

    async def _receive(self, body: BodyReader) -> None:
        kind, total_bytes = self._partial.kind.name, self._object.total_bytes
        max_bytes = response_rules.max_body_bytes(kind, total_bytes, self._context.limits.max_bytes)
        try:
            await self._read_body(body, max_bytes)
            check_complete(self._object, self._offset_bytes)
            if self._block and self._digester.at_bytes:
                await self._store()
            await self._partial.file.flush_and_close()
        except DestinationError:  # the bytes in memory cannot be written
            with suppress(DownloadError):
                await self._partial.file.flush_and_close()
            raise
        except DownloadError:
            self._accept_buffered(body, max_bytes)
            await self._save_partial()
            raise
        except BaseException:  # the cancellation outranks a failure to save the bytes
            self._accept_buffered(body, max_bytes)
            with suppress(DownloadError):
                await self._save_partial()
            raise

    def _accept_buffered(self, body: BodyReader, max_bytes: int | None) -> None:
        with suppress(TransferError):
            self._accept_chunk(body.drain_buffered(), max_bytes)

    async def _read_body(self, body: BodyReader, max_bytes: int | None) -> None:
        has_more = True
        while has_more and (chunk := await body.read()):
            has_more = self._accept_chunk(chunk, max_bytes)
            if self._block_bytes >= BLOCK_BYTES:
                await self._store()

    def _accept_chunk(self, chunk: bytes, max_bytes: int | None) -> bool:
        """
        Add *chunk* to the block, up to *max_bytes* in all.

        Returns:
            False if the body is longer than announced. The excess is ignored, and the checksum decides
            whether the bytes before it are right.

        Raises:
            TransferError: The body is too long, and there is no checksum.
        """
        accepted = chunk if max_bytes is None else chunk[: max(0, max_bytes - self._offset_bytes)]
        if len(accepted) < len(chunk) and not (self._object.total_bytes and self._object.digests):
            self._partial.downloaded_bytes += len(chunk)
            is_announced = self._object.total_bytes is not None
            reason = Reason.UNEXPECTED_CONTENT if is_announced else Reason.TOO_LARGE
            raise TransferError(reason, f"the body is too long; expected at most {max_bytes} bytes")
        if accepted:
            self._offset_bytes += len(accepted)
            self._block.append(accepted)
            self._block_bytes += len(accepted)
            self._partial.record_received(self._offset_bytes, self._object.total_bytes, len(accepted))
        self._partial.downloaded_bytes += len(chunk) - len(accepted)
        return len(accepted) == len(chunk)

    def _take_block(self) -> bytes:
        """Return the collected bytes; check the magic bytes of the first block."""
        block = b"".join(self._block)
        if self._digester.at_bytes == 0:
            self._suffix = self._partial.check_magic_bytes(self._object, block, self._content_type)
        self._block, self._block_bytes = [], 0
        self._digester.update(block)
        return block

    async def _store(self) -> None:
        is_first = self._digester.at_bytes == 0
        await shield_until_done(self._write(self._take_block(), is_first=is_first))

    async def _write(self, block: bytes, *, is_first: bool) -> None:
        self._write_failed = True
        if is_first:
            await self._partial.create(self._object)
        await self._partial.file.write(block)
        self._write_failed = False

    async def _save_partial(self) -> None:
        """Keep the received bytes for the next attempt or the next run."""
        if not self._resumable:
            await shield_until_done(self._partial.discard())
            return
        is_worth_keeping = self._digester.at_bytes or self._block_bytes >= HEAD_BYTES
        try:
            if self._block and is_worth_keeping and not self._write_failed:
                await self._store()
        finally:
            await shield_until_done(self._partial.file.flush_and_close())
        if self._digester.at_bytes and not self._write_failed:
            state = ResumeState(self._object, self._digester.at_bytes)
            self._partial.save(state, ReadPrefix(self._digester, self._suffix))
