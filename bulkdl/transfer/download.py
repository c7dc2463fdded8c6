"""
Download one output: make attempts, verify the received bytes, and commit them.

An attempt requests the missing bytes and decides what the response means. A receiver stores the body:
either a ``StreamReceiver`` over one connection, or a ``SegmentedReceiver`` over several. Between two
attempts the retry policy decides whether and when the next one starts.
"""

from __future__ import annotations

import io
import time
from dataclasses import replace
from typing import BinaryIO, Protocol

from bulkdl.errors import ApiError, ContentRejectedError, DestinationError, DownloadError, TransferError
from bulkdl.failure_policy import FAILURE_POLICIES, RetryAction
from bulkdl.log import get_logger
from bulkdl.models import CommittedFile, Outcome, Output, Reason, RemoteObject, Result, ResumeState
from bulkdl.source_spec import kind_spec
from bulkdl.transfer import response_rules
from bulkdl.transfer.context import BodyReader, TransferContext
from bulkdl.transfer.interfaces import MakeKey, PartialFilePort, RemoteFile, TransferObserver
from bulkdl.transfer.partial_download import CompleteBody, PartialDownload
from bulkdl.transfer.response_rules import ContinueBody, ResponseInfo, RetryAcceptingGzip, StartBody
from bulkdl.transfer.segmented import SegmentedReceiver
from bulkdl.transfer.stream import StreamReceiver

log = get_logger(__name__)


class BodyReceiver(Protocol):
    """Receives the missing bytes of one object in one attempt, and keeps what it has received on failure."""

    async def read(self, body: BodyReader | None) -> CompleteBody:
        """Receive the missing bytes, beginning with *body* if there is a response already."""


class Download:
    """
    The download of one output, which runs once.

    Args:
        partial_file: Holds the received bytes until they are committed.
        make_key: Returns the key, given the suffix that the first bytes require.
        observer: Gets the progress.
    """

    def __init__(
        self,
        output: Output,
        remote_file: RemoteFile,
        partial_file: PartialFilePort,
        make_key: MakeKey,
        context: TransferContext,
        observer: TransferObserver,
    ) -> None:
        self._output = output
        self._remote_file = remote_file
        self._make_key = make_key
        self._context = context
        self._partial = PartialDownload(
            str(output), kind_spec(output.kind), partial_file, observer, make_key("").rpartition("/")[2]
        )
        self._accept_gzip = False
        self._may_segment = self._partial.kind.is_large and context.limits.connections > 1

    async def run(self) -> Result:
        """
        Download the output.

        Cancellation leaves the partial file resumable. Otherwise the result is completed, skipped because the
        output does not exist, or failed with a reason.
        """
        started_s = time.monotonic()
        partial = self._partial
        try:
            await self._remote_file.prepare()
            committed_file = await self._find_committed() or await self._make_attempts()
            result = Result(self._output, Outcome.COMPLETED, Reason.DOWNLOADED, committed_file)
        except DownloadError as failure:
            result = result_of_failure(self._output, failure)
        finally:
            partial.file.close()
        return replace(
            result,
            attempts=partial.attempts,
            downloaded_bytes=partial.downloaded_bytes,
            resumed_from_bytes=partial.resumed_from_bytes,
            duration_s=time.monotonic() - started_s,
        )

    async def _find_committed(self) -> CommittedFile | None:
        """Load what an earlier run left; return its file if that run ended before it recorded the commit."""
        if not self._remote_file.resumable:
            return None
        committed_file = await self._partial.load()
        if committed_file is None or committed_file.source != self._remote_file.source:
            return None
        self._partial.resumed_from_bytes = committed_file.size_bytes
        return committed_file

    async def _make_attempts(self) -> CommittedFile:
        retry_state = self._context.new_retry_state()
        max_offset_bytes = self._partial.offset_bytes
        while True:
            url_version = (
                await self._remote_file.prepare()
            )  # its failure is final: the API client has retried
            try:
                return await self._attempt()
            except DownloadError as failure:
                offset_bytes = self._partial.offset_bytes
                decision = retry_state.record(failure, progressed=offset_bytes > max_offset_bytes)
                max_offset_bytes = max(max_offset_bytes, offset_bytes)
                if FAILURE_POLICIES[failure.reason].action is RetryAction.RESTART:
                    await self._discard_invalid(failure)  # a later run must not resume with them either
                    max_offset_bytes = self._partial.offset_bytes
                if decision.action in (RetryAction.GIVE_UP, RetryAction.STOP_RUN):
                    raise
                if decision.action is RetryAction.RENEW_URL:
                    self._remote_file.renew(url_version)
                if decision.action is RetryAction.RESTART and not self._partial.offset_bytes:
                    log.warning("transfer.restarted", reason=failure.reason.value, detail=failure.detail)
                self._partial.record_retry(failure, decision)
                await self._context.sleep(decision.delay_s)

    async def _discard_invalid(self, failure: DownloadError) -> None:
        """Discard the received bytes, unless *failure* is about bytes that were not stored."""
        if not isinstance(failure, ContentRejectedError):
            await self._partial.discard()

    async def _attempt(self) -> CommittedFile:
        """
        Receive all missing bytes, verify them and commit the file.

        Raises:
            DownloadError: The attempt failed; received bytes can be resumed.
        """
        try:
            committed_file = await self._commit(await self._receive())
            if not self._remote_file.resumable:
                await self._partial.release()
        except DestinationError as failure:
            if FAILURE_POLICIES[failure.reason].action is RetryAction.BACK_OFF:
                await self._partial.reload()
            raise
        return committed_file

    async def _receive(self) -> CompleteBody:
        state = self._partial.state if self._remote_file.resumable else None
        if state is None or self._has_other_source(state):
            return await self._request(state)
        if state.extents is not None:
            self._check_size(state.object)
            await self._partial.begin_body(state.object.total_bytes)
            segments = await SegmentedReceiver.resume(self._remote_file, self._partial, self._context, state)
            return await self._read_segments(segments, None)
        if response_rules.is_complete(state):
            stream = await StreamReceiver.resume(self._partial, self._context, state)
            return await stream.read(None)
        return await self._request(state)

    def _has_other_source(self, state: ResumeState) -> bool:
        """Return whether *state* is complete but of another source; the server must confirm the object."""
        return response_rules.is_complete(state) and state.object.source != self._remote_file.source

    async def _request(self, state: ResumeState | None) -> CompleteBody:
        remote_file = self._remote_file
        headers = response_rules.request_headers(state, accept_gzip=self._accept_gzip)
        async with remote_file.open(headers) as (response, prefetched):
            if response.status not in (200, 206, 416):
                raise await remote_file.error_from_response(response)
            info = response_rules.read_response_info(response.status, response.headers, remote_file.source)
            decision = response_rules.decide(info, state, self._partial.kind, accept_gzip=self._accept_gzip)
            if not isinstance(decision, RetryAcceptingGzip):
                self._check_size(decision.object)
                await self._partial.begin_body(decision.object.total_bytes)
                body = self._context.new_body_reader(self._partial.label, response, prefetched)
                if isinstance(decision, StartBody) and self._can_segment(info):
                    segments = SegmentedReceiver.begin(
                        remote_file, self._partial, self._context, decision.object
                    )
                    return await self._read_segments(segments, body)
                stream = await self._new_stream(info, decision, state)
                return await stream.read(body)
        self._accept_gzip = True
        return await self._request(state)

    async def _new_stream(
        self, info: ResponseInfo, decision: StartBody | ContinueBody, state: ResumeState | None
    ) -> BodyReceiver:
        if isinstance(decision, ContinueBody) and state is not None:
            resumed = ResumeState(decision.object, state.offset)
            return await StreamReceiver.resume(self._partial, self._context, resumed)
        return StreamReceiver(
            self._partial,
            self._context,
            decision.object,
            content_type=info.content_type,
            resumable=self._remote_file.resumable,
        )

    async def _read_segments(self, receiver: BodyReceiver, body: BodyReader | None) -> CompleteBody:
        try:
            return await receiver.read(body)
        except DownloadError as failure:
            if failure.reason is Reason.OBJECT_CHANGED:  # its segments did not fit together
                self._may_segment = False
            raise

    def _can_segment(self, info: ResponseInfo) -> bool:
        min_bytes = self._context.limits.segment_min_size_bytes
        return (
            self._may_segment
            and self._remote_file.resumable
            and response_rules.supports_segments(info, min_bytes)
        )

    def _check_size(self, stored: RemoteObject) -> None:
        limits = self._context.limits
        response_rules.max_body_bytes(self._output.kind, stored.total_bytes, limits.max_bytes)

    async def _validate(self, file: CommittedFile, data: bytes) -> None:
        checks, size_bytes, inspector = self._partial.checks, file.size_bytes, self._context.inspector
        if len(data) == size_bytes and checks.is_cheap(size_bytes):
            checks.validate(io.BytesIO(data), size_bytes)
            return

        def check(stream: BinaryIO) -> None:
            checks.validate(stream, size_bytes)

        def read(stream: BinaryIO) -> None:
            if inspector is None:
                check(stream)
            else:
                inspector.inspect(stream, self._output, file, check)

        await self._partial.file.read(read, data)

    async def _commit(self, body: CompleteBody) -> CommittedFile:
        stored, digester = body.object, body.digester
        expected = digester.find_mismatch(stored.digests)
        if expected is not None:
            raise TransferError(
                Reason.CHECKSUM_MISMATCH,
                f"checksum mismatch: expected {expected}, actual {digester.digest(expected.algorithm)}",
            )
        file = CommittedFile(
            self._make_key(body.suffix), body.size_bytes, digester.crc32c, stored.validator, stored.source
        )
        if self._partial.checks.needs_validation(has_digest=bool(stored.digests)):
            await self._validate(file, body.data)
        return await self._partial.file.commit(file, body.data)


def result_of_failure(output: Output, failure: DownloadError) -> Result:
    """
    Return the result of *output* after a permanent *failure*.

    An output that does not exist according to its provider is not available, which is not a failure.
    """
    outcome, reason = Outcome.FAILED, failure.reason
    if isinstance(failure, ApiError) and failure.is_absent:
        outcome, reason = Outcome.SKIPPED, Reason.NOT_AVAILABLE
    return Result(output, outcome, reason, attempts=1, detail=failure.detail)
