"""
Upload a file or bytes, with a checksum of the bytes that are sent and a limit on the memory of all uploads.

A multipart upload that is cancelled leaves its parts in the store, where they are invisible and cost money.
Therefore an upload is never cancelled. Its iterator raises an exception, after which the client removes the
parts.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import google_crc32c
import obstore
from obstore.store import ObjectStore

from bulkdl.concurrency import Executors, WaitQueue, run_stoppable
from bulkdl.destinations.interfaces import CompletedFile
from bulkdl.destinations.network import UploadMonitor, UploadOptions
from bulkdl.destinations.objectstore.metadata import build_attributes, normalize_etag
from bulkdl.errors import DestinationError
from bulkdl.models import CommittedFile, Digest, Reason
from bulkdl.os_errors import map_os_errors

T = TypeVar("T")

MIB = 1 << 20
_MIN_CHUNK_BYTES = 8 * MIB
_MAX_PARTS = 9000  # the stores allow 10,000
_MAX_PARALLEL_PARTS = 4
_BLOCK_BYTES = 4 * MIB
# A store that responds ends a stopped upload within milliseconds.
_STOP_TIMEOUT_S = 5.0


class UploadStopped(Exception):
    """The upload was stopped, because the task that waits for it was cancelled."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class RunningDigest:
    """The checksum of the bytes so far, with the algorithm of *digest*; CRC32C if that is None."""

    def __init__(self, digest: Digest | None) -> None:
        self._hash: _Hash
        if digest is not None and digest.algorithm == "md5":
            self._hash = hashlib.md5(usedforsecurity=False)
        else:
            self._hash = google_crc32c.Checksum()  # type: ignore[no-untyped-call]

    def update(self, data: bytes) -> None:
        """Add *data*."""
        self._hash.update(data)

    @property
    def value(self) -> str:
        """The checksum in Base64."""
        return base64.b64encode(self._hash.digest()).decode()

    def check_sent(self, file: CommittedFile) -> None:
        """
        Compare the bytes that are sent with the checksum of *file*.

        Raises:
            DestinationError: CHECKSUM_MISMATCH; the content has changed since it was verified.
        """
        if self.value != file.digest.value:
            raise DestinationError(
                Reason.CHECKSUM_MISMATCH,
                f"{file.key}: checksum mismatch before the upload: expected {file.digest.value}, "
                f"actual {self.value}; the local file has changed",
            )


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """
    How an object is uploaded.

    Attributes:
        chunk_bytes: The size of a part. A smaller object is sent in one request.
        parallel_parts: Parts that are sent concurrently.
        memory_bytes: The memory that the upload needs.
    """

    chunk_bytes: int
    parallel_parts: int
    memory_bytes: int

    @property
    def is_multipart(self) -> bool:
        """Whether the object is sent in parts."""
        return self.parallel_parts > 0


def plan_upload(size_bytes: int, memory_bytes: int) -> UploadPlan:
    """Return the plan for an object of *size_bytes*, for uploads that share *memory_bytes*."""
    chunk = max(_MIN_CHUNK_BYTES, -(-size_bytes // _MAX_PARTS // MIB) * MIB)
    if size_bytes <= chunk:
        return UploadPlan(chunk, 0, size_bytes)
    parts = max(1, min(_MAX_PARALLEL_PARTS, memory_bytes // chunk - 2))
    return UploadPlan(chunk, parts, (parts + 2) * chunk)


class UploadSlots:
    """Limits the number of uploads and their memory. The uploads are served in order."""

    def __init__(self, options: UploadOptions) -> None:
        self._free_uploads = options.max_uploads
        self._free_bytes = self._memory_bytes = options.memory_bytes
        self._turn = asyncio.Lock()
        self._freed = WaitQueue()

    @asynccontextmanager
    async def hold(self, size_bytes: int) -> AsyncIterator[None]:
        """Wait for a slot with *size_bytes* of memory, or with all of it, and hold it inside the block."""
        size_bytes = min(size_bytes, self._memory_bytes)
        async with self._turn:
            await self._freed.wait_for(lambda: self._free_uploads > 0 and self._free_bytes >= size_bytes)
            self._free_uploads -= 1
            self._free_bytes -= size_bytes
        try:
            yield
        finally:
            self._free_uploads += 1
            self._free_bytes += size_bytes
            self._freed.notify_all()


class _FileBlocks:
    """
    The blocks of the file *path*. The last block is returned only if the checksum of all blocks is correct.

    ``stop`` ends the iteration with UploadStopped.
    """

    def __init__(self, path: Path, file: CommittedFile, monitor: UploadMonitor, executors: Executors) -> None:
        self._path = path
        self._file = file
        self._monitor = monitor
        self._executors = executors
        self.has_stalled = False
        self._returned_s: float | None = time.monotonic()
        self._stream: io.FileIO | None = None
        self._digest = RunningDigest(file.digest)
        self._left_bytes = file.size_bytes
        self._is_complete = False
        self._is_stopped = False

    def stop(self) -> None:
        self._is_stopped = True

    @property
    def idle_s(self) -> float:
        """The seconds since the client got a block; 0 while it waits for one."""
        return 0.0 if self._returned_s is None else time.monotonic() - self._returned_s

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def __aiter__(self) -> _FileBlocks:
        return self

    async def __anext__(self) -> bytes:
        self._returned_s = None
        try:
            return await self._next_block()
        finally:
            self._returned_s = time.monotonic()

    async def _next_block(self) -> bytes:
        if self._is_stopped:
            raise UploadStopped
        if self._is_complete:
            raise StopAsyncIteration
        await self._monitor.acquire(min(_BLOCK_BYTES, self._left_bytes))
        block = await run_stoppable(self._executors.disk, self._read)  # a cancelled caller waits for the read
        if self._is_stopped:
            raise UploadStopped
        total_bytes = self._file.size_bytes
        self._monitor.sent(self._file.key, total_bytes - self._left_bytes, total_bytes, len(block))
        return block

    def _read(self, _stop: threading.Event) -> bytes:
        with map_os_errors(self._path):
            if self._stream is None:
                self._stream = io.FileIO(self._path)
            block = self._stream.read(min(_BLOCK_BYTES, self._left_bytes)) or b""
            is_last = len(block) == self._left_bytes
            following = self._stream.read(1) or b"" if is_last else b""
        self._digest.update(block + following if following else block)
        self._left_bytes -= len(block)
        self._is_complete = is_last
        if is_last or not block:
            self._digest.check_sent(self._file)
        return block


class Uploader:
    """Sends files and bytes to *store*. ``send`` makes one attempt."""

    def __init__(self, store: ObjectStore, options: UploadOptions, executors: Executors) -> None:
        self._store = store
        self._options = options
        self._executors = executors
        self._slots: UploadSlots | None = None

    @asynccontextmanager
    async def slot(self, size_bytes: int) -> AsyncIterator[UploadPlan]:
        """Wait until an upload of *size_bytes* can start, and yield its plan."""
        plan = plan_upload(size_bytes, self._options.memory_bytes)
        if self._slots is None:
            self._slots = UploadSlots(self._options)
        async with self._slots.hold(plan.memory_bytes):
            yield plan

    async def send(self, plan: UploadPlan, content: CompletedFile, file: CommittedFile) -> str | None:
        """
        Send *content* once, and return the version of the object.

        Raises:
            DestinationError: The local file cannot be read, or it has changed.
            BaseError, FileNotFoundError: As the store raises them.
        """
        if content.path is None:
            digest = RunningDigest(file.digest)
            digest.update(content.data)
            digest.check_sent(file)
            await self._options.monitor.acquire(len(content.data))
            version = await self._send_bytes(content.data, file)
            self._options.monitor.sent(file.key, file.size_bytes, file.size_bytes, file.size_bytes)
            return version
        with closing(_FileBlocks(content.path, file, self._options.monitor, self._executors)) as blocks:
            if plan.is_multipart:
                return await self._send_parts(plan, blocks, file)
            data = b"".join([block async for block in blocks])
        return await self._send_bytes(data, file)

    async def _send_bytes(self, data: bytes, file: CommittedFile) -> str | None:
        put = obstore.put_async(
            self._store, file.key, data, attributes=build_attributes(file), use_multipart=False
        )
        return normalize_etag((await end_within(put, lambda: None))["e_tag"])

    async def _send_parts(self, plan: UploadPlan, blocks: _FileBlocks, file: CommittedFile) -> str | None:
        put = obstore.put_async(
            self._store,
            file.key,
            blocks,
            attributes=build_attributes(file),
            chunk_size=plan.chunk_bytes,
            max_concurrency=plan.parallel_parts,
        )
        sending = asyncio.ensure_future(put)
        watch = asyncio.ensure_future(self._end_if_stalled(sending, blocks))
        try:
            return normalize_etag((await end_within(sending, blocks.stop))["e_tag"])
        except (Exception, asyncio.CancelledError):
            task = asyncio.current_task()
            if not blocks.has_stalled or (task is not None and task.cancelling()):
                raise
            timeout_s = self._options.stall_timeout_s
            raise DestinationError(
                Reason.UNREACHABLE, f"{file.key}: upload: timed out: no progress for {timeout_s:g} seconds"
            ) from None
        finally:
            watch.cancel()

    async def _end_if_stalled(self, sending: asyncio.Future[Any], blocks: _FileBlocks) -> None:
        """End *sending* if the client requests no block within the stall timeout."""
        timeout_s = self._options.stall_timeout_s
        while (left_s := timeout_s - blocks.idle_s) > 0:  # noqa: ASYNC110 - the time depends on the last block
            await asyncio.sleep(left_s)
        blocks.has_stalled = True
        blocks.stop()
        await asyncio.wait([sending], timeout=_STOP_TIMEOUT_S)
        sending.cancel()


async def end_within(call: Awaitable[T], stop: Callable[[], None], timeout_s: float = _STOP_TIMEOUT_S) -> T:
    """
    Await *call*. If the caller is cancelled, call *stop*, and wait until *call* has ended.

    A call that does not end within *timeout_s* after that is cancelled. Its store does not respond.
    """
    running = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop()
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not running.done() and (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running], timeout=left_s)
        if not running.cancel() and not running.cancelled():
            running.exception()  # the cancellation outranks it
        raise
