"""Check GeoJSON documents."""

from __future__ import annotations

import codecs
import json
from typing import BinaryIO

import ijson

from bulkdl.content.heads import is_markup, quote_head
from bulkdl.errors import ContentRejectedError, TransferError
from bulkdl.models import Reason

_IN_MEMORY_BYTES = 16 << 20
_CHEAP_BYTES = 64 << 10
_GEOJSON_TYPES = frozenset(
    {"FeatureCollection", "Feature", "GeometryCollection", "Point", "MultiPoint", "LineString"}
    | {"MultiLineString", "Polygon", "MultiPolygon"}
)


class GeoJsonChecks:
    """Accepts JSON documents that are a GeoJSON object."""

    def check_head(self, head: bytes, content_type: str, *, has_digest: bool) -> str:
        """Return no suffix: the file name does not depend on the content."""
        del content_type, has_digest
        if not is_markup(head) or head[:1] == b"<" or not head:
            raise ContentRejectedError(
                Reason.UNEXPECTED_CONTENT, f"not JSON (starts with {quote_head(head)})"
            )
        return ""

    def needs_validation(self, *, has_digest: bool) -> bool:
        """Return True: a checksum does not prove that the document is GeoJSON."""
        del has_digest
        return True

    def is_cheap(self, size_bytes: int) -> bool:
        """Return whether the document is small."""
        return size_bytes <= _CHEAP_BYTES

    def validate(self, stream: BinaryIO, size_bytes: int) -> None:
        """Check that the document is valid JSON with a type of GeoJSON."""
        _validate_geojson(stream, size_bytes)


CHECKS = GeoJsonChecks()


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
