"""Tests of the extent map, which records the stored byte ranges of a segmented partial file."""

import pytest
from google_crc32c import value as crc32c_of

from bulkdl.models import Extent
from bulkdl.state import extent_map


def test_parse_extents_of_a_truncated_map_returns_the_complete_lines():
    extents = [Extent(0, 10, 1), Extent(20, 5, 2)]
    text = b"".join(extent_map.format_extent(extent) for extent in extents)
    assert extent_map.parse_extents(text, 100) == extents
    assert extent_map.parse_extents(text[:-1], 100) == extents[:1]


@pytest.mark.parametrize(
    "invalid",
    [b"x y z\n", b"1 2\n", b"-5 10 00000001\n", b"95 10 00000001\n", b"5 0 00000001\n", b"\n", b"1 2 3 4\n"],
)
def test_parse_extents_ignores_invalid_lines(invalid):
    valid = extent_map.format_extent(Extent(0, 3, 7))
    assert extent_map.parse_extents(invalid + valid + invalid, 100) == [Extent(0, 3, 7)]


def test_parse_extents_ignores_overlapping_extents():
    text = (
        extent_map.format_extent(Extent(0, 10, 1))
        + extent_map.format_extent(Extent(5, 10, 2))
        + extent_map.format_extent(Extent(10, 5, 3))
    )
    assert extent_map.parse_extents(text, 100) == [Extent(0, 10, 1), Extent(10, 5, 3)]


def test_verify_extents_returns_only_extents_with_the_right_checksum(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"abcdef")
    extents = [Extent(0, 3, crc32c_of(b"abc")), Extent(3, 3, crc32c_of(b"xyz")), Extent(6, 2, 0)]
    with path.open("rb") as stream:
        assert extent_map.verify_extents(stream, extents) == (extents[0],)
