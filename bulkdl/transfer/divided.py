"""
One object on its way into a part that is filled in several places at once.

Its connections are the affair of ``segments.py``; here is what comes before and after them: the part,
what of it is kept when an attempt breaks off, and the digests over all pieces.
"""

from __future__ import annotations

import aiohttp

from bulkdl.errors import Failure
from bulkdl.model import Extent, Output, PartState, Reason, StoredObject
from bulkdl.transfer import gates
from bulkdl.transfer.digests import Digester, needs_md5
from bulkdl.transfer.kept import Kept, Received, refuse_truncated
from bulkdl.transfer.means import Means
from bulkdl.transfer.ports import Origin, Progress, Retried
from bulkdl.transfer.segments import Segments, Surroundings


class Divided:
    """
    Attributes:
        moved_bytes: Body bytes that came over the network, in all attempts.
        may_begin: Whether an object may be divided; not any more once its pieces did not fit together.
    """

    def __init__(
        self, output: Output, kept: Kept, means: Means, progress: Progress, retried: Retried
    ) -> None:
        self.moved_bytes = 0
        self.may_begin = means.limits.connections > 1
        self._output = output
        self._kept = kept
        self._means = means
        self._progress = progress
        self._retried = retried
        self._object: StoredObject
        self._at_bytes = 0

    async def begin(self, origin: Origin, stored: StoredObject, response: aiohttp.ClientResponse) -> Received:
        """
        Bring all of *stored*; *response* is one for the whole whose body has not been read.

        Raises:
            TurnedAway: It begins like something else; what is kept stays.
        """
        return await self._receive(origin, PartState(stored, 0, ()), response)

    async def go_on(self, origin: Origin, state: PartState) -> Received:
        """Bring what is missing."""
        await self._kept.resume(state)
        return await self._receive(origin, state, None)

    async def _receive(
        self, origin: Origin, state: PartState, first: aiohttp.ClientResponse | None
    ) -> Received:
        self._object = state.object
        segments = Segments(state.object, state.extents or (), self._around(origin))
        landing = segments.landing
        self._at_bytes = landing.at_bytes
        try:
            await segments.receive(first)
        except Failure as failure:
            self.may_begin = self.may_begin and failure.reason is not Reason.OBJECT_CHANGED
            raise
        finally:
            if landing.begun.is_set():
                extents = tuple(sorted(landing.extents, key=_start))
                self._kept.state = state = PartState(state.object, landing.at_bytes, extents)
        return await self._received(state)

    def _around(self, origin: Origin) -> Surroundings:
        means = self._means
        return Surroundings(
            origin,
            self._kept.part,
            means.permits,
            means.limits.connections,
            means.limits.segment_below_bytes_per_s,
            body=lambda: means.body_of(self._output),
            admit=self._admit,
            begin=self._begin_part,
            patience=means.patience,
            progress=self._came,
            retried=self._retried,
            sleep=means.sleep,
        )

    def _came(self, size_bytes: int) -> None:
        self.moved_bytes += size_bytes
        self._at_bytes += size_bytes
        self._progress(self._at_bytes, self._object.total_bytes, size_bytes)

    async def _begin_part(self) -> None:
        await self._kept.begin(self._object, divided=True)

    def _admit(self, block: bytes) -> str:
        has_digest = bool(self._object.digests)
        return gates.admit(self._output.kind, block[: gates.HEAD_BYTES], "", has_digest=has_digest)

    async def _received(self, state: PartState) -> Received:
        part, stored = self._kept.part, state.object
        refuse_truncated(stored, state.at_bytes)
        suffix = await self._kept.suffix(self._admit)
        if needs_md5(stored.digests):
            digester = Digester(stored.digests)
            await part.read(lambda stream: digester.read(stream, state.at_bytes))
        else:
            digester = Digester.of_extents(state.extents or ())
        return Received(stored, suffix, digester)


def _start(extent: Extent) -> int:
    return extent.start
