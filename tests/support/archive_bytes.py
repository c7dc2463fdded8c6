"""Build tar and zip archives byte by byte, including archives that no ordinary program writes."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping

END = bytes(1024)
SYMLINK_MODE = 0o120777


def header(
    name: str = "output/a", size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> bytes:
    """Return the header block of a tar member."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mode = size, kind, link, mode
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def member(
    name: str = "output/a", data: bytes = b"abc", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> bytes:
    return header(name, len(data), kind, link) + padded(data)


def pax(records: Mapping[str, str] | bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """Return an extended header with *records*, or with these bytes."""
    data = (
        records if isinstance(records, bytes) else b"".join(pax_record(*record) for record in records.items())
    )
    return header("PaxHeader", len(data), kind) + padded(data)


def pax_record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n".encode("utf-8", "surrogateescape")
    length = len(text) + 1
    while len(str(length)) + len(text) != length:
        length = len(str(length)) + len(text)
    return str(length).encode() + text


def long_name(name: str) -> bytes:
    data = name.encode() + b"\0"
    return header("././@LongLink", len(data), tarfile.GNUTYPE_LONGNAME) + padded(data)


def patched(block: bytes, at: int, value: bytes) -> bytes:
    """Return the header *block* with *value* at position *at* and a correct checksum."""
    changed = bytearray(block)
    changed[at : at + len(value)] = value
    changed[148:156] = b"%06o\0 " % (sum(changed[:148]) + 8 * 32 + sum(changed[156:512]))
    return bytes(changed)


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return stream.getvalue()


def zip_entry(
    name: bytes,
    packed: bytes,
    size: int,
    crc32: int,
    *,
    offset: int = 0,
    method: int = 8,
    flags: int = 0x800,
    unix_mode: int = 0,
) -> tuple[bytes, bytes]:
    """Return the local header with the data, and the entry of the central directory."""
    common = struct.pack("<5H3L2H", 20, flags, method, 0, 0x5821, crc32, len(packed), size, len(name), 0)
    local = b"PK\x03\x04" + common + name + packed
    directory = (
        b"PK\x01\x02"
        + struct.pack("<H", 3 << 8 | 20)
        + common
        + struct.pack("<3H2L", 0, 0, 0, unix_mode << 16, offset)
    )
    return local, directory + name


def zip_archive(*entries: tuple[bytes, bytes]) -> bytes:
    """Join local headers and entries of the central directory."""
    data = b"".join(local for local, _ in entries)
    directory = b"".join(entry for _, entry in entries)
    count = len(entries)
    return (
        data
        + directory
        + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(data), 0)
    )


def deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()
