"""
Validate the content of a body before it gets a final name.

``check_magic_bytes`` checks the first bytes before any of them is written. ``validate_content`` reads the
whole body if the server did not send a checksum. Archives are read, not unpacked to disk.
"""

from __future__ import annotations

import codecs
import json
from typing import BinaryIO

import ijson

from bulkdl.archives.formats import archive_suffix
from bulkdl.archives.inspection import inspect_archive
from bulkdl.content import images
from bulkdl.errors import TransferError
from bulkdl.models import Kind, Reason

HEAD_BYTES = 512
_IN_MEMORY_BYTES = 16 << 20
_CHEAP_BYTES = 64 << 10
_GEOJSON_TYPES = frozenset(
    {"FeatureCollection", "Feature", "GeometryCollection", "Point", "MultiPoint", "LineString"}
    | {"MultiLineString", "Polygon", "MultiPolygon"}
)


class ContentRejected(TransferError):
    """The first bytes show that a body is not the requested output; none of it was stored."""


def check_magic_bytes(kind: Kind, head: bytes, content_type: str, *, has_digest: bool) -> str:
    """
    Accept or reject a body by its first bytes.

    Args:
        head: The first 512 bytes, or all if there are fewer.
        has_digest: Whether the server sent a checksum of the whole body.

    Returns:
        The suffix for the name of an archive; empty for the other kinds.

    Raises:
        ContentRejected: The body is not of this kind.
    """
    is_markup = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{", b"[", b"")
    if kind is Kind.ARCHIVE:
        suffix = archive_suffix(head)
        if suffix is None and (is_markup or not has_digest):
            raise ContentRejected(Reason.UNEXPECTED_CONTENT, f"not an archive (starts with {_quote(head)})")
        return suffix or ".bin"
    if kind is Kind.QUICKLOOK:
        if not images.is_image(head) and (is_markup or not images.may_be_image(head, content_type)):
            raise ContentRejected(Reason.UNEXPECTED_CONTENT, f"not an image (starts with {_quote(head)})")
    elif not is_markup or head[:1] == b"<" or not head:
        raise ContentRejected(Reason.UNEXPECTED_CONTENT, f"not JSON (starts with {_quote(head)})")
    return ""


def _quote(head: bytes) -> str:
    return repr(head[:16])[1:] if head else "no data"


def needs_validation(kind: Kind, *, has_digest: bool) -> bool:
    """Return whether the whole body must be read: JSON always, other kinds if there is no checksum."""
    return kind is Kind.GEOJSON or not has_digest


def is_cheap_to_validate(kind: Kind, size_bytes: int) -> bool:
    """Return whether validation is faster than a change of thread. An archive can unpack to any size."""
    return kind is not Kind.ARCHIVE and size_bytes <= _CHEAP_BYTES


def validate_content(kind: Kind, stream: BinaryIO, size_bytes: int) -> None:
    """
    Check the structure of a body; blocks.

    Raises:
        TransferError: The structure is invalid or truncated.
    """
    if kind is Kind.GEOJSON:
        _validate_geojson(stream, size_bytes)
    elif kind is Kind.ARCHIVE:
        inspect_archive(stream)
    elif kind is Kind.QUICKLOOK and not images.is_complete(stream, size_bytes):
        raise TransferError(Reason.CORRUPT_CONTENT, "the image is truncated")


def _validate_geojson(stream: BinaryIO, size_bytes: int) -> None:
    try:
        if size_bytes <= _IN_MEMORY_BYTES:
            document = json.loads(
                stream.read().removeprefix(codecs.BOM_UTF8).decode(), parse_constant=_reject_constant
            )
            kind = document.get("type") if isinstance(document, dict) else None
        else:
            kind = _read_geojson_type(stream)
    except (ValueError, RecursionError, ijson.JSONError) as error:
        raise TransferError(Reason.CORRUPT_CONTENT, f"invalid JSON ({type(error).__name__})") from None
    if not isinstance(kind, str) or kind not in _GEOJSON_TYPES:
        raise TransferError(Reason.UNEXPECTED_CONTENT, f"not GeoJSON: type is {str(kind)[:40]!r}")


def _reject_constant(name: str) -> None:
    """Reject NaN and infinities, which Python accepts and JSON does not (RFC 8259, section 6)."""
    raise ValueError(name)


def _read_geojson_type(stream: BinaryIO) -> object:
    """
    Return the value of "type" in the outermost object.

    ``ijson.parse`` is not used: it builds a path for each event, whose memory grows with the square of
    the depth, so that a few bytes of "[" take gigabytes.
    """
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
