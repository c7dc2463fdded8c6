"""
Create TAR, gzipped TAR and ZIP archives from lazy members. They are valid and readable at any offset.

The CRC-32 values in ZIP and gzip headers are computed when the header is first read.
"""

from __future__ import annotations

import struct
import tarfile
import zlib
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache, partial
from typing import Literal

from bulkdl.simulator.lazy_bytes import (
    Blob,
    BlobChain,
    LazyBytes,
    LiteralBytes,
    StoredGzip,
    compute_crc32,
    read_all,
)

ArchiveFormat = Literal["tgz", "tar", "zip"]
Members = Sequence[tuple[str, Blob]]

MAX_ZIP_BYTES = 2 << 30  # ZIP64 is not supported
_COMPRESSED_BELOW_BYTES = 8_192
_BLOCK = tarfile.BLOCKSIZE


def create_archive(form: ArchiveFormat, members: Members, written_at: datetime) -> Blob:
    """
    Create an archive of *members* (path, content) in this order, below the directory ``output/``.

    A very small ``tgz`` is compressed, so that a few hundred bytes are possible. Larger archives contain
    stored blocks.
    """
    if form == "zip":
        return _create_zip(members, written_at)
    tar = _create_tar(members, int(written_at.timestamp()))
    if form == "tar":
        return tar
    if tar.size <= _COMPRESSED_BELOW_BYTES:
        packer = zlib.compressobj(9, wbits=31)
        return LiteralBytes(packer.compress(read_all(tar)) + packer.flush())
    return StoredGzip(tar)


def overhead_bytes(form: ArchiveFormat, members: Members) -> int:
    """Return the approximate overhead of *form* in bytes."""
    if form == "zip":
        return 22 + sum(2 * len(path) + 76 for path, _ in members) + 90
    return _BLOCK * (3 + len(members)) + _BLOCK // 2 * len(members)


def _create_tar(members: Members, mtime_s: int) -> Blob:
    parts: list[Blob] = [LiteralBytes(_tar_header("output", 0, mtime_s, tarfile.DIRTYPE))]
    for path, blob in members:
        parts += [
            LiteralBytes(_tar_header(path, blob.size, mtime_s)),
            blob,
            LiteralBytes(b"\0" * (-blob.size % _BLOCK)),
        ]
    parts.append(LiteralBytes(b"\0" * 2 * _BLOCK))
    return BlobChain(parts)


def _tar_header(path: str, size: int, mtime_s: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(path)
    info.size, info.mtime, info.type = size, mtime_s, kind
    info.mode = 0o777 if kind == tarfile.DIRTYPE else 0o644
    info.uname = info.gname = "root"
    return info.tobuf(tarfile.GNU_FORMAT)


def _create_zip(members: Members, written_at: datetime) -> Blob:
    stamp = _dos_time(written_at)
    parts: list[Blob] = []
    records: list[Blob] = []
    offset = 0
    for path, blob in members:
        name = path.encode()
        checksum = cache(partial(compute_crc32, blob))
        common = partial(_common_zip_fields, checksum, blob.size, len(name), stamp)
        local = LazyBytes(30 + len(name), partial(_join, b"PK\3\4", common, name))
        place = struct.pack("<HHHII", 0, 0, 0, 0o644 << 16, offset)
        record = LazyBytes(46 + len(name), partial(_join, b"PK\1\2\x14\3", common, place + name))
        parts += [local, blob]
        records.append(record)
        offset += local.size + blob.size
    size = sum(record.size for record in records)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, len(members), len(members), size, offset, 0)
    return BlobChain([*parts, *records, LiteralBytes(end)])


def _join(head: bytes, middle: Callable[[], bytes], tail: bytes) -> bytes:
    return head + middle() + tail


def _common_zip_fields(
    checksum: Callable[[], int], size: int, name_bytes: int, stamp: tuple[int, int]
) -> bytes:
    """Return the fields that the local header and the central record have in common."""
    return struct.pack("<HHHHHIIIHH", 20, 0x800, 0, *stamp, checksum(), size, size, name_bytes, 0)


def _dos_time(timestamp: datetime) -> tuple[int, int]:
    return (
        timestamp.hour << 11 | timestamp.minute << 5 | timestamp.second // 2,
        (timestamp.year - 1980) << 9 | timestamp.month << 5 | timestamp.day,
    )
