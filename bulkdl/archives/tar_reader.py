"""
Walk the members of a tar in one pass.

Inspection and unpacking share this walk. It reads 512 bytes for each header and skips or returns the data
of a member, so that its time grows with the size of the archive only.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from bulkdl.archives.errors import DamagedArchiveError, OversizedHeaderError
from bulkdl.archives.tar_headers import (
    END_MARK,
    LONG_NAME_TYPES,
    MAX_EXTENDED_HEADER_BYTES,
    MAX_EXTENDED_HEADERS_IN_A_ROW,
    PAX_TYPES,
    TAR_BLOCK_BYTES,
    ExtendedHeaders,
    TarHeader,
    parse_header,
)

_BLOCK_BYTES = 1 << 20
_SPARSE_CONTINUES_AT = 482
_SPARSE_EXTENSION_CONTINUES_AT = 504


@dataclass(frozen=True, slots=True)
class TarMember:
    """
    One member of a tar.

    Attributes:
        name: The name as stored, with surrogates for bytes that are not UTF-8.
        type: The type flag of the header (``tarfile.REGTYPE``, …).
        size_bytes: The size of the data that follows the header; 0 for types without data.
        mtime_s: The time of modification as stored, in seconds since 1970.
        is_sparse: Whether the data contains a map of a sparse file.
        is_ambiguous: Whether readers of tar disagree about the name or the size.
    """

    name: str
    type: bytes
    size_bytes: int
    mtime_s: float
    is_sparse: bool
    is_ambiguous: bool


class ByteSource(Protocol):
    """The bytes of a tar."""

    def read(self, size: int, /) -> bytes:
        """Return *size* bytes, or fewer at the end of the data."""

    def skip(self, size: int, /) -> None:
        """Skip *size* bytes."""


class SequentialSource:
    """Reads a stream that cannot seek cheaply."""

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read

    def skip(self, size: int) -> None:
        while size:
            block = self.read(min(size, _BLOCK_BYTES))
            if not block:
                raise DamagedArchiveError("unexpected end of data")
            size -= len(block)


class SeekingSource:
    """Reads a stream that can seek. A position behind the end is noticed by the next read."""

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read
        self._stream = stream

    def skip(self, size: int) -> None:
        self._stream.seek(size, io.SEEK_CUR)


class TarReader:
    """
    Iterates over the members of a tar. The data of a member can be read until the next member.

    Attributes:
        has_end_mark: Whether the end mark of the tar was read.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._unread_bytes = 0
        self._padding_bytes = 0
        self.has_end_mark = False

    def __iter__(self) -> Iterator[TarMember]:
        """
        Yield the members.

        Raises:
            DamagedArchiveError: A header is invalid, too large or missing.
        """
        is_first = True
        while True:
            self._skip_data()
            header = self._source.read(TAR_BLOCK_BYTES)
            if not header and not is_first:
                return
            if header == END_MARK:
                self.has_end_mark = True
                return
            yield self._read_member(header)
            is_first = False

    def read_data(self, max_bytes: int) -> bytes:
        """
        Return up to *max_bytes* of the data of the current member; empty at its end.

        Raises:
            DamagedArchiveError: The archive ends within the data.
        """
        wanted_bytes = min(max_bytes, self._unread_bytes)
        if not wanted_bytes:
            return b""
        block = self._source.read(wanted_bytes)
        if not block:
            raise DamagedArchiveError("unexpected end of data")
        self._unread_bytes -= len(block)
        return block

    def _skip_data(self) -> None:
        self._source.skip(self._unread_bytes + self._padding_bytes)
        self._unread_bytes = self._padding_bytes = 0

    def _read_member(self, header: bytes) -> TarMember:
        extended = ExtendedHeaders()
        for _ in range(MAX_EXTENDED_HEADERS_IN_A_ROW + 1):
            member = parse_header(header)
            if member.type not in PAX_TYPES and member.type not in LONG_NAME_TYPES:
                return self._begin_data(member, header, extended)
            extended.add(member.type, self._read_extended(member))
            header = self._source.read(TAR_BLOCK_BYTES)
            if len(header) < TAR_BLOCK_BYTES or header == END_MARK:
                raise DamagedArchiveError("an extended header without a member")
        raise OversizedHeaderError(f"more than {MAX_EXTENDED_HEADERS_IN_A_ROW} extended headers in a row")

    def _read_extended(self, member: TarHeader) -> bytes:
        size_bytes = member.size_bytes
        if size_bytes > MAX_EXTENDED_HEADER_BYTES:
            raise OversizedHeaderError(
                f"an extended header of {size_bytes} bytes; expected at most {MAX_EXTENDED_HEADER_BYTES}"
            )
        data = self._source.read(size_bytes + _padding(size_bytes))
        if len(data) < size_bytes:
            raise DamagedArchiveError("unexpected end of data")
        return data[:size_bytes]

    def _begin_data(self, member: TarHeader, header: bytes, extended: ExtendedHeaders) -> TarMember:
        if member.type == tarfile.GNUTYPE_SPARSE:
            self._skip_sparse_map(header)
        size_bytes = 0
        if member.type in tarfile.REGULAR_TYPES or member.type not in tarfile.SUPPORTED_TYPES:
            size_bytes = member.size_bytes if extended.size_bytes is None else extended.size_bytes
        self._unread_bytes, self._padding_bytes = size_bytes, _padding(size_bytes)
        return TarMember(
            member.name if extended.name is None else extended.name,
            member.type,
            size_bytes,
            member.mtime_s,
            extended.is_sparse or member.type == tarfile.GNUTYPE_SPARSE,
            extended.is_ambiguous,
        )

    def _skip_sparse_map(self, header: bytes) -> None:
        """Skip the blocks that continue the map of an old GNU sparse member."""
        continues = header[_SPARSE_CONTINUES_AT]
        while continues:
            block = self._source.read(TAR_BLOCK_BYTES)
            if len(block) < TAR_BLOCK_BYTES:
                raise DamagedArchiveError("unexpected end of data")
            continues = block[_SPARSE_EXTENSION_CONTINUES_AT]


def _padding(size: int) -> int:
    return -size % TAR_BLOCK_BYTES
