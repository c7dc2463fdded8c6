"""
Unpack one archive into a new folder, safely and durably.

The archive is read once, to its last byte. Every file is created through folder handles, and every block is
checksummed while it is written. All files become durable with one sync of the file system. The new folder
does not have its final name yet: the caller publishes it, and then the manifest.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from bulkdl import syscalls
from bulkdl.archives.errors import DamagedArchiveError, OversizedHeaderError, UnsupportedArchiveError
from bulkdl.archives.gzip_reader import InflateLibrary
from bulkdl.concurrency import check_stop, open_stoppable
from bulkdl.errors import ProcessingError
from bulkdl.models import Digest, Reason
from bulkdl.os_errors import map_os_errors, map_path_errors
from bulkdl.processors.unpack.manifest import ManifestHeader, ManifestWriter
from bulkdl.processors.unpack.member_writer import (
    BLOCK_BYTES,
    MIN_BACKGROUND_BYTES,
    BackgroundWriter,
    MemberWriter,
)
from bulkdl.processors.unpack.members import ArchiveMember, MemberKind, MemberReader, open_members
from bulkdl.processors.unpack.names import NameClaims, RejectedMemberError, UnpackLimits, split_name
from bulkdl.processors.unpack.tree_writer import TreeWriter

WRAPPER_FOLDER = "output"
"""UP42 puts all files of an archive into this folder. It is not repeated below the unpacked folder."""

_MAX_SHOWN_CHARS = 120
_MAX_MTIME_S = 1 << 32
# The file system cannot create a member with this name.
_NAME_ERRNOS = frozenset(
    {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}
)


class SpaceReservation(Protocol):
    """The disk space that one call may use."""

    def reserve(self, size_bytes: int) -> None:
        """
        Reserve the space for *size_bytes*, in place of an earlier reservation.

        Raises:
            DestinationError: DISK_FULL; there is not enough space.
        """

    def consume(self, size_bytes: int) -> None:
        """Reduce the reservation by bytes that are on disk now."""


@dataclass(frozen=True, slots=True)
class ArchiveContent:
    """
    Describes the bytes of an archive.

    Attributes:
        name: The path or the key, for messages.
        digest: The checksum, for the manifest.
    """

    name: str
    size_bytes: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class UnpackedArchive:
    """
    The result of one call, not yet under its final name.

    Attributes:
        folder: The complete folder to publish.
        manifest: The complete manifest to publish after *folder*.
        header: The first line of the manifest.
    """

    folder: Path
    manifest: Path
    header: ManifestHeader


def unpack_archive(
    stop: threading.Event,
    archive: Path,
    digest: Digest,
    work_folder: Path,
    space: SpaceReservation,
    *,
    limits: UnpackLimits | None = None,
    sync: bool = True,
    library: InflateLibrary | None = None,
) -> UnpackedArchive:
    """
    Unpack *archive* into the new folder *work_folder*; see ``unpack_stream``. Blocks.

    Raises:
        ReadStopped: *stop* is set.
        ProcessingError: As ``unpack_stream``.
        DestinationError: The archive cannot be read, or the files cannot be written.
    """
    with contextlib.ExitStack() as stack:
        with map_path_errors(archive):
            content = ArchiveContent(str(archive), archive.stat().st_size, digest)
            stream = stack.enter_context(open_stoppable(archive, stop))
        return unpack_stream(
            stream, content, work_folder, space, stop=stop, limits=limits, sync=sync, library=library
        )


def unpack_stream(
    stream: BinaryIO,
    content: ArchiveContent,
    work_folder: Path,
    space: SpaceReservation,
    *,
    stop: threading.Event | None = None,
    limits: UnpackLimits | None = None,
    sync: bool = True,
    library: InflateLibrary | None = None,
) -> UnpackedArchive:
    """
    Unpack the archive *stream* into the new folder *work_folder*. Blocks.

    The archive is read to its last byte. A call that fails or is stopped removes *work_folder*.

    Args:
        stop: Stops the call; None: only the reads of *stream* stop it.
        sync: Whether the files must be durable when the call returns.
        library: The library that decompresses; None: the fastest that is installed.

    Raises:
        ReadStopped: *stop* is set.
        ProcessingError: CORRUPT_CONTENT, the archive is damaged or truncated; REFUSED_CONTENT, a member is
            unsafe, a limit is exceeded, or the format is not supported.
        DestinationError: *stream* cannot be read, or the files cannot be written.
    """
    with contextlib.ExitStack() as undo:
        with map_os_errors(work_folder):
            work_folder.mkdir(parents=True)
            undo.callback(shutil.rmtree, work_folder, ignore_errors=True)
        unpacker = _Unpacker(stop or threading.Event(), space, limits or UnpackLimits())
        with _map_archive_errors(content.name, unpacker), map_os_errors(work_folder):
            members = open_members(stream, content.size_bytes, unpacker.limits.max_members, library)
            unpacked = unpacker.unpack(members, content, work_folder, sync=sync)
        undo.pop_all()
    return unpacked


@contextlib.contextmanager
def _map_archive_errors(archive: str, unpacker: _Unpacker) -> Iterator[None]:
    try:
        yield
    except (RejectedMemberError, OversizedHeaderError, UnsupportedArchiveError) as error:
        where = f", member {unpacker.shown_name}" if unpacker.shown_name else ""
        raise ProcessingError(Reason.REFUSED_CONTENT, f"{archive}: not unpacked{where}: {error}") from None
    except DamagedArchiveError as error:
        raise ProcessingError(
            Reason.CORRUPT_CONTENT, f"{archive}: the archive is damaged ({error})"
        ) from None


class _Unpacker:
    """Writes the members of one archive."""

    def __init__(self, stop: threading.Event, space: SpaceReservation, limits: UnpackLimits) -> None:
        self.limits = limits
        self.shown_name = ""
        self._stop = stop
        self._space = space
        self._claims = NameClaims(limits.max_members)
        self._is_wrapped = True
        self._is_reserved = False

    def unpack(
        self, members: MemberReader, content: ArchiveContent, work_folder: Path, *, sync: bool
    ) -> UnpackedArchive:
        tree, manifest = work_folder / "tree", work_folder / "manifest.jsonl"
        if members.total_bytes is not None:
            self._check_size(members.total_bytes)
            self._space.reserve(members.total_bytes)
            self._is_reserved = True
        with TreeWriter(tree) as writer, ManifestWriter(work_folder / "manifest.draft") as lines:
            for number, member in enumerate(members, start=1):
                self._begin_member(member, number)
                self._write_member(members, member, writer, lines)
            self.shown_name = ""
            folder = WRAPPER_FOLDER if self._is_wrapped and lines.files else ""
            header = lines.write(manifest, content.digest, content.size_bytes, folder)
            if sync:
                syscalls.sync_file_system(writer.root_handle)
        return UnpackedArchive(tree / folder, manifest, header)

    def _begin_member(self, member: ArchiveMember, number: int) -> None:
        check_stop(self._stop)
        self.shown_name = repr(member.name[:_MAX_SHOWN_CHARS])
        if number > self.limits.max_members:
            raise RejectedMemberError(f"the archive has more than {self.limits.max_members} members")

    def _write_member(
        self, members: MemberReader, member: ArchiveMember, writer: TreeWriter, lines: ManifestWriter
    ) -> None:
        if member.kind is MemberKind.LEFT_OUT:
            lines.add_left_out(member.name, member.why_left_out)
            return
        parts = split_name(member.name, self.limits)
        self._is_wrapped &= parts[:1] in ((), (WRAPPER_FOLDER,))
        if member.kind is MemberKind.FOLDER:
            self._claims.claim_folder(parts)
            with _reject_names():
                writer.make_folder(parts)
            return
        if not parts:
            raise RejectedMemberError("the name of a file is empty")
        self._is_wrapped &= len(parts) > 1
        self._claims.claim_file(parts)
        self._reserve(lines.size_bytes, member.size_bytes)
        with _reject_names():
            handle = writer.create_file(parts)
        try:
            written = self._write_data(members, member.size_bytes, handle)
            if 0 < member.mtime_s < _MAX_MTIME_S:
                os.utime(handle, (member.mtime_s, member.mtime_s))
        finally:
            os.close(handle)
        lines.add_file("/".join(parts), written.size_bytes, written.crc32c, written.sha256)

    def _reserve(self, written_bytes: int, size_bytes: int) -> None:
        if not self._is_reserved:
            self._check_size(written_bytes + size_bytes)
            self._space.reserve(size_bytes)

    def _check_size(self, size_bytes: int) -> None:
        max_bytes = self.limits.max_bytes
        if max_bytes is not None and size_bytes > max_bytes:
            raise RejectedMemberError(f"the unpacked size exceeds the limit of {max_bytes} bytes")

    def _write_data(self, members: MemberReader, size_bytes: int, handle: int) -> MemberWriter:
        """Write the data of the current member, of *size_bytes* according to its header."""
        writer = MemberWriter(handle, self._space.consume)
        if size_bytes < MIN_BACKGROUND_BYTES:
            self._copy_data(members, writer.write)
        else:
            with BackgroundWriter(writer, self._stop) as background:
                self._copy_data(members, background.write)
        return writer

    def _copy_data(self, members: MemberReader, write: Callable[[bytes], None]) -> None:
        while block := members.read_data(BLOCK_BYTES):
            check_stop(self._stop)
            write(block)


@contextlib.contextmanager
def _reject_names() -> Iterator[None]:
    """Convert the error of a file system that cannot create a name."""
    try:
        yield
    except OSError as error:
        if error.errno in _NAME_ERRNOS:
            raise RejectedMemberError(f"the file system cannot create it ({error.strerror})") from None
        raise
