"""
The bytes of one output on their way to its final name: what one attempt does.

It asks for what is missing and sees what the answer means. The body goes into a part that grows at its
end (``growing.py``), or, if it is large, into one that is filled in several places at once
(``divided.py``). What has been received is checked and published here.
"""

from __future__ import annotations

import io

import aiohttp

from bulkdl.errors import DestinationError, DownloadError, TransferError
from bulkdl.failure_policy import FAILURE_POLICIES, RetryAction
from bulkdl.models import CommittedFile, Output, Reason, RemoteObject, ResumeState
from bulkdl.transfer import response_rules, validation
from bulkdl.transfer.context import TransferContext
from bulkdl.transfer.divided import SegmentedDownload
from bulkdl.transfer.interfaces import Name, PartialFilePort, Progress, RemoteFile, RetryCallback
from bulkdl.transfer.kept import CompleteBody, PartialDownload
from bulkdl.transfer.response_rules import ContinueBody, ResponseInfo, RetryAcceptingGzip, StartBody
from bulkdl.transfer.stream import StreamDownload


class Download:
    """One output's attempts, one after another."""

    def __init__(
        self,
        output: Output,
        part: PartialFilePort,
        context: TransferContext,
        progress: Progress,
        retried: RetryCallback,
    ) -> None:
        self._output = output
        self._limits = context.limits
        self._kept = PartialDownload(part)
        self._growing = StreamDownload(output, self._kept, context, progress)
        self._divided = SegmentedDownload(output, self._kept, context, progress, retried)
        self._accept_gzip = False

    @property
    def downloaded_bytes(self) -> int:
        """Body bytes that came over the network, in all attempts."""
        return self._growing.downloaded_bytes + self._divided.downloaded_bytes

    @property
    def resumed_from_bytes(self) -> int:
        """Bytes of an earlier run that the server proved to be still right."""
        return self._kept.resumed_from_bytes

    @property
    def kept_bytes(self) -> int:
        """Bytes that the next attempt need not fetch again."""
        return self._kept.at_bytes

    async def restore(self, origin: RemoteFile) -> CommittedFile | None:
        """Take up what an earlier run has left; its receipt, if only recording it was missing."""
        receipt = await self._kept.look()
        if receipt is None or receipt.source != origin.source:
            return None
        self._kept.resumed_from_bytes = receipt.size_bytes
        return receipt

    async def restart_after(self, failure: DownloadError) -> None:
        """Drop what *failure* has made void: all that is kept, unless it was about bytes not let in."""
        if not isinstance(failure, validation.ContentRejected):
            await self._kept.drop()

    async def attempt(self, origin: RemoteFile, name: Name) -> CommittedFile:
        """
        Bring the output to its full length, check it, and publish it.

        Raises:
            Failure: The attempt broke off; what is kept can be gone on with.
        """
        try:
            return await self._attempt(origin, name)
        except DestinationError as failure:
            if FAILURE_POLICIES[failure.reason].action is RetryAction.BACK_OFF:
                await self._kept.reload()
            raise

    async def _attempt(self, origin: RemoteFile, name: Name) -> CommittedFile:
        state = self._kept.state if origin.resumable else None
        if state is None or self._is_elsewhere(state, origin):
            received = await self._receive(origin, state)
        elif state.extents is not None:
            self._ceiling(state.object)
            received = await self._divided.resume(origin, state)
        elif response_rules.is_complete(state):
            await self._growing.resume(state)
            received = await self._growing.received()
        else:
            received = await self._receive(origin, state)
        receipt = await self._publish(received, name)
        if not origin.resumable:
            await self._kept.release()
        return receipt

    def _is_elsewhere(self, state: ResumeState, origin: RemoteFile) -> bool:
        """All is there, but of an object at another place: whether this is the same one must be asked."""
        return response_rules.is_complete(state) and state.object.source != origin.source

    async def _receive(self, origin: RemoteFile, state: ResumeState | None) -> CompleteBody:
        headers = response_rules.request_headers(state, accept_gzip=self._accept_gzip)
        async with origin.open(headers) as response:
            if response.status not in (200, 206, 416):
                raise await origin.error_from_response(response)
            head = response_rules.read_response_info(response.status, response.headers, origin.source)
            decision = response_rules.decide(head, state, self._output.kind, accept_gzip=self._accept_gzip)
            if not isinstance(decision, RetryAcceptingGzip):
                return await self._download_body(origin, response, head, decision, state)
        self._accept_gzip = True
        return await self._receive(origin, state)

    async def _download_body(
        self,
        origin: RemoteFile,
        response: aiohttp.ClientResponse,
        head: ResponseInfo,
        decision: StartBody | ContinueBody,
        state: ResumeState | None,
    ) -> CompleteBody:
        ceiling = self._ceiling(decision.object)
        if isinstance(decision, StartBody) and self._is_divisible(head, origin):
            return await self._divided.begin(origin, decision.object, response)
        if isinstance(decision, StartBody) or state is None:
            self._growing.begin(decision.object, head.content_type)
        else:
            await self._growing.resume(ResumeState(decision.object, state.offset))
        await self._growing.read(response, origin.prefetched, ceiling, resumable=origin.resumable)
        return await self._growing.received()

    def _is_divisible(self, head: ResponseInfo, origin: RemoteFile) -> bool:
        least_bytes = self._limits.segment_bytes
        return (
            self._divided.may_begin
            and origin.resumable
            and response_rules.supports_segments(head, least_bytes)
        )

    def _ceiling(self, stored: RemoteObject) -> int | None:
        return response_rules.max_body_bytes(self._output.kind, stored.total_bytes, self._limits.ceilings)

    async def _inspect(self, received: CompleteBody) -> None:
        kind, size_bytes, body = self._output.kind, received.size_bytes, received.body
        if len(body) == size_bytes and validation.is_cheap_to_validate(kind, size_bytes):
            validation.validate_content(kind, io.BytesIO(body), size_bytes)
        else:
            await self._kept.part.read(
                lambda stream: validation.validate_content(kind, stream, size_bytes), body
            )

    async def _publish(self, received: CompleteBody, name: Name) -> CommittedFile:
        kind, stored, digester = self._output.kind, received.object, received.digester
        wrong = digester.find_mismatch(stored.digests)
        if wrong is not None:
            raise TransferError(Reason.CHECKSUM_MISMATCH, f"the server told {wrong}, the bytes are others")
        size_bytes, part = received.size_bytes, self._kept.part
        if validation.needs_validation(kind, has_digest=bool(stored.digests)):
            await self._inspect(received)
        receipt = CommittedFile(
            name(received.suffix), size_bytes, digester.crc32c, stored.validator, stored.source
        )
        await part.commit(receipt, received.body)
        return receipt
