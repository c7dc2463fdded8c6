"""
Check the structure of archives without a server checksum: tar, gzipped tar and zip.

Archives are read, not unpacked. ``tarfile`` is not used to walk a tar, because it reads extended headers of
any size into memory and recurses once for each extended header in a row.
"""

from __future__ import annotations

import gzip
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from contextlib import suppress
from typing import BinaryIO

from bulkdl.errors import TransferError
from bulkdl.models import Reason

# Honest extended headers hold a path and some attributes: a few kilobytes, a handful for each member.
MAX_EXTENDED_HEADER_BYTES = 1 << 20
MAX_EXTENDED_HEADERS_IN_A_ROW = 32

_BLOCK_BYTES = 1 << 20
_TAR_BLOCK_BYTES = tarfile.BLOCKSIZE
_END_MARK = bytes(_TAR_BLOCK_BYTES)
_MAX_MEMBER_BYTES = 1 << 62  # a position behind it is not a valid file offset
_HEAD_BYTES = 512
_SPARSE_CONTINUES_AT = 482
_SPARSE_EXTENSION_CONTINUES_AT = 504
_PAX_TYPES = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE})
_LONG_NAME_TYPES = frozenset({tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})
_PAX_RECORD = re.compile(rb"([0-9]{1,20}) ([^=\n]{1,1024})=")
# What the readers of the standard library raise for damaged bytes.
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,  # an unknown version of zip
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
)


def archive_suffix(head: bytes) -> str | None:
    """Return ``.tar.gz``, ``.zip`` or ``.tar`` by the magic bytes, or None if they are unknown."""
    if head.startswith(b"\x1f\x8b"):
        return ".tar.gz"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ".zip"
    if head[257:262] == b"ustar" or _is_old_tar(head):
        return ".tar"
    return None


def _is_old_tar(head: bytes) -> bool:
    try:
        _parse_header(head[:_TAR_BLOCK_BYTES])
    except tarfile.TarError:
        return False
    return True


def inspect_archive(stream: BinaryIO) -> None:
    """
    Read the archive to its end and check its structure and its own checksums. Blocks.

    Memory does not depend on the archive.

    Raises:
        TransferError: The archive is damaged or truncated.
    """
    suffix = archive_suffix(stream.read(_HEAD_BYTES))
    stream.seek(0)
    try:
        if suffix == ".zip":
            _read_zip(stream)
        elif suffix == ".tar.gz":
            with gzip.GzipFile(fileobj=stream) as unpacked:
                _read_gzipped_tar(io.BufferedReader(unpacked, _BLOCK_BYTES))
        else:
            _read_plain_tar(stream)
    except _DAMAGED as error:
        raise TransferError(Reason.CORRUPT_CONTENT, f"the archive is damaged ({error})") from None


def _read_zip(stream: BinaryIO) -> None:
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            # An encrypted member or an unsupported method is not damage.
            with suppress(RuntimeError), archive.open(member) as content:
                while content.read(_BLOCK_BYTES):
                    pass


def _read_gzipped_tar(stream: io.BufferedReader) -> None:
    _TarWalk(_SequentialReader(stream)).walk()
    while stream.read(_BLOCK_BYTES):  # to the end of the gzip stream, which has a checksum
        pass


def _read_plain_tar(stream: BinaryIO) -> None:
    """Walk a tar without compression. Only its end mark shows that it is complete: it has no checksum."""
    if not _TarWalk(_SeekingReader(stream)).walk():
        raise tarfile.ReadError("the end mark is missing")


class _SequentialReader:
    """Reads a stream that cannot seek cheaply."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        return self._stream.read(size)

    def skip(self, size: int) -> None:
        while size:
            block = self._stream.read(min(size, _BLOCK_BYTES))
            if not block:
                raise tarfile.ReadError("unexpected end of data")
            size -= len(block)


class _SeekingReader:
    """Reads a stream that can seek. A position behind the end is noticed by the next read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        return self._stream.read(size)

    def skip(self, size: int) -> None:
        self._stream.seek(size, io.SEEK_CUR)


class _TarWalk:
    """One pass over the members of a tar."""

    def __init__(self, reader: _SequentialReader | _SeekingReader) -> None:
        self._reader = reader

    def walk(self) -> bool:
        """
        Read all headers and skip all data.

        Returns:
            Whether the tar has an end mark.

        Raises:
            tarfile.TarError: A header is invalid, too large or missing.
        """
        is_first = True
        while True:
            header = self._reader.read(_TAR_BLOCK_BYTES)
            if not header and not is_first:
                return False
            if header == _END_MARK:
                return True
            self._skip_member(header)
            is_first = False

    def _skip_member(self, header: bytes) -> None:
        size_bytes: int | None = None
        for _ in range(MAX_EXTENDED_HEADERS_IN_A_ROW + 1):
            member = _parse_header(header)
            if member.type in _PAX_TYPES:
                size_bytes = _size_in_pax(self._read_extended(member), member.type) or size_bytes
            elif member.type in _LONG_NAME_TYPES:
                self._read_extended(member)
            else:
                self._skip_data(member, header, member.size if size_bytes is None else size_bytes)
                return
            header = self._reader.read(_TAR_BLOCK_BYTES)
            if len(header) < _TAR_BLOCK_BYTES or header == _END_MARK:
                raise tarfile.ReadError("an extended header without a member")
        raise tarfile.ReadError(f"more than {MAX_EXTENDED_HEADERS_IN_A_ROW} extended headers in a row")

    def _read_extended(self, member: tarfile.TarInfo) -> bytes:
        if member.size > MAX_EXTENDED_HEADER_BYTES:
            raise tarfile.ReadError(
                f"an extended header of {member.size} bytes; expected at most {MAX_EXTENDED_HEADER_BYTES}"
            )
        data = self._reader.read(_padded(member.size))
        if len(data) < member.size:
            raise tarfile.ReadError("unexpected end of data")
        return data[: member.size]

    def _skip_data(self, member: tarfile.TarInfo, header: bytes, size_bytes: int) -> None:
        if member.type == tarfile.GNUTYPE_SPARSE:
            self._skip_sparse_map(header)
        if member.isreg() or member.type not in tarfile.SUPPORTED_TYPES:
            self._reader.skip(_padded(size_bytes))

    def _skip_sparse_map(self, header: bytes) -> None:
        """Skip the blocks that continue the map of an old GNU sparse member."""
        continues = header[_SPARSE_CONTINUES_AT]
        while continues:
            block = self._reader.read(_TAR_BLOCK_BYTES)
            if len(block) < _TAR_BLOCK_BYTES:
                raise tarfile.ReadError("unexpected end of data")
            continues = block[_SPARSE_EXTENSION_CONTINUES_AT]


def _parse_header(header: bytes) -> tarfile.TarInfo:
    """
    Parse one header block.

    Raises:
        tarfile.TarError: It is invalid, truncated, or the end mark.
    """
    member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    if not 0 <= member.size <= _MAX_MEMBER_BYTES:
        raise tarfile.ReadError("invalid size")
    return member


def _size_in_pax(data: bytes, kind: bytes) -> int | None:
    """Return the size that a pax header gives its member; a global header gives none."""
    size, at = None, 0
    while match := _PAX_RECORD.match(data, at):
        length = int(match[1])
        if length <= match.end() - at:  # each record ends behind its key, so that the loop advances
            raise tarfile.ReadError("invalid length of a pax record")
        if match[2] == b"size" and kind != tarfile.XGLTYPE:
            size = _parse_size(data[match.end() : at + length - 1])
        at += length
    return size


def _parse_size(text: bytes) -> int:
    if not re.fullmatch(rb"[0-9]{1,20}", text) or int(text) > _MAX_MEMBER_BYTES:
        raise tarfile.ReadError("invalid size in a pax header")
    return int(text)


def _padded(size: int) -> int:
    return -(-size // _TAR_BLOCK_BYTES) * _TAR_BLOCK_BYTES
