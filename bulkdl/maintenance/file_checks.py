"""Check one file of a destination: existence, size and checksum."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from bulkdl.destinations.interfaces import CanContain, NotAnObjectError, ObjectInfo
from bulkdl.errors import DestinationError
from bulkdl.log import get_logger
from bulkdl.models import CommittedFile, Digest
from bulkdl.report.verification import FileState, Finding, Verification
from bulkdl.transfer.checksums import Digester

log = get_logger(__name__)

_BLOCK_BYTES = 1 << 20


def add_finding(verification: Verification, finding: Finding) -> None:
    """Add *finding* to *verification* and log it."""
    verification.add_finding(finding)
    log.warning("file.rejected", key=finding.key, state=finding.state.value, detail=finding.detail)


class ReadableObjects(Protocol):
    """The part of a destination that reads."""

    @property
    def is_remote(self) -> bool:
        """See ``Destination.is_remote``."""

    async def stat(self, keys: Collection[str]) -> Mapping[str, ObjectInfo]:
        """See ``Destination.stat``."""

    def list_objects(self, can_contain: CanContain) -> AsyncGenerator[Sequence[ObjectInfo], None]:
        """See ``Destination.list_objects``."""

    def open_reader(self, key: str) -> AbstractContextManager[BinaryIO]:
        """See ``Destination.open_reader``."""


async def find_objects(destination: ReadableObjects, keys: Sequence[str]) -> dict[str, ObjectInfo]:
    """Return those *keys* that exist. A key for which the destination fails is omitted."""
    try:
        return dict(await destination.stat(keys))
    except DestinationError:
        if len(keys) == 1:
            return {}
    infos: dict[str, ObjectInfo] = {}
    for key in keys:
        infos |= await find_objects(destination, [key])
    return infos


def check_file(
    destination: ReadableObjects,
    file: CommittedFile,
    info: ObjectInfo | None,
    digests: dict[str, Digest] | None,
    stop: threading.Event,
) -> tuple[FileState, str]:
    """
    Check one file.

    A file whose recorded version differs is read, because the same content can have another version, for
    example after a copy inside the store.

    Args:
        digests: Those of the contents already read; None without ``deep``.
    """
    if info is not None and info.size_bytes != file.size_bytes:
        return FileState.WRONG_SIZE, f"{info.size_bytes} bytes instead of {file.size_bytes}"
    if info is not None and digests is None and not _has_other_version(info, file):
        return FileState.OK, ""
    digests = {} if digests is None else digests
    content_id = (info and info.content_id) or file.key
    try:
        if content_id not in digests:
            with destination.open_reader(file.key) as stream:
                if info is None:  # a link, which the destination does not count as an object
                    return FileState.MISSING, "not a regular file"
                digests[content_id] = digest_of(stream, file.digest, stop)
    except (OSError, DestinationError) as error:
        return describe_read_error(error)
    if digests[content_id] != file.digest:
        return FileState.WRONG_DIGEST, f"checksum mismatch: {digests[content_id]} instead of {file.digest}"
    return FileState.OK, ""


def _has_other_version(info: ObjectInfo, file: CommittedFile) -> bool:
    return info.version is not None and file.version is not None and info.version != file.version


def describe_read_error(error: OSError | DestinationError) -> tuple[FileState, str]:
    """Return the state of an object that cannot be read, and the detail for the user."""
    if isinstance(error, DestinationError):
        return FileState.UNREADABLE, error.detail
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return FileState.MISSING, "not found"
    detail = error.strerror or str(error)
    return FileState.MISSING if isinstance(error, NotAnObjectError) else FileState.UNREADABLE, detail


def digest_of(stream: BinaryIO, like: Digest, stop: threading.Event) -> Digest:
    """Compute the digest of *stream* with the algorithm of *like*; incomplete after *stop*."""
    digester = Digester((like,))
    while not stop.is_set() and (block := stream.read(_BLOCK_BYTES)):
        digester.update(block)
    return like if digester.find_mismatch((like,)) is None else digester.crc32c
