"""Give the members of tar, gzipped tar and zip the same shape: files, folders, and members to leave out."""

from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Protocol

from bulkdl.archives.errors import DamagedArchiveError, UnsupportedArchiveError
from bulkdl.archives.formats import HEAD_BYTES, archive_suffix
from bulkdl.archives.gzip_reader import InflateLibrary, open_gzip
from bulkdl.archives.tar_reader import SeekingSource, SequentialSource, TarMember, TarReader
from bulkdl.archives.zip_reader import ZipMember, ZipReader

_BLOCK_BYTES = 256 << 10
# Deflate encodes at most 258 bytes in 2 bits. A file of n bytes cannot contain more than 1032 n bytes.
_MAX_DEFLATE_RATIO = 1032
_LEFT_OUT_TYPES = {
    tarfile.LNKTYPE: "hard link",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "FIFO",
}
_LEFT_OUT_MODES = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
}


class MemberKind(Enum):
    FILE = "file"
    FOLDER = "folder"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """
    One member of an archive.

    Attributes:
        name: The name as stored, not checked.
        why_left_out: The type of a member that is not unpacked; empty for other kinds.
    """

    name: str
    kind: MemberKind
    size_bytes: int
    mtime_s: float
    why_left_out: str = ""


class MemberReader(Protocol):
    """
    The members of an archive of any format.

    All methods raise ``DamagedArchiveError`` or ``UnsupportedArchiveError``.
    """

    @property
    def total_bytes(self) -> int | None:
        """The size of all files, if the archive states it in advance."""

    def __iter__(self) -> Iterator[ArchiveMember]:
        """Yield the members. The end of the iteration verifies the archive to its last byte."""

    def read_data(self, max_bytes: int) -> bytes:
        """Return up to *max_bytes* of the data of the current member; empty at its end."""


def open_members(
    stream: BinaryIO, archive_bytes: int, max_members: int, library: InflateLibrary | None = None
) -> MemberReader:
    """
    Return a reader for the archive *stream* of *archive_bytes*.

    Raises:
        DamagedArchiveError: The archive is invalid.
        UnsupportedArchiveError: The format is unknown.
    """
    suffix = archive_suffix(stream.read(HEAD_BYTES))
    stream.seek(0)
    if suffix == ".zip":
        return _ZipMembers(ZipReader(stream, max_members, library))
    if suffix == ".tar.gz":
        unpacked = open_gzip(stream, library)
        max_content_bytes = archive_bytes * _MAX_DEFLATE_RATIO
        return _TarMembers(TarReader(SequentialSource(unpacked)), max_content_bytes, unpacked)
    if suffix == ".tar":
        return _TarMembers(TarReader(SeekingSource(stream)), archive_bytes)
    raise UnsupportedArchiveError("the format is unknown; expected tar, gzipped tar or zip")


class _TarMembers:
    """
    The members of a tar.

    Args:
        max_content_bytes: The most data that the archive can contain.
        unpacked: The decompressed stream below *reader*; None for a tar without compression.
    """

    total_bytes = None

    def __init__(
        self, reader: TarReader, max_content_bytes: int, unpacked: io.BufferedReader | None = None
    ) -> None:
        self._reader = reader
        self._max_content_bytes = max_content_bytes
        self._unpacked = unpacked

    def read_data(self, max_bytes: int) -> bytes:
        return self._reader.read_data(max_bytes)

    def __iter__(self) -> Iterator[ArchiveMember]:
        for member in self._reader:
            if member.size_bytes > self._max_content_bytes:
                raise DamagedArchiveError(f"it is too short for a member of {member.size_bytes} bytes")
            yield _convert_tar_member(member)
        if self._unpacked is not None:
            while self._unpacked.read(_BLOCK_BYTES):  # the checksum is at the end of the gzip stream
                pass
        elif not self._reader.has_end_mark:
            raise DamagedArchiveError("the end mark is missing")


def _convert_tar_member(member: TarMember) -> ArchiveMember:
    if member.is_ambiguous:
        raise UnsupportedArchiveError("a member with contradictory headers")
    if member.is_sparse:
        raise UnsupportedArchiveError("a sparse member")
    if member.type == tarfile.DIRTYPE:
        return ArchiveMember(member.name, MemberKind.FOLDER, 0, member.mtime_s)
    if member.type in tarfile.REGULAR_TYPES:
        kind = MemberKind.FILE
        if member.name.endswith("/"):  # old formats mark a folder by its name
            if member.size_bytes:
                raise UnsupportedArchiveError("a folder with content")
            kind = MemberKind.FOLDER
        return ArchiveMember(member.name, kind, member.size_bytes, member.mtime_s)
    why = _LEFT_OUT_TYPES.get(member.type, f"unknown type {member.type!r}")
    return ArchiveMember(member.name, MemberKind.LEFT_OUT, 0, member.mtime_s, why)


class _ZipMembers:
    def __init__(self, reader: ZipReader) -> None:
        self._reader = reader

    @property
    def total_bytes(self) -> int:
        return self._reader.total_bytes

    def read_data(self, max_bytes: int) -> bytes:
        return self._reader.read_data(max_bytes)

    def __iter__(self) -> Iterator[ArchiveMember]:
        for member in self._reader:
            yield _convert_zip_member(member)
            self._verify_rest()

    def _verify_rest(self) -> None:
        """Verify the data of a member that was left out."""
        with suppress(UnsupportedArchiveError):  # it is encrypted, or its method is not supported
            while self._reader.read_data(_BLOCK_BYTES):
                pass


def _convert_zip_member(member: ZipMember) -> ArchiveMember:
    file_type = stat.S_IFMT(member.unix_mode)
    if file_type in _LEFT_OUT_MODES:
        return ArchiveMember(member.name, MemberKind.LEFT_OUT, 0, member.mtime_s, _LEFT_OUT_MODES[file_type])
    if member.name.endswith("/") or file_type == stat.S_IFDIR:
        if member.size_bytes:
            raise UnsupportedArchiveError("a folder with content")
        return ArchiveMember(member.name, MemberKind.FOLDER, 0, member.mtime_s)
    return ArchiveMember(member.name, MemberKind.FILE, member.size_bytes, member.mtime_s)
