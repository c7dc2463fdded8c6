"""
Gates that a body must pass before it may have a final name, by what its bytes are.

``admit`` looks at the first bytes before any of them reaches the disk; ``inspect`` reads the whole
where the server gave no digest. Archives are only ever read, never unpacked to disk.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import lzma
import tarfile
import zipfile
import zlib
from contextlib import suppress
from typing import BinaryIO

import ijson

from bulkdl.errors import TransferFailure
from bulkdl.model import Kind, Reason

HEAD_BYTES = 512
_BLOCK_BYTES = 1 << 20
_END_BYTES = 4096
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_IN_MEMORY_BYTES = 16 << 20
_BRIEF_BYTES = 64 << 10
_GEOJSON_TYPES = frozenset(
    {"FeatureCollection", "Feature", "GeometryCollection", "Point", "MultiPoint", "LineString"}
    | {"MultiLineString", "Polygon", "MultiPolygon"}
)
_PICTURES: tuple[tuple[bytes, int], ...] = (
    (b"\xff\xd8\xff", 0),  # JPEG
    (b"\x89PNG\r\n\x1a\n", 0),
    (b"WEBP", 8),
    (b"GIF8", 0),
    (b"II*\x00", 0),  # TIFF
    (b"MM\x00*", 0),
    (b"jP  ", 4),  # JPEG 2000
)
# What the readers of the standard library raise about bytes that are not as they should be.
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,  # a zip of a version that there is not
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
)


class TurnedAway(TransferFailure):
    """A body is something else than what was asked for, by its first bytes: nothing of it was let in."""


def archive_suffix(head: bytes) -> str | None:
    """``.tar.gz``, ``.zip`` or ``.tar`` by the magic bytes; None when they are none of these."""
    if head.startswith(b"\x1f\x8b"):
        return ".tar.gz"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ".zip"
    if head[257:262] == b"ustar" or _is_old_tar(head):
        return ".tar"
    return None


def _is_old_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def admit(kind: Kind, head: bytes, content_type: str, *, has_digest: bool) -> str:
    """
    Let a body in by its first bytes.

    Args:
        head: The first 512 bytes, or all if there are fewer.
        has_digest: Whether the server told a digest that the whole will be held against.

    Returns:
        The suffix for the name of an archive; empty for the other kinds.

    Raises:
        TurnedAway: The body is something else than this kind.
    """
    looks_like_prose = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{", b"[", b"")
    if kind is Kind.ARCHIVE:
        suffix = archive_suffix(head)
        if suffix is None and (looks_like_prose or not has_digest):
            raise TurnedAway(Reason.WRONG_CONTENT, f"no archive: it begins with {_shown(head)}")
        return suffix or ".bin"
    if kind is Kind.QUICKLOOK:
        is_picture = any(head[at : at + len(magic)] == magic for magic, at in _PICTURES)
        if not is_picture and (looks_like_prose or not content_type.startswith("image/")):
            raise TurnedAway(Reason.WRONG_CONTENT, f"no picture: it begins with {_shown(head)}")
    elif not looks_like_prose or head[:1] == b"<" or not head:
        raise TurnedAway(Reason.WRONG_CONTENT, f"no JSON: it begins with {_shown(head)}")
    return ""


def _shown(head: bytes) -> str:
    return repr(head[:16])[1:] if head else "nothing"


def needs_inspection(kind: Kind, *, has_digest: bool) -> bool:
    """Whether the body must be looked at once more: always for JSON, for others without a digest."""
    return kind is Kind.GEOJSON or not has_digest


def soon_inspected(kind: Kind, size_bytes: int) -> bool:
    """Whether that takes less than a trip to a thread and back. An archive can unpack to any size."""
    return kind is not Kind.ARCHIVE and size_bytes <= _BRIEF_BYTES


def inspect(kind: Kind, stream: BinaryIO, size_bytes: int) -> None:
    """
    Check the structure of a body (of a picture only its ends); blocks for as long as that takes.

    Raises:
        TransferFailure: The structure is broken or ends early.
    """
    if kind is Kind.GEOJSON:
        _inspect_geojson(stream, size_bytes)
    elif kind is Kind.ARCHIVE:
        _inspect_archive(stream)
    elif kind is Kind.QUICKLOOK:
        head = stream.read(HEAD_BYTES)
        stream.seek(max(0, size_bytes - _END_BYTES))
        if not _ends_well(head, stream.read(_END_BYTES), size_bytes):
            raise TransferFailure(Reason.BROKEN_CONTENT, "the picture ends too early")


def _ends_well(head: bytes, end: bytes, size_bytes: int) -> bool:
    """
    Whether a picture has its end. There may be something behind it; of other formats nothing is known.

    Inside of a JPEG's data the mark of its end cannot occur: there 0xFF is followed by 0x00 or a restart.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" in end
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _PNG_END in end
    if head.startswith(b"GIF8"):
        return b";" in end[-16:]
    if head[:4] == b"RIFF":
        return int.from_bytes(head[4:8], "little") + 8 <= size_bytes
    return True


def _inspect_geojson(stream: BinaryIO, size_bytes: int) -> None:
    try:
        if size_bytes <= _IN_MEMORY_BYTES:
            document = json.loads(stream.read().decode("utf-8-sig"), parse_constant=_refuse_constant)
            kind = document.get("type") if isinstance(document, dict) else None
        else:
            kind = _type_of_large(stream)
    except (ValueError, RecursionError, ijson.JSONError) as error:
        raise TransferFailure(
            Reason.BROKEN_CONTENT, f"the JSON cannot be read ({type(error).__name__})"
        ) from None
    if not isinstance(kind, str) or kind not in _GEOJSON_TYPES:
        raise TransferFailure(Reason.WRONG_CONTENT, f"JSON, but no GeoJSON: its type is {str(kind)[:40]!r}")


def _refuse_constant(name: str) -> None:
    """NaN and the infinities are Python's, not JSON's (RFC 8259, section 6)."""
    raise ValueError(name)


def _type_of_large(stream: BinaryIO) -> object:
    """The value of "type" in the outermost object. ``ijson.parse`` would tell it, at the price of a path
    with each event, whose memory grows with the square of the depth: some bytes of "[" are gigabytes."""
    kind, key, depth = None, None, 0
    if stream.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        stream.seek(0)
    for event, value in ijson.basic_parse(stream):
        if event in ("start_map", "start_array"):
            depth += 1
        elif event in ("end_map", "end_array"):
            depth -= 1
        elif depth == 1 and event == "map_key":
            key = value
        elif depth == 1 and key == "type":
            kind = value
    return kind


def _inspect_archive(stream: BinaryIO) -> None:
    suffix = archive_suffix(stream.read(HEAD_BYTES))
    stream.seek(0)
    try:
        if suffix == ".zip":
            _read_zip(stream)
        elif suffix == ".tar.gz":
            with gzip.GzipFile(fileobj=stream) as unpacked:
                _read_tar(io.BufferedReader(unpacked, _BLOCK_BYTES))
        else:
            _refuse_open_end(stream, _read_tar(stream))
    except _DAMAGED as error:
        raise TransferFailure(Reason.BROKEN_CONTENT, f"the archive is damaged ({error})") from None


def _read_zip(stream: BinaryIO) -> None:
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            # Encrypted, or packed in a way that is unknown here: that is the owner's affair, no damage.
            with suppress(RuntimeError), archive.open(member) as content:
                while content.read(_BLOCK_BYTES):
                    pass


def _read_tar(stream: BinaryIO | io.BufferedReader) -> int:
    """
    Walk all members and read to the very end, so that gzip's own checksum is checked too.

    Returns:
        Where the last member ends.
    """
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK_BYTES) as archive:
        while archive.next() is not None:
            archive.members = []  # type: ignore[attr-defined] # else memory grows with the members
        end = archive.offset
    while stream.read(_BLOCK_BYTES):
        pass
    return end


def _refuse_open_end(stream: BinaryIO, end: int) -> None:
    """A tar has no checksum over the whole: only the block of zeros behind it tells that it is all there."""
    stream.seek(end)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"no end mark at byte {end}")
