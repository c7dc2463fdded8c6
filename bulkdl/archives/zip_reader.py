"""
Read the members of a zip in the order of their data, with bounds.

``zipfile`` is not used: it reads the whole central directory into memory, and the versions before 3.11.8 and
3.12.2 accept members that overlap. Members must not overlap, and the local header of a member must match the
central directory. The methods stored and deflate are supported.
"""

from __future__ import annotations

import io
import struct
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

from bulkdl.archives.errors import DamagedArchiveError, OversizedHeaderError, UnsupportedArchiveError
from bulkdl.archives.gzip_reader import RAW_DEFLATE_WBITS, Decompressor, InflateLibrary, fastest_library

STORED, DEFLATED = 0, 8

_END = struct.Struct("<4s4H2LH")
_END_MAGIC = b"PK\x05\x06"
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_ENTRY_MAGIC = b"PK\x01\x02"
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX_COMMENT_BYTES = 0xFFFF
_INPUT_BYTES = 64 << 10
_IS_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_IS_PATCH = 1 << 5
_IS_UTF8 = 1 << 11
_ZIP64_EXTRA = 1
_ALL_BITS_16, _ALL_BITS_32 = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class ZipMember:
    """
    One entry of the central directory.

    Attributes:
        name: The name as stored.
        stored_name: The bytes of the name.
        unix_mode: The mode of ``stat`` if the entry has one, else 0.
        mtime_s: The time of modification, read as UTC because zip stores no time zone; 0 if it is invalid.
    """

    name: str
    stored_name: bytes
    size_bytes: int
    packed_bytes: int
    crc32: int
    method: int
    flags: int
    unix_mode: int
    mtime_s: float
    header_offset: int


class ZipReader:
    """
    Iterates over the members of a zip. The data of a member can be read until the next member.

    Args:
        stream: The archive; it must be able to seek.
        max_members: Limit of the number of entries.

    Attributes:
        total_bytes: The sum of the sizes of all members.

    Raises:
        DamagedArchiveError: The central directory is missing or invalid.
        OversizedHeaderError: It has more than *max_members* entries.
        UnsupportedArchiveError: The archive consists of several files.
    """

    def __init__(self, stream: BinaryIO, max_members: int, library: InflateLibrary | None = None) -> None:
        self._stream = stream
        self._library = library or fastest_library()
        self._directory_offset, directory_bytes, entries = _find_directory(stream)
        if entries > max_members:
            raise OversizedHeaderError(f"{entries} members; expected at most {max_members}")
        self._offsets = array("Q")  # pairs: the header of the member, its entry in the central directory
        self.total_bytes = 0
        self._index_directory(self._directory_offset + directory_bytes, entries)
        self._data: Iterator[bytes] = iter(())
        self._rest = b""

    def __iter__(self) -> Iterator[ZipMember]:
        """
        Yield the members in the order of their data.

        Raises:
            DamagedArchiveError: An entry and its local header differ, or members overlap.
        """
        order = sorted(range(0, len(self._offsets), 2), key=self._offsets.__getitem__)
        end = 0
        for at in order:
            self._stream.seek(self._offsets[at + 1])
            member = _read_entry(self._stream)
            start = self._read_local_header(member)
            if member.header_offset < end or start + member.packed_bytes > self._directory_offset:
                raise DamagedArchiveError("members overlap")
            end = start + member.packed_bytes
            self._data, self._rest = self._read_blocks(member, start), b""
            yield member

    def read_data(self, max_bytes: int) -> bytes:
        """
        Return up to *max_bytes* of the data of the current member; empty at its end.

        Raises:
            DamagedArchiveError: The data is truncated or does not match its size or checksum.
            UnsupportedArchiveError: The member is encrypted, or its compression method is not supported.
        """
        while not self._rest:
            block = next(self._data, None)
            if block is None:
                return b""
            self._rest = block
        block, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return block

    def _index_directory(self, end: int, entries: int) -> None:
        self._stream.seek(self._directory_offset)
        at = self._directory_offset
        for _ in range(entries):
            member = _read_entry(self._stream)
            self._offsets.extend((member.header_offset, at))
            self.total_bytes += member.size_bytes
            at = self._stream.tell()
        if at != end:
            raise DamagedArchiveError("invalid size of the central directory")

    def _read_local_header(self, member: ZipMember) -> int:
        """Check the local header and return the offset of the data."""
        self._stream.seek(member.header_offset)
        fields = _unpack(_LOCAL, self._stream)
        name = self._stream.read(fields[9])
        if fields[0] != b"PK\x03\x04" or name != member.stored_name or fields[3] != member.method:
            raise DamagedArchiveError("a local header differs from the central directory")
        return member.header_offset + _LOCAL.size + int(fields[9]) + int(fields[10])

    def _read_blocks(self, member: ZipMember, start: int) -> Iterator[bytes]:
        if member.flags & (_IS_ENCRYPTED | _IS_PATCH):
            raise UnsupportedArchiveError("an encrypted member")
        self._stream.seek(start)
        if member.method == STORED:
            blocks = self._read_packed(member.packed_bytes)
        else:
            blocks = self._decompress(member)
        size_bytes, checksum = 0, 0
        for block in blocks:
            size_bytes, checksum = size_bytes + len(block), zlib.crc32(block, checksum)
            if size_bytes > member.size_bytes:
                break
            yield block
        if size_bytes != member.size_bytes or checksum != member.crc32:
            raise DamagedArchiveError("checksum or size mismatch of a member")

    def _read_packed(self, packed_bytes: int) -> Iterator[bytes]:
        while packed_bytes:
            block = self._stream.read(min(packed_bytes, _INPUT_BYTES))
            if not block:
                raise DamagedArchiveError("unexpected end of data")
            packed_bytes -= len(block)
            yield block

    def _decompress(self, member: ZipMember) -> Iterator[bytes]:
        if member.method != DEFLATED:
            raise UnsupportedArchiveError(f"compression method {member.method}; expected stored or deflate")
        current: Decompressor = self._library.new_decompressor(RAW_DEFLATE_WBITS)
        for packed in self._read_packed(member.packed_bytes):
            if current.eof:
                raise DamagedArchiveError("data behind the end of a compressed member")
            data = packed
            while data:
                try:
                    block = current.decompress(data, _INPUT_BYTES)
                except self._library.error as error:
                    raise DamagedArchiveError(f"invalid compressed data: {error}") from None
                yield block
                data = current.unconsumed_tail
        yield from self._drain(current)
        if not current.eof or current.unused_data:
            raise DamagedArchiveError("unexpected end of a compressed member")

    def _drain(self, current: Decompressor) -> Iterator[bytes]:
        """Yield output that the library holds back after it has consumed all input."""
        while not current.eof:
            block = current.decompress(b"", _INPUT_BYTES)
            if not block:
                return
            yield block


def _unpack(layout: struct.Struct, stream: BinaryIO) -> tuple[Any, ...]:
    data = stream.read(layout.size)
    if len(data) < layout.size:
        raise DamagedArchiveError("unexpected end of data")
    return layout.unpack(data)


def _find_directory(stream: BinaryIO) -> tuple[int, int, int]:
    """Return the offset and the size of the central directory, and the number of its entries."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - _END.size - _MAX_COMMENT_BYTES))
    tail = stream.read()
    at = _find_end_record(tail)
    _, disk, first_disk, _, entries, directory_bytes, offset, _ = _END.unpack_from(tail, at)
    end = size - len(tail) + at
    if _ALL_BITS_16 in (disk, entries) or _ALL_BITS_32 in (directory_bytes, offset):
        end64 = _read_end64(stream, end)
        if end64 is not None:
            end, disk, first_disk, entries, directory_bytes, offset = end64
    if disk != 0 or first_disk != 0:
        raise UnsupportedArchiveError("it is a part of an archive of several files")
    if offset + directory_bytes > end:
        raise DamagedArchiveError("invalid offset of the central directory")
    return offset, directory_bytes, entries


def _find_end_record(tail: bytes) -> int:
    """Return the position of the end record; prefer one whose comment ends with the archive."""
    found = []
    at = tail.rfind(_END_MAGIC, 0, max(0, len(tail) - _END.size + len(_END_MAGIC)))
    while at >= 0:
        if at + _END.size + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail):
            return at
        found.append(at)
        at = tail.rfind(_END_MAGIC, 0, at)
    if not found:
        raise DamagedArchiveError("the end of the central directory is missing")
    return found[0]


def _read_end64(stream: BinaryIO, end: int) -> tuple[int, int, int, int, int, int] | None:
    """Return the values of the zip64 end record with its position first; None if there is no such record."""
    if end < _END64_LOCATOR.size:
        return None
    stream.seek(end - _END64_LOCATOR.size)
    magic, _, offset64, _ = _unpack(_END64_LOCATOR, stream)
    if magic != b"PK\x06\x07":
        return None
    if offset64 > end:
        raise DamagedArchiveError("invalid zip64 locator")
    stream.seek(offset64)
    magic, _, _, _, disk, first_disk, _, entries, directory_bytes, offset = _unpack(_END64, stream)
    if magic != b"PK\x06\x06":
        raise DamagedArchiveError("invalid zip64 end record")
    return offset64, disk, first_disk, entries, directory_bytes, offset


def _read_entry(stream: BinaryIO) -> ZipMember:
    fields = _unpack(_ENTRY, stream)
    magic, made_by, _, flags, method, time, date, crc32, packed, size = fields[:10]
    name_bytes, extra_bytes, comment_bytes, _, _, external, offset = fields[10:]
    if magic != _ENTRY_MAGIC:
        raise DamagedArchiveError("invalid entry in the central directory")
    stored_name, extra = stream.read(name_bytes), stream.read(extra_bytes)
    stream.seek(comment_bytes, io.SEEK_CUR)
    size, packed, offset = _apply_zip64(extra, size, packed, offset)
    encoding = "utf-8" if flags & _IS_UTF8 else "cp437"
    is_unix = made_by >> 8 == 3
    return ZipMember(
        stored_name.decode(encoding, "surrogateescape"),
        stored_name,
        size,
        packed,
        crc32,
        method,
        flags,
        external >> 16 if is_unix else 0,
        _parse_time(date, time),
        offset,
    )


def _apply_zip64(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Replace values that do not fit into 32 bits by those of the zip64 extra field."""
    values = [size, packed, offset]
    if _ALL_BITS_32 not in values:
        return size, packed, offset
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _ZIP64_EXTRA:
            field = extra[at + 4 : at + 4 + length]
            for index, value in enumerate(values):
                if value == _ALL_BITS_32:
                    if len(field) < 8:
                        raise DamagedArchiveError("invalid zip64 extra field")
                    values[index], field = int.from_bytes(field[:8], "little"), field[8:]
            return values[0], values[1], values[2]
        at += 4 + length
    return size, packed, offset


def _parse_time(date: int, time: int) -> float:
    try:
        clock = time >> 11, time >> 5 & 63, (time & 31) * 2
        return datetime(1980 + (date >> 9), date >> 5 & 15, date & 31, *clock, tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
