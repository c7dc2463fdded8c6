"""What a transfer needs from its two ends, as protocols; the graph plugs in the real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import BinaryIO, Protocol, TypeVar

import aiohttp

from bulkdl.errors import DownloadError, TransferError
from bulkdl.http.retry import RetryDecision
from bulkdl.models import CommittedFile, Extent, RemoteObject, ResumeState

T = TypeVar("T")


class RemoteFile(Protocol):
    """
    Where the bytes of one output come from.

    Attributes:
        resumable: Whether it can be asked for a range at all.
        source: Where the object lives, without secrets; None for the API.
        begun: What has been read already of the body of the response that was opened last.
    """

    @property
    def resumable(self) -> bool: ...

    @property
    def source(self) -> str | None: ...

    @property
    def prefetched(self) -> bytes: ...

    async def prepare(self) -> int:
        """Have an address to ask at (for storage: a signed URL that is still valid); return its number."""

    def open(self, headers: dict[str, str]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """One GET. The response may have any status; of its body no more than ``begun`` has been read."""

    async def error_from_response(self, response: aiohttp.ClientResponse) -> TransferError:
        """What a response that is no success means."""

    def renew(self, address: int) -> None:
        """That address was refused: get another one before the next GET, unless there is one already."""


class PartialFilePort(Protocol):
    """
    Bytes of one output that are not committed yet.

    A part grows at its end, or, begun as *divided*, is filled in several places at once.
    """

    async def load(self) -> ResumeState | CommittedFile | None:
        """
        What is there from before.

        A receipt means that an earlier run committed the output but did not live to record it;
        None that there is nothing. What cannot be trusted is removed.
        """

    async def create(self, stored: RemoteObject, *, divided: bool = False) -> None:
        """
        Forget older bytes, then make *stored* durable before its first byte is written.

        Raises:
            DestinationError: There is no room for all of it beside what other transfers will still need.
        """

    async def resume(self, state: ResumeState) -> None:
        """
        Have room for what is missing behind *state*, which is what is there.

        Raises:
            DestinationError: There is none.
        """

    async def write(self, block: bytes) -> None:
        """
        Append *block*; returns before it is on disk, at most one block is under way.

        Raises:
            DestinationError: It does not fit, or the one before it did not.
        """

    async def write_at(self, start: int, chunks: Sequence[bytes]) -> Extent:
        """Put *chunks*, one behind the other, into a divided part, and then note that they are there."""

    async def flush_and_close(self) -> None:
        """Finish the write under way and close; what was written stays usable."""

    async def read_head(self, size_bytes: int) -> bytes:
        """Return the first *size_bytes* bytes, or all if there are fewer."""

    async def read(self, reader: Callable[[BinaryIO], T], body: bytes = b"") -> T:
        """
        Call *reader* in a thread on all bytes so far, or on *body* if none were written.

        Cancellation ends the next read of a block, and returns when the thread has ended.
        """

    async def commit(self, receipt: CommittedFile, body: bytes = b"") -> None:
        """Make all bytes, or *body* if none were written, durable and publish them."""

    async def forget(self) -> None:
        """The receipt is known elsewhere: nothing need be remembered of this part."""

    async def discard(self) -> None:
        """Forget the bytes."""

    def close(self) -> None:
        """The transfer is over for now: it needs no more room. What is there stays."""


Progress = Callable[[int, int | None, int], None]
"""Called with (bytes here, bytes in all or None, bytes that came just now)."""

RetryCallback = Callable[[DownloadError, RetryDecision], None]
"""Called when another attempt is about to follow a failed one."""

Name = Callable[[str], str]
"""Gives the key for a suffix that the bytes decided."""
