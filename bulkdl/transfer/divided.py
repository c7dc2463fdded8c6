"""
One object on its way into a part that is filled in several places at once.

Its connections are the affair of ``segments.py``; here is what comes before and after them: the part,
what of it is kept when an attempt breaks off, and the digests over all pieces.
"""

from __future__ import annotations

import aiohttp

from bulkdl.errors import DownloadError
from bulkdl.models import Extent, Output, Reason, RemoteObject, ResumeState
from bulkdl.transfer import validation
from bulkdl.transfer.checksums import Digester, needs_md5
from bulkdl.transfer.context import TransferContext
from bulkdl.transfer.interfaces import Progress, RemoteFile, RetryCallback
from bulkdl.transfer.kept import CompleteBody, PartialDownload, check_complete
from bulkdl.transfer.segments import SegmentContext, Segments


class SegmentedDownload:
    """
    Attributes:
        downloaded_bytes: Body bytes that came over the network, in all attempts.
        may_begin: Whether an object may be divided; not any more once its pieces did not fit together.
    """

    def __init__(
        self,
        output: Output,
        kept: PartialDownload,
        context: TransferContext,
        progress: Progress,
        retried: RetryCallback,
    ) -> None:
        self.downloaded_bytes = 0
        self.may_begin = context.limits.connections > 1
        self._output = output
        self._kept = kept
        self._context = context
        self._progress = progress
        self._retried = retried
        self._object: RemoteObject
        self._at_bytes = 0

    async def begin(
        self, origin: RemoteFile, stored: RemoteObject, response: aiohttp.ClientResponse
    ) -> CompleteBody:
        """
        Bring all of *stored*; *response* is one for the whole whose body has not been read.

        Raises:
            ContentRejected: It begins like something else; what is kept stays.
        """
        return await self._receive(origin, ResumeState(stored, 0, ()), response)

    async def resume(self, origin: RemoteFile, state: ResumeState) -> CompleteBody:
        """Bring what is missing."""
        await self._kept.resume(state)
        return await self._receive(origin, state, None)

    async def _receive(
        self, origin: RemoteFile, state: ResumeState, first: aiohttp.ClientResponse | None
    ) -> CompleteBody:
        self._object = state.object
        segments = Segments(state.object, state.extents or (), self._around(origin))
        landing = segments.landing
        self._at_bytes = landing.at_bytes
        try:
            await segments.receive(first)
        except DownloadError as failure:
            self.may_begin = self.may_begin and failure.reason is not Reason.OBJECT_CHANGED
            raise
        finally:
            if landing.started.is_set():
                extents = tuple(sorted(landing.extents, key=_start))
                self._kept.state = state = ResumeState(state.object, landing.at_bytes, extents)
        return await self._received(state)

    def _around(self, origin: RemoteFile) -> SegmentContext:
        context = self._context
        return SegmentContext(
            origin,
            self._kept.part,
            context.permits,
            context.limits.connections,
            context.limits.segment_below_bytes_per_s,
            body=lambda: context.new_body_reader(self._output),
            admit=self._admit,
            begin=self._begin_part,
            patience=context.new_retry_state,
            progress=self._came,
            retried=self._retried,
            sleep=context.sleep,
        )

    def _came(self, size_bytes: int) -> None:
        self.downloaded_bytes += size_bytes
        self._at_bytes += size_bytes
        self._progress(self._at_bytes, self._object.total_bytes, size_bytes)

    async def _begin_part(self) -> None:
        await self._kept.begin(self._object, divided=True)

    def _admit(self, block: bytes) -> str:
        has_digest = bool(self._object.digests)
        return validation.check_magic_bytes(
            self._output.kind, block[: validation.HEAD_BYTES], "", has_digest=has_digest
        )

    async def _received(self, state: ResumeState) -> CompleteBody:
        part, stored = self._kept.part, state.object
        check_complete(stored, state.offset)
        suffix = await self._kept.suffix(self._admit)
        if needs_md5(stored.digests):
            digester = Digester(stored.digests)
            await part.read(lambda stream: digester.read(stream, state.offset))
        else:
            digester = Digester.of_extents(state.extents or ())
        return CompleteBody(stored, suffix, digester)


def _start(extent: Extent) -> int:
    return extent.start
