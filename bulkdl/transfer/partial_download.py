"""
The received bytes of one output over all attempts of its download.

Existing bytes are discarded only after the first bytes of the replacement passed validation. An error page
with status 200 therefore costs nothing, whether the server ignored a range or sent the page instead of the
object.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from bulkdl.concurrency import shield_until_done
from bulkdl.errors import ContentRejectedError, DownloadError, TransferError
from bulkdl.http.retry import RetryDecision
from bulkdl.log import get_logger
from bulkdl.models import CommittedFile, Reason, RemoteObject, ResumeState
from bulkdl.source_spec import HEAD_BYTES, KindSpec
from bulkdl.transfer import response_rules
from bulkdl.transfer.checksums import Digester
from bulkdl.transfer.context import BLOCK_BYTES
from bulkdl.transfer.interfaces import PartialFilePort, TransferObserver

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CompleteBody:
    """
    All bytes of an object; their digests are not verified yet.

    Attributes:
        suffix: Suffix of the name, by the first bytes.
        digester: Has read all bytes.
        data: All bytes if they are in memory, not in the partial file.
    """

    object: RemoteObject
    suffix: str
    digester: Digester
    data: bytes = b""

    @property
    def size_bytes(self) -> int:
        """Size of the body."""
        return self.digester.at_bytes


@dataclass(frozen=True, slots=True)
class ReadPrefix:
    """Digests and suffix of the stored bytes, available without reading them again."""

    digester: Digester
    suffix: str


class PartialDownload:
    """
    The partial file of an output with the counters of its download.

    Attributes:
        label: Names the output in messages; it contains no secret.
        kind: The properties of its kind.
        checks: The checks of its content.
        file: Holds the bytes.
        state: Bytes with which the next attempt can resume; None if there are none.
        prefix: Digests of these bytes, if they were computed in this run.
        resumed_from_bytes: Bytes of an earlier run that the server has not invalidated.
        downloaded_bytes: Body bytes received in all attempts.
        attempts: Attempts so far, those of single connections included.
    """

    def __init__(
        self, label: str, kind: KindSpec, file: PartialFilePort, observer: TransferObserver, filename: str
    ) -> None:
        self.label = label
        self.kind = kind
        self.checks = self.kind.load_checks(filename)
        self.file = file
        self.state: ResumeState | None = None
        self.prefix: ReadPrefix | None = None
        self.resumed_from_bytes = 0
        self.downloaded_bytes = 0
        self.attempts = 1
        self._observer = observer
        self._exists = False

    @property
    def offset_bytes(self) -> int:
        """Bytes that the next attempt need not download again."""
        return self.state.offset if self.state and response_rules.can_resume(self.state) else 0

    async def begin_body(self, total_bytes: int | None) -> None:
        """Wait until a body of an object of *total_bytes* (None: unknown) may be received."""
        await self._observer.begin_body(total_bytes)
        if total_bytes is None or total_bytes >= BLOCK_BYTES:  # a smaller body stays in memory
            await self.file.acquire_space(total_bytes)

    def record_received(self, offset_bytes: int, total_bytes: int | None, new_bytes: int) -> None:
        """Count *new_bytes* and notify the observer."""
        self.downloaded_bytes += new_bytes
        self._observer.received(offset_bytes, total_bytes, new_bytes)

    def record_retry(self, failure: DownloadError, decision: RetryDecision) -> None:
        """Count and log an attempt that follows *failure*, and notify the observer."""
        self.attempts += 1
        log.info(
            "transfer.retry_scheduled",
            reason=failure.reason.value,
            detail=failure.detail,
            delay_s=round(decision.delay_s, 3),
        )
        self._observer.retrying(failure.reason, decision.delay_s)

    async def load(self) -> CommittedFile | None:
        """Load the state that an earlier run left; return the file if that run committed it."""
        found = await self.file.load()
        self._exists = found is not None
        if isinstance(found, CommittedFile):
            return found
        self.state = found
        self.resumed_from_bytes = self.offset_bytes
        return None

    async def reload(self) -> None:
        """Load the state again after a failed write, because the stored bytes may differ from it."""
        self._forget()
        with suppress(DownloadError):
            found = await self.file.load()
            self.state = found if isinstance(found, ResumeState) else None

    def save(self, state: ResumeState, prefix: ReadPrefix | None = None) -> None:
        """Set the state with which the next attempt can resume."""
        self.state, self.prefix = state, prefix

    def check_magic_bytes(self, stored: RemoteObject, head: bytes, content_type: str = "") -> str:
        """
        Return the suffix for an object that starts with *head*.

        Raises:
            ContentRejectedError: The bytes are not of the kind of the output.
        """
        return self.checks.check_head(head[:HEAD_BYTES], content_type, has_digest=bool(stored.digests))

    async def read_suffix(self, stored: RemoteObject) -> str:
        """
        Return the suffix for the stored bytes of *stored*.

        Raises:
            TransferError: The stored bytes are not of the kind of the output and therefore invalid.
        """
        head = await self.file.read_head(HEAD_BYTES)
        try:
            return self.check_magic_bytes(stored, head)
        except ContentRejectedError as failure:
            raise TransferError(failure.reason, failure.detail) from None

    async def resume(self, state: ResumeState) -> None:
        """Reserve the disk space for the missing bytes; a cancelled caller returns after that."""
        await shield_until_done(self.file.resume(state))

    async def create(self, stored: RemoteObject, *, segmented: bool = False) -> None:
        """Discard older bytes and create the partial file for *stored*."""
        self._forget()
        self._exists = True
        await self.file.create(stored, segmented=segmented)

    async def discard(self) -> None:
        """Discard the bytes."""
        self._forget()
        if self._exists:
            await self.file.discard()
            self._exists = False

    def _forget(self) -> None:
        self.state, self.prefix, self.resumed_from_bytes = None, None, 0

    async def release(self) -> None:
        """Remove the record of a commit that no later run reads."""
        if self._exists:
            await self.file.forget()


def check_complete(stored: RemoteObject, received_bytes: int) -> None:
    """
    Check that *received_bytes* is the announced size of *stored*.

    Raises:
        TransferError: TRUNCATED; the size is different.
    """
    if stored.total_bytes is not None and received_bytes != stored.total_bytes:
        raise TransferError(
            Reason.TRUNCATED, f"truncated: received {received_bytes} bytes, expected {stored.total_bytes}"
        )
