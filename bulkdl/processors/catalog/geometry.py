"""
Read the geometry of a feature. Whatever is not usable becomes None with a note, and never a guess.

A footprint has longitudes and latitudes in two dimensions. A ring with a step of more than 180 degrees, or
with longitudes beyond 180, crosses the antimeridian. It is divided there, see RFC 7946, section 3.1.9. The
functions are pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any

from bulkdl.processors.catalog.facts import BBox, Footprint, Position, Ring

MAX_POSITIONS = 50_000
_MAX_LONGITUDE, _MAX_LATITUDE = 360.0, 90.0
_MAX_COORDINATE = 1e9
_HALF, _TURN = 180.0, 360.0


class UnusableGeometryError(Exception):
    """The geometry cannot be used; the text is a note for people."""


def read_footprint(geometry: Any, notes: list[str]) -> Footprint | None:
    """Return the footprint of a GeoJSON geometry; None with a note in *notes* if it is not usable."""
    if geometry is None:
        notes.append("The feature has no geometry.")
        return None
    try:
        return _read(geometry)
    except UnusableGeometryError as error:
        notes.append(f"The geometry is not usable: {error}.")
        return None


def _read(geometry: Any) -> Footprint:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    coordinates = geometry.get("coordinates") if isinstance(geometry, dict) else None
    if kind == "Polygon":
        polygons = [coordinates]
    elif kind == "MultiPolygon":
        polygons = _sequence(coordinates)
    else:
        shown = repr(kind)[:40] if isinstance(kind, str) else "unknown"
        raise UnusableGeometryError(f"expected a polygon, got the type {shown}")
    parts: list[tuple[Ring, ...]] = []
    spans: list[tuple[float, float]] = []
    count = 0
    for polygon in polygons:
        rings = [_read_ring(ring) for ring in _sequence(polygon)]
        count += sum(map(len, rings))
        if count > MAX_POSITIONS:
            raise UnusableGeometryError(f"more than {MAX_POSITIONS} positions")
        if not rings:
            raise UnusableGeometryError("a polygon is empty")
        divided, span = _divide(rings)
        parts += divided
        spans.append(span)
    if not parts:
        raise UnusableGeometryError("it has no polygon")
    return Footprint(tuple(parts), _bounds(parts, spans))


def _sequence(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UnusableGeometryError("the coordinates are invalid")
    return value


def _read_ring(values: Any) -> list[Position]:
    ring = [_read_position(value) for value in _sequence(values)]
    if ring and ring[0] != ring[-1]:
        ring.append(ring[0])
    if len(ring) < 4:
        raise UnusableGeometryError("a ring has fewer than 4 positions")
    return ring


def _read_position(value: Any) -> Position:
    if not isinstance(value, list) or len(value) < 2:
        raise UnusableGeometryError("a position is invalid")
    lon, lat = value[0], value[1]
    for number in (lon, lat):
        is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
        if not is_number or (isinstance(number, float) and not isfinite(number)):
            raise UnusableGeometryError("a coordinate is not a number")
    if abs(lon) > _MAX_LONGITUDE or abs(lat) > _MAX_LATITUDE:
        raise UnusableGeometryError("a coordinate is not in degrees of longitude and latitude")
    return float(lon), float(lat)


def _divide(rings: Sequence[list[Position]]) -> tuple[list[tuple[Ring, ...]], tuple[float, float]]:
    """Return the polygon of *rings* in parts on each side of the antimeridian, and its span of longitude."""
    outer = _unwrap(rings[0])
    west, east = _span(outer)
    shift = _find_shift(west)
    outer = _shifted(outer, shift)
    west, east = west + shift, east + shift
    if east - west > _TURN:
        raise UnusableGeometryError("it is wider than the earth")
    holes = [_align(_unwrap(ring), west, east) for ring in rings[1:]]
    if east <= _HALF:
        return [(tuple(outer), *(tuple(hole) for hole in holes))], (west, east)
    parts = []
    for keep_west in (True, False):
        clipped = [_clip(ring, keep_west=keep_west) for ring in (outer, *holes)]
        if clipped[0]:
            parts.append(tuple(tuple(ring) for ring in clipped if ring))
    return parts, (west, east - _TURN)


def _unwrap(ring: list[Position]) -> list[Position]:
    """Return *ring* with continuous longitudes: each step is at most half a turn."""
    if all(abs(b[0] - a[0]) <= _HALF for a, b in pairwise(ring)):
        return ring
    unwrapped, shift = [ring[0]], 0.0
    for (before, _), (lon, lat) in pairwise(ring):
        step = lon - before
        shift += -_TURN if step > _HALF else _TURN if step < -_HALF else 0.0
        unwrapped.append((lon + shift, lat))
    west, east = _span(unwrapped)
    if west == east:  # the whole turn as one step, for example the bounding box of the world
        return ring
    if unwrapped[-1] != unwrapped[0]:
        raise UnusableGeometryError("it contains a pole")
    return unwrapped


def _span(ring: Iterable[Position]) -> tuple[float, float]:
    lons = [lon for lon, _ in ring]
    return min(lons), max(lons)


def _find_shift(west: float) -> float:
    """Return the multiple of 360 degrees to add to *west* so that it is at least -180 and below 180."""
    shift = 0.0
    while west + shift < -_HALF:
        shift += _TURN
    while west + shift >= _HALF:
        shift -= _TURN
    return shift


def _shifted(ring: list[Position], shift: float) -> list[Position]:
    return [(lon + shift, lat) for lon, lat in ring] if shift else ring


def _align(hole: list[Position], west: float, east: float) -> list[Position]:
    """Return *hole* in the turn of its outer ring."""
    middle = (west + east) / 2
    hole_west, hole_east = _span(hole)
    return _shifted(hole, round((middle - (hole_west + hole_east) / 2) / _TURN) * _TURN)


def _clip(ring: list[Position], *, keep_west: bool) -> list[Position]:
    """Return the part of *ring* on one side of longitude 180 (Sutherland-Hodgman); empty if there is none."""
    sign = 1.0 if keep_west else -1.0
    shift = 0.0 if keep_west else -_TURN
    kept: list[Position] = []
    for (lon, lat), (next_lon, next_lat) in pairwise(ring):
        is_inside, is_next_inside = sign * (_HALF - lon) >= 0, sign * (_HALF - next_lon) >= 0
        if is_inside:
            kept.append((lon + shift, lat))
        if is_inside != is_next_inside and _HALF not in (lon, next_lon):
            share = (_HALF - lon) / (next_lon - lon)
            kept.append((_HALF + shift, lat + share * (next_lat - lat)))
    west, east = _span(kept) if kept else (0.0, 0.0)
    if west == east:  # only an edge on the antimeridian
        return []
    return [*kept, kept[0]]


def _bounds(parts: Sequence[tuple[Ring, ...]], spans: Sequence[tuple[float, float]]) -> BBox:
    lats = [lat for part in parts for _, lat in part[0]]
    west, east = _longitudes(spans)
    return west, min(lats), east, max(lats)


def _longitudes(spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return west and east of all polygons. West is larger than east if they lie around the antimeridian."""
    is_crossed = any(west > east for west, east in spans)
    has_both_sides = any(west > 0 and east == _HALF for west, east in spans) and any(
        west == -_HALF and east < 0 for west, east in spans
    )
    if not is_crossed and not has_both_sides:
        return min(west for west, _ in spans), max(east for _, east in spans)
    if any(west <= 0 < east for west, east in spans):
        return -_HALF, _HALF
    west = min(west for west, east in spans if west > east or west > 0)
    return west, max(east for west, east in spans if west > east or east <= 0)


def bbox_differs(bbox: Any, footprint: Footprint | None) -> bool:
    """Return whether *bbox*, as the provider wrote it, is not the bounding box of *footprint*."""
    if footprint is None or not isinstance(bbox, list) or len(bbox) not in (4, 6):
        return False
    values = bbox if len(bbox) == 4 else [bbox[0], bbox[1], bbox[3], bbox[4]]
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return False
    if any(abs(value) > _MAX_COORDINATE for value in values):
        return True
    return any(abs(a - b) > 1e-6 for a, b in zip(values, footprint.bbox, strict=True))
