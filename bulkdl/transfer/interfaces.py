"""Protocols of the two ends of a download, of its observer, and of the receivers of a body."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import BinaryIO, Protocol, TypeVar

import aiohttp

from bulkdl.errors import TransferError
from bulkdl.models import CommittedFile, Extent, Output, Reason, RemoteObject, ResumeState

T = TypeVar("T")


class RemoteFile(Protocol):
    """
    The remote side of one output.

    Attributes:
        resumable: Whether the server may accept range requests.
        source: Identity of the object without secrets; None if it is served by the API.
    """

    @property
    def resumable(self) -> bool: ...

    @property
    def source(self) -> str | None: ...

    async def prepare(self) -> int:
        """Obtain a valid URL, for example a signed URL of the storage; return its version."""

    def open(
        self, headers: dict[str, str]
    ) -> AbstractAsyncContextManager[tuple[aiohttp.ClientResponse, bytes]]:
        """Send one GET; yield the response, of any status, and the bytes already read of its body."""

    async def error_from_response(self, response: aiohttp.ClientResponse) -> TransferError:
        """Return the error for a *response* that is not a success."""

    def renew(self, url_version: int) -> None:
        """Discard the URL of this version, which the server rejected; a newer URL stays."""


class PartialFilePort(Protocol):
    """
    The bytes of one output that are not committed yet.

    A partial file grows at its end. A segmented one is filled at several offsets.
    """

    async def load(self) -> ResumeState | CommittedFile | None:
        """
        Load the state that an earlier run left; None if there is none.

        A CommittedFile means that the earlier run committed the output but ended before it recorded it.
        Bytes that cannot be trusted are removed.
        """

    async def acquire_space(self, total_bytes: int | None) -> None:
        """
        Wait until the partial files may have *total_bytes* more (None: unknown), until ``close``.

        Raises:
            DestinationError: The limit for partial files does not suffice.
        """

    async def create(self, stored: RemoteObject, *, segmented: bool = False) -> None:
        """
        Discard older bytes and make *stored* durable before its first byte is written.

        Raises:
            DestinationError: The disk space does not suffice for the object and the other transfers.
        """

    async def resume(self, state: ResumeState) -> None:
        """
        Reserve the disk space that is missing after *state*.

        Raises:
            DestinationError: The disk space does not suffice.
        """

    async def write(self, block: bytes) -> None:
        """
        Append *block*. Returns before it is on disk; at most one block is written in the background.

        Raises:
            DestinationError: This block or the one before it cannot be written.
        """

    async def write_at(self, start: int, chunks: Sequence[bytes]) -> Extent:
        """Write adjacent *chunks* at *start* of a segmented file, then record the extent."""

    async def flush_and_close(self) -> None:
        """Finish the write in the background and close the file; its bytes stay usable."""

    async def read_head(self, size_bytes: int) -> bytes:
        """Return the first *size_bytes* bytes, or all if there are fewer."""

    async def read(self, reader: Callable[[BinaryIO], T], body: bytes = b"") -> T:
        """
        Call *reader* in a thread on all bytes so far, or on *body* if none were written.

        Cancellation stops the next read of a block and returns when the thread has ended.
        """

    async def commit(self, file: CommittedFile, body: bytes = b"") -> CommittedFile:
        """
        Make all bytes, or *body* if none were written, durable and publish them.

        Returns:
            *file* with the version that the destination reported.
        """

    async def forget(self) -> None:
        """Remove the record of the commit, which is stored elsewhere now."""

    async def discard(self) -> None:
        """Remove the bytes."""

    def close(self) -> None:
        """Release the reserved disk space at the end of a transfer. The bytes stay."""


class ContentInspector(Protocol):
    """Inspects the bodies that must be read completely before they are committed."""

    def inspect(
        self, stream: BinaryIO, output: Output, file: CommittedFile, check: Callable[[BinaryIO], None]
    ) -> None:
        """
        Read *stream*, the bytes of *file*, and return if they are complete and intact. Blocks.

        Args:
            check: The check of the kind, which the inspector can replace by another one of the same strength.

        Raises:
            TransferError: The bytes are damaged.
        """


class TransferObserver(Protocol):
    """Gets the progress of one download. Its methods do not raise; only ``begin_body`` can wait."""

    async def begin_body(self, total_bytes: int | None) -> None:
        """Wait until a body of an object of *total_bytes* (None: unknown) may be received."""

    def received(self, offset_bytes: int, total_bytes: int | None, new_bytes: int) -> None:
        """*new_bytes* were received; *offset_bytes* of *total_bytes* (None: unknown) are complete."""

    def retrying(self, reason: Reason, delay_s: float) -> None:
        """An attempt failed with *reason*, and the next one starts after *delay_s*."""


MakeKey = Callable[[str], str]
"""Returns the key of the output, given the suffix that its first bytes require."""
