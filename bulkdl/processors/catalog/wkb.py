"""Encode polygons in Well-Known Binary (OGC 06-103r4). The functions are pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bulkdl.processors.catalog.facts import Ring

_POLYGON, _MULTIPOLYGON = 3, 6


def encode_polygon(polygon: Sequence[Ring]) -> bytes:
    """Return one polygon: the outer ring and its holes."""
    parts = [struct.pack("<BII", 1, _POLYGON, len(polygon))]
    for ring in polygon:
        flat = [value for position in ring for value in position]
        parts.append(struct.pack(f"<I{len(flat)}d", len(ring), *flat))
    return b"".join(parts)


def encode_multipolygon(polygons: Sequence[Sequence[Ring]]) -> bytes:
    """Return a MultiPolygon."""
    parts = [struct.pack("<BII", 1, _MULTIPOLYGON, len(polygons)), *map(encode_polygon, polygons)]
    return b"".join(parts)
