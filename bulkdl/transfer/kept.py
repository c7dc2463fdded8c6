"""
The part of one output as its attempts see it, and what all of them together have made of it.

What is kept is given up only for a body that has been let in by its first bytes: an error page with
status 200 costs nothing, whether a server had ignored a range or something stood in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from bulkdl.concurrency import shield_until_done
from bulkdl.errors import DownloadError, TransferError
from bulkdl.models import CommittedFile, Reason, RemoteObject, ResumeState
from bulkdl.transfer import response_rules, validation
from bulkdl.transfer.checksums import Digester
from bulkdl.transfer.interfaces import PartialFilePort


@dataclass(frozen=True, slots=True)
class CompleteBody:
    """
    All bytes of an object, not yet held against its digests.

    Attributes:
        suffix: For the name, by the first bytes.
        digester: Has taken in all of them.
        body: All of them, if they are in memory and not in the part.
    """

    object: RemoteObject
    suffix: str
    digester: Digester
    body: bytes = b""

    @property
    def size_bytes(self) -> int:
        return self.digester.at_bytes


class PartialDownload:
    """
    Attributes:
        part: Where the bytes are.
        state: Those that the next attempt can go on with; None when there are none.
        resumed_from_bytes: Those of an earlier run that the server has not disproved.
    """

    def __init__(self, part: PartialFilePort) -> None:
        self.part = part
        self.state: ResumeState | None = None
        self.resumed_from_bytes = 0
        self._is_there = False

    @property
    def at_bytes(self) -> int:
        """Bytes that the next attempt need not fetch again."""
        return self.state.offset if self.state and response_rules.can_resume(self.state) else 0

    async def look(self) -> CommittedFile | None:
        """Take up what an earlier run has left; its receipt, if it had committed all."""
        found = await self.part.load()
        self._is_there = found is not None
        if isinstance(found, CommittedFile):
            return found
        self.state = found
        self.resumed_from_bytes = self.at_bytes
        return None

    async def reload(self) -> None:
        """Take the state from the part: after a failed write, the bytes there may be others than known."""
        self._forget()
        with suppress(DownloadError):
            found = await self.part.load()
            self.state = found if isinstance(found, ResumeState) else None

    async def suffix(self, admit: Callable[[bytes], str]) -> str:
        """
        What *admit* says of the first bytes that are there.

        Raises:
            TransferError: They should never have got there: what is kept is void.
        """
        head = await self.part.read_head(validation.HEAD_BYTES)
        try:
            return admit(head)
        except validation.ContentRejected as failure:
            raise TransferError(failure.reason, failure.detail) from None

    async def resume(self, state: ResumeState) -> None:
        """Have room for what is missing; who is stopped meanwhile has it, and gives it back."""
        await shield_until_done(self.part.resume(state))

    async def begin(self, stored: RemoteObject, *, divided: bool = False) -> None:
        """Forget older bytes; those of *stored* come next."""
        self._forget()
        self._is_there = True
        await self.part.create(stored, divided=divided)

    async def drop(self) -> None:
        """Forget the bytes; what comes next may not need a part at all."""
        self._forget()
        if self._is_there:
            await self.part.discard()
            self._is_there = False

    def _forget(self) -> None:
        self.state, self.resumed_from_bytes = None, 0

    async def release(self) -> None:
        """All is committed, and nobody will ever look for a receipt."""
        if self._is_there:
            await self.part.forget()


def check_complete(stored: RemoteObject, at_bytes: int) -> None:
    """
    Make sure that *at_bytes* are all that was announced.

    Raises:
        TransferError: TRUNCATED; they are not.
    """
    if stored.total_bytes is not None and at_bytes != stored.total_bytes:
        raise TransferError(Reason.TRUNCATED, f"{at_bytes} of {stored.total_bytes} bytes came")
