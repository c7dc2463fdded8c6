"""Copy an object that is too large for a copy inside the store: download and upload it in blocks."""

from __future__ import annotations

import obstore
from obstore.store import ObjectStore

from bulkdl.concurrency import Executors, run_in
from bulkdl.destinations.interfaces import ObjectInfo
from bulkdl.destinations.objectstore.upload import RunningDigest, UploadPlan, UploadStopped, end_within
from bulkdl.errors import DestinationError
from bulkdl.models import Reason

_BLOCK_BYTES = 8 << 20


class _ObjectBlocks:
    """The blocks of one version of an object. ``stop`` ends the iteration with UploadStopped."""

    def __init__(
        self, store: ObjectStore, source: ObjectInfo, etag: str | None, executors: Executors
    ) -> None:
        self._store = store
        self._source = source
        self._etag = etag
        self._executors = executors
        self._digest = RunningDigest(source.digest)
        self._position = 0
        self._is_stopped = False

    def stop(self) -> None:
        self._is_stopped = True

    def __aiter__(self) -> _ObjectBlocks:
        return self

    async def __anext__(self) -> bytes:
        if self._is_stopped:
            raise UploadStopped
        size_bytes = self._source.size_bytes
        if self._position >= size_bytes:
            raise StopAsyncIteration
        end = min(self._position + _BLOCK_BYTES, size_bytes)
        found = await obstore.get_async(
            self._store, self._source.key, options={"if_match": self._etag, "range": (self._position, end)}
        )
        block = bytes(await found.bytes_async())
        self._position = end
        await run_in(self._executors.disk, self._digest.update, block)
        expected = self._source.digest
        if end == size_bytes and expected is not None and self._digest.value != expected.value:
            raise DestinationError(
                Reason.PUBLISH_FAILED,
                f"{self._source.key}: checksum mismatch during a copy: expected {expected.value}, "
                f"actual {self._digest.value}",
            )
        return block


async def copy_by_upload(
    store: ObjectStore, source: ObjectInfo, new_key: str, plan: UploadPlan, executors: Executors
) -> None:
    """
    Upload the content and the metadata of *source* again under *new_key*.

    Raises:
        DestinationError: The object does not have its checksum.
        BaseError, FileNotFoundError: As the store raises them.
    """
    head = await obstore.get_async(store, source.key, options={"head": True})
    blocks = _ObjectBlocks(store, source, head.meta["e_tag"], executors)
    put = obstore.put_async(
        store,
        new_key,
        blocks,
        attributes=head.attributes,
        chunk_size=plan.chunk_bytes,
        max_concurrency=max(1, plan.parallel_parts),
    )
    await end_within(put, blocks.stop)
