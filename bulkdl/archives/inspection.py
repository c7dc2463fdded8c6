"""
Check the structure of archives without a server checksum: tar, gzipped tar and zip.

Archives are read, not unpacked.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from contextlib import suppress
from typing import BinaryIO

from bulkdl.archives.errors import DamagedArchiveError, OversizedHeaderError
from bulkdl.archives.formats import HEAD_BYTES, archive_suffix
from bulkdl.archives.gzip_reader import open_gzip
from bulkdl.archives.tar_reader import SeekingSource, SequentialSource, TarReader
from bulkdl.errors import TransferError
from bulkdl.models import Reason

_BLOCK_BYTES = 1 << 20
# zipfile reads the central directory in one call; this is enough for more than 100,000 members.
_MAX_ZIP_READ_BYTES = 16 << 20
# The readers of the standard library raise these exceptions for damaged bytes.
_DAMAGED = (
    DamagedArchiveError,
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,  # an unknown version of zip
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)


def inspect_archive(stream: BinaryIO) -> None:
    """
    Read the archive to its end and check its structure and its own checksums. Blocks.

    Memory does not depend on the archive.

    Raises:
        TransferError: The archive is damaged or truncated.
    """
    suffix = archive_suffix(stream.read(HEAD_BYTES))
    stream.seek(0)
    try:
        if suffix == ".zip":
            _read_zip(stream)
        elif suffix == ".tar.gz":
            _read_gzipped_tar(stream)
        else:
            _read_plain_tar(stream)
    except _DAMAGED as error:
        raise TransferError(Reason.CORRUPT_CONTENT, f"the archive is damaged ({error})") from None


def _read_zip(stream: BinaryIO) -> None:
    with zipfile.ZipFile(_BoundedStream(stream)) as archive:
        for member in archive.infolist():
            # An encrypted member or an unsupported method is not damage.
            with suppress(RuntimeError), archive.open(member) as content:
                while content.read(_BLOCK_BYTES):
                    pass


class _BoundedStream:
    """The part of the interface of *stream* that zipfile uses, with a limit for the size of one read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        if size > _MAX_ZIP_READ_BYTES:
            raise OversizedHeaderError(
                f"central directory of {size} bytes; expected at most {_MAX_ZIP_READ_BYTES}"
            )
        return self._stream.read(size)


def _read_gzipped_tar(stream: BinaryIO) -> None:
    unpacked = open_gzip(stream)
    for _ in TarReader(SequentialSource(unpacked)):
        pass
    while unpacked.read(_BLOCK_BYTES):  # to the end of the gzip stream, which has a checksum
        pass


def _read_plain_tar(stream: BinaryIO) -> None:
    """Walk a tar without compression. Only its end mark shows that it is complete: it has no checksum."""
    reader = TarReader(SeekingSource(stream))
    for _ in reader:
        pass
    if not reader.has_end_mark:
        raise DamagedArchiveError("the end mark is missing")
