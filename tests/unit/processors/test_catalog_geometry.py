"""The footprints of features: antimeridian, third dimension, and values that are not usable."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.processors.catalog.facts import Footprint
from bulkdl.processors.catalog.geometry import MAX_POSITIONS, bbox_differs, read_footprint

Position = tuple[float, ...]


def polygon(*rings: list[Position]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[list(position) for position in ring] for ring in rings]}


def box(west: float, south: float, east: float, north: float) -> list[Position]:
    return [(west, south), (east, south), (east, north), (west, north), (west, south)]


def read(geometry: Any) -> Footprint:
    notes: list[str] = []
    footprint = read_footprint(geometry, notes)
    assert footprint is not None, notes
    assert not notes
    return footprint


def note_of(geometry: Any) -> str:
    notes: list[str] = []
    assert read_footprint(geometry, notes) is None
    (note,) = notes
    return note


def test_read_footprint_polygon_returns_its_ring_and_bounds() -> None:
    footprint = read(polygon(box(13, 52, 14, 53)))
    assert footprint.polygons == ((tuple(box(13, 52, 14, 53)),),)
    assert footprint.bbox == (13, 52, 14, 53)


def test_read_footprint_third_dimension_is_dropped() -> None:
    ring = [(*position, 120.5) for position in box(13, 52, 14, 53)]
    assert read(polygon(ring)) == read(polygon(box(13, 52, 14, 53)))


def test_read_footprint_open_ring_is_closed() -> None:
    assert read(polygon(box(13, 52, 14, 53)[:-1])) == read(polygon(box(13, 52, 14, 53)))


def test_read_footprint_hole_is_kept() -> None:
    footprint = read(polygon(box(0, 0, 10, 10), box(2, 2, 3, 3)))
    assert len(footprint.polygons[0]) == 2


@pytest.mark.parametrize(
    "ring",
    [
        box(170, 10, -170, 20),  # a step of 340 degrees
        box(170, 10, 190, 20),  # beyond 180
        box(-190, 10, -170, 20),
        [(-170, 20), (-170, 10), (170, 10), (170, 20), (-170, 20)],
    ],
)
def test_read_footprint_across_the_antimeridian_is_divided(ring: list[Position]) -> None:
    footprint = read(polygon(ring))
    assert footprint.bbox == (170, 10, -170, 20)
    assert len(footprint.polygons) == 2
    spans = sorted(
        (min(lon for lon, _ in part[0]), max(lon for lon, _ in part[0])) for part in footprint.polygons
    )
    assert spans == [(-180, -170), (170, 180)]
    for part in footprint.polygons:
        assert part[0][0] == part[0][-1]


def test_read_footprint_sloped_edge_is_cut_at_the_antimeridian() -> None:
    footprint = read(polygon([(178, 0), (-178, 4), (178, 4), (178, 0)]))
    latitudes = {lat for part in footprint.polygons for lon, lat in part[0] if abs(lon) == 180}
    assert latitudes == {2, 4}


def test_read_footprint_hole_beyond_180_stays_in_its_part() -> None:
    footprint = read(polygon(box(170, 10, -170, 20), box(-178, 12, -176, 14)))
    assert [len(part) for part in footprint.polygons] == [1, 2]


def test_read_footprint_touching_180_is_not_divided() -> None:
    footprint = read(polygon(box(170, 10, 180, 20)))
    assert footprint.bbox == (170, 10, 180, 20)
    assert len(footprint.polygons) == 1


def test_read_footprint_divided_multipolygon_has_west_larger_than_east() -> None:
    geometry = {
        "type": "MultiPolygon",
        "coordinates": [
            polygon(box(170, 0, 180, 5))["coordinates"],
            polygon(box(-180, 0, -170, 5))["coordinates"],
        ],
    }
    assert read(geometry).bbox == (170, 0, -170, 5)


def test_read_footprint_longitudes_to_360_are_moved() -> None:
    assert read(polygon(box(350, 10, 355, 20))).bbox == (-10, 10, -5, 20)


def test_read_footprint_world_stays_the_world() -> None:
    assert read(polygon(box(-180, -90, 180, 90))).bbox == (-180, -90, 180, 90)


@pytest.mark.parametrize(
    ("geometry", "problem"),
    [
        (None, "no geometry"),
        ({"type": "Point", "coordinates": [1, 2]}, "expected a polygon, got the type 'Point'"),
        ("POLYGON((0 0))", "expected a polygon"),
        ({"type": ["Polygon"]}, "expected a polygon"),
        ({"type": "Polygon", "coordinates": []}, "empty"),
        ({"type": "Polygon", "coordinates": None}, "invalid"),
        ({"type": "MultiPolygon", "coordinates": []}, "no polygon"),
        (polygon(box(500_000, 5_800_000, 600_000, 5_900_000)), "not in degrees"),
        (polygon(box(0, 0, 1, 91)), "not in degrees"),
        (polygon([(0, 0), (1, 1), (0, 0)]), "fewer than 4"),
        (polygon([(0, 0), (1, 0), (math.nan, 1), (0, 0)]), "not a number"),
        (polygon([(0, 0), (1, 0), (math.inf, 1), (0, 0)]), "not a number"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], ["1", 1], [0, 0]]]}, "not a number"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [True, 1], [0, 0]]]}, "not a number"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [None, 1], [0, 0]]]}, "not a number"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1], [1, 1], [0, 0]]]}, "invalid"),
        (polygon([(0, 80), (120, 80), (-120, 80), (0, 80)]), "pole"),
        (polygon([(0, 0)] * (MAX_POSITIONS + 1)), "positions"),
    ],
)
def test_read_footprint_unusable_geometry_returns_none_with_a_note(geometry: Any, problem: str) -> None:
    assert problem in note_of(geometry)


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers() | st.none() | st.text(max_size=3)
positions = st.lists(numbers, max_size=4) | st.tuples(st.floats(-400, 400), st.floats(-95, 95)).map(list)
rings = st.lists(positions, max_size=8)
geometries = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["Polygon", "MultiPolygon", "Point", None]),
        "coordinates": st.lists(rings, max_size=3) | st.lists(st.lists(rings, max_size=2), max_size=2),
    }
)


@given(geometries)
def test_read_footprint_any_geometry_is_closed_and_in_range(geometry: Any) -> None:
    notes: list[str] = []
    footprint = read_footprint(geometry, notes)
    if footprint is None:
        assert len(notes) == 1
        return
    for part in footprint.polygons:
        for ring in part:
            assert ring[0] == ring[-1]
            assert all(-180 <= lon <= 180 or not part for lon, _ in part[0])
            assert all(-90 <= lat <= 90 for _, lat in ring)
    west, south, east, north = footprint.bbox
    assert -180 <= west <= 180
    assert -180 <= east <= 180
    assert south <= north


@given(
    west=st.floats(-180, 179),
    width=st.floats(0.01, 170),
    south=st.floats(-80, 70),
    height=st.floats(0.01, 10),
    turn=st.sampled_from([-360, 0, 360]),
)
def test_read_footprint_box_in_any_turn_has_the_same_bounds(
    west: float, width: float, south: float, height: float, turn: int
) -> None:
    if abs(west + turn) > 360 or abs(west + width + turn) > 360:
        return
    expected_east = west + width if west + width <= 180 else west + width - 360
    footprint = read(polygon(box(west + turn, south, west + width + turn, south + height)))
    assert footprint.bbox[0] == pytest.approx(west, abs=1e-9)
    assert footprint.bbox[2] == pytest.approx(expected_east, abs=1e-9)


def test_bbox_differs_only_if_the_values_are_others() -> None:
    footprint = read(polygon(box(13, 52, 14, 53)))
    assert not bbox_differs([13, 52, 14, 53], footprint)
    assert not bbox_differs([13, 52, 0, 14, 53, 9], footprint)
    assert bbox_differs([13, 52, 15, 53], footprint)
    assert bbox_differs([13, 52, 10**400, 53], footprint)
    assert not bbox_differs(["a"], footprint)
    assert not bbox_differs([1, 2, 3, 4], None)
