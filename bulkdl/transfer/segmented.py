"""
Receive one large object over several connections into a segmented partial file.

Each connection downloads segments that a ``SegmentScheduler`` assigns. A connection that fails retries on
its own, by the same policy as any transfer, while the other connections continue. The first connection
exists during the whole attempt. Further connections start while spare permits are available and end when
the limit is lowered, but none starts before the first bytes of a new object passed validation.

A further connection whose retries are exhausted by a temporary failure ends and is not replaced, because
the server may allow fewer connections. The same failure of the first connection, or a permanent failure of
any connection, ends the attempt.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial as bind
from typing import Self

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.errors import DownloadError, first_leaf_exception
from bulkdl.failure_policy import FAILURE_POLICIES, RetryAction
from bulkdl.http.retry import RetryState
from bulkdl.models import RemoteObject, ResumeState
from bulkdl.source_spec import HEAD_BYTES
from bulkdl.transfer import response_rules
from bulkdl.transfer.checksums import Digester, needs_md5
from bulkdl.transfer.context import BodyReader, TransferContext
from bulkdl.transfer.interfaces import RemoteFile
from bulkdl.transfer.partial_download import CompleteBody, PartialDownload, check_complete
from bulkdl.transfer.segments import Segment, SegmentReader, SegmentScheduler, SegmentWriter, ShouldContinue

_SPEED_INTERVAL_S = 0.1
_TEMPORARY = frozenset({RetryAction.BACK_OFF, RetryAction.RENEW_URL})


class _ConnectionPermit:
    """
    The spare permit of one connection.

    A call releases the permit if too many are in use, and returns whether the connection still has it.
    """

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._limiter = limiter
        self._is_held = True

    def __call__(self) -> bool:
        self._is_held = self._is_held and not self._limiter.release_if_over_limit()
        return self._is_held

    def release(self) -> None:
        if self._is_held:
            self._limiter.release()


def _always() -> bool:
    return True


class SegmentedReceiver:
    """
    Receives the missing segments of an object in one attempt.

    Args:
        state: The object and its stored extents.
    """

    def __init__(
        self,
        remote_file: RemoteFile,
        partial: PartialDownload,
        context: TransferContext,
        state: ResumeState,
    ) -> None:
        if state.object.total_bytes is None:
            raise ValueError("an object of unknown size cannot be divided into segments")
        stored_ranges = [(extent.start, extent.end) for extent in state.extents or ()]
        self._remote_file = remote_file
        self._partial = partial
        self._context = context
        self._object = state.object
        self._writer = SegmentWriter(partial, state)
        self._scheduler = SegmentScheduler(state.object.total_bytes, stored_ranges)
        self._extra = 0
        self._max_extra = context.limits.connections - 1
        self._connection_ended = asyncio.Event()
        self._prepare_lock = asyncio.Lock()

    @classmethod
    def begin(
        cls, remote_file: RemoteFile, partial: PartialDownload, context: TransferContext, stored: RemoteObject
    ) -> Self:
        """Return a receiver of all bytes of *stored*."""
        return cls(remote_file, partial, context, ResumeState(stored, 0, ()))

    @classmethod
    async def resume(
        cls, remote_file: RemoteFile, partial: PartialDownload, context: TransferContext, state: ResumeState
    ) -> Self:
        """Return a receiver of the bytes that are missing in *state*."""
        await partial.resume(state)
        return cls(remote_file, partial, context, state)

    async def read(self, body: BodyReader | None) -> CompleteBody:
        """
        Receive the missing segments.

        Args:
            body: The body of a response with the whole object; None to request all segments.

        Raises:
            ContentRejectedError: The body is not the requested output; existing bytes are kept.
            DownloadError: The attempt failed; received bytes are kept.
        """
        try:
            await self._receive(body)
        finally:
            if self._writer.started.is_set():
                self._partial.save(self._writer.state)
        return await self._complete(self._writer.state)

    async def _complete(self, state: ResumeState) -> CompleteBody:
        check_complete(self._object, state.offset)
        suffix = await self._partial.read_suffix(self._object)
        if needs_md5(self._object.digests):
            digester = Digester(self._object.digests)
            await self._partial.file.read(lambda stream: digester.read(stream, state.offset))
        else:
            digester = Digester.of_extents(state.extents or ())
        return CompleteBody(self._object, suffix, digester)

    async def _receive(self, body: BodyReader | None) -> None:
        worker = asyncio.current_task()
        try:
            async with asyncio.TaskGroup() as group:
                opener = group.create_task(self._open_connections(group), name="segments-open")
                try:
                    if body is not None:
                        await self._read_whole(body)
                    self._writer.started.set()
                    await self._work_until_complete()
                finally:
                    opener.cancel()
        except* DownloadError as failures:
            if worker is not None and worker.cancelling():  # Python 3.11 drops the cancellation
                raise asyncio.CancelledError from None
            raise first_leaf_exception(failures) from None

    async def _open_connections(self, group: asyncio.TaskGroup) -> None:
        """Open further connections while there are spare permits and segments."""
        permits = self._context.permits
        await self._writer.started.wait()
        await self._wait_until_slow()
        while True:
            while self._extra >= self._max_extra or not self._scheduler.has_segment:
                await self._wait_for_connection_end()
            await permits.acquire_spare()
            self._extra += 1
            permit = _ConnectionPermit(permits)
            connection = group.create_task(self._extra_connection(permit), name=f"segment-{self._extra}")
            connection.add_done_callback(bind(self._on_connection_done, permit))

    async def _wait_until_slow(self) -> None:
        """Wait while the first connection is fast: further ones would cost more than they gain."""
        min_bytes_per_s = self._context.limits.segment_if_slower_than_bytes_per_s
        while min_bytes_per_s:
            start_bytes, started_s = self._writer.received_bytes, time.monotonic()
            await asyncio.sleep(_SPEED_INTERVAL_S)
            new_bytes = self._writer.received_bytes - start_bytes
            if new_bytes < min_bytes_per_s * (time.monotonic() - started_s):
                return

    def _on_connection_done(self, permit: _ConnectionPermit, _connection: asyncio.Task[None]) -> None:
        self._extra -= 1
        permit.release()
        self._connection_ended.set()

    async def _wait_for_connection_end(self) -> None:
        self._connection_ended.clear()
        await self._connection_ended.wait()

    async def _extra_connection(self, permit: _ConnectionPermit) -> None:
        """Run a further connection; after exhausted retries it is not replaced."""
        try:
            await self._work(permit)
        except DownloadError as failure:
            if not failure.retries_exhausted or FAILURE_POLICIES[failure.reason].action not in _TEMPORARY:
                raise
            self._max_extra -= 1

    async def _work_until_complete(self) -> None:
        """Run the first connection, which also receives the segments that other connections leave."""
        await self._work(_always)
        while self._extra:
            await self._wait_for_connection_end()
            await self._work(_always)

    async def _work(self, should_continue: ShouldContinue) -> None:
        while should_continue():
            segment = self._scheduler.take()
            if segment is None:
                return
            try:
                await self._download(segment, should_continue)
            finally:
                self._scheduler.finish(segment)

    async def _read_whole(self, body: BodyReader) -> None:
        segment = self._scheduler.take_all()
        try:
            try:
                await SegmentReader(body, segment, self._writer).read(_always)
            finally:
                body.close()  # it may continue with bytes that other connections have received
        except DownloadError as failure:
            if not self._writer.started.is_set():
                raise
            await self._wait_for_retry(
                failure, self._context.new_retry_state(), url_version=0, progressed=True
            )
            await self._download(segment, _always)
        finally:
            self._scheduler.finish(segment)

    async def _download(self, segment: Segment, should_continue: ShouldContinue) -> None:
        retry_state = self._context.new_retry_state()
        while segment.remaining_bytes and should_continue():
            offset, url_version = segment.offset, await self._prepare()
            try:
                await self._request_range(segment, should_continue)
            except DownloadError as failure:
                progressed = segment.offset > offset
                await self._wait_for_retry(
                    failure, retry_state, url_version=url_version, progressed=progressed
                )

    async def _wait_for_retry(
        self, failure: DownloadError, retry_state: RetryState, *, url_version: int, progressed: bool
    ) -> None:
        """Wait until this connection may send the next request, or raise *failure*."""
        decision = retry_state.record(failure, progressed=progressed)
        if decision.action is RetryAction.RENEW_URL:
            self._remote_file.renew(url_version)
        elif decision.action is not RetryAction.BACK_OFF:
            failure.retries_exhausted = decision.action is RetryAction.GIVE_UP
            raise failure
        self._partial.record_retry(failure, decision)
        await self._context.sleep(decision.delay_s)

    async def _prepare(self) -> int:
        async with self._prepare_lock:
            try:
                return await self._remote_file.prepare()
            except DownloadError as failure:
                failure.retries_exhausted = True  # the API client has retried
                raise

    async def _request_range(self, segment: Segment, should_continue: ShouldContinue) -> None:
        remote_file, stored = self._remote_file, self._object
        headers = response_rules.segment_headers(stored, segment.offset, segment.end, accept_gzip=False)
        async with remote_file.open(headers) as (response, prefetched):
            if response.status not in (200, 206, 416):
                raise await remote_file.error_from_response(response)
            info = response_rules.read_response_info(response.status, response.headers, remote_file.source)
            body = self._context.new_body_reader(self._partial.label, response, prefetched)
            try:
                response_rules.check_segment_response(info, stored, segment.offset, self._partial.kind)
            except response_rules.RangeIgnored:
                self._partial.check_magic_bytes(stored, await self._read_head(body))
                raise
            await SegmentReader(body, segment, self._writer).read(should_continue)

    async def _read_head(self, body: BodyReader) -> bytes:
        head = b""
        while len(head) < HEAD_BYTES and (chunk := await body.read()):
            head += chunk
        return head
