"""
The map of a divided part: one line for each run of bytes that is there.

Lines are appended after their bytes are written, so whoever is killed leaves at most one unfinished
line. What a power cut can do to bytes and lines is found out by reading the bytes back: an extent
counts only if its checksum still holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

import google_crc32c

from bulkdl.models import Extent

_READ_BYTES = 1 << 20


def extent_of(start: int, chunks: Iterable[bytes]) -> Extent:
    """What *chunks*, one behind the other, come to from *start* on."""
    size, checksum = 0, 0
    for chunk in chunks:
        size, checksum = size + len(chunk), google_crc32c.extend(checksum, chunk)
    return Extent(start, size, checksum)


def format_extent(extent: Extent) -> bytes:
    return b"%d %d %08x\n" % (extent.start, extent.size_bytes, extent.crc32c)


def parse_extents(text: bytes, total_bytes: int) -> list[Extent]:
    """The extents of a map, by their start; unfinished, foreign and overlapping lines are left out."""
    found = []
    for each in text.split(b"\n")[:-1]:
        words = each.split(b" ")
        try:
            extent = Extent(int(words[0]), int(words[1]), int(words[2], 16))
        except (ValueError, IndexError):
            continue
        if len(words) == 3 and extent.start >= 0 and 0 < extent.size_bytes <= total_bytes - extent.start:
            found.append(extent)
    return _drop_overlaps(sorted(found, key=lambda extent: extent.start))


def _drop_overlaps(extents: list[Extent]) -> list[Extent]:
    kept: list[Extent] = []
    for extent in extents:
        if not kept or extent.start >= kept[-1].end:
            kept.append(extent)
    return kept


def verify_extents(stream: BinaryIO, extents: Iterable[Extent]) -> tuple[Extent, ...]:
    """Those of *extents* whose bytes are still what they were; blocks."""
    return tuple(extent for extent in extents if _holds(stream, extent))


def _holds(stream: BinaryIO, extent: Extent) -> bool:
    stream.seek(extent.start)
    left, checksum = extent.size_bytes, 0
    while left and (block := stream.read(min(left, _READ_BYTES))):
        left, checksum = left - len(block), google_crc32c.extend(checksum, block)
    return left == 0 and checksum == extent.crc32c
