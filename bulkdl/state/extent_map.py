"""
Read, write and verify the extent map of a partial file: one line for each received extent.

Segmented partial files have a map, and partial files of objects without a checksum of the server. A line is
appended after its bytes are written, so a killed process leaves at most one incomplete line. A power cut can
lose bytes or lines. Therefore an extent is used only if its bytes still have its checksum.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from bulkdl.models import Extent

_READ_BYTES = 1 << 20


def map_path(data_path: Path) -> Path:
    """Return the path of the extent map of the data file *data_path*."""
    return data_path.with_suffix(".map")


def create_extent(start: int, chunks: Iterable[bytes]) -> Extent:
    """Return the extent of *chunks* when they are written one after another from *start* on."""
    size, checksum = 0, 0
    for chunk in chunks:
        size, checksum = size + len(chunk), google_crc32c.extend(checksum, chunk)
    return Extent(start, size, checksum)


def format_extent(extent: Extent) -> bytes:
    return b"%d %d %08x\n" % (extent.start, extent.size_bytes, extent.crc32c)


def parse_extents(text: bytes, total_bytes: int) -> list[Extent]:
    """Return the extents of a map by their start, without incomplete, invalid and overlapping lines."""
    extents = []
    for line in text.split(b"\n")[:-1]:
        fields = line.split(b" ")
        try:
            extent = Extent(int(fields[0]), int(fields[1]), int(fields[2], 16))
        except (ValueError, IndexError):
            continue
        if len(fields) == 3 and extent.start >= 0 and 0 < extent.size_bytes <= total_bytes - extent.start:
            extents.append(extent)
    return _drop_overlaps(sorted(extents, key=lambda extent: extent.start))


def _drop_overlaps(extents: list[Extent]) -> list[Extent]:
    disjoint: list[Extent] = []
    for extent in extents:
        if not disjoint or extent.start >= disjoint[-1].end:
            disjoint.append(extent)
    return disjoint


def verify_extents(stream: BinaryIO, extents: Iterable[Extent]) -> tuple[Extent, ...]:
    """Return the *extents* whose bytes in *stream* have their checksum. Blocks."""
    return tuple(extent for extent in extents if _has_checksum(stream, extent))


def verify_prefix(stream: BinaryIO, extents: Iterable[Extent]) -> list[Extent]:
    """Return the adjacent *extents* from byte 0 on whose bytes in *stream* have their checksum. Blocks."""
    valid: list[Extent] = []
    for extent in extents:
        if extent.start != (valid[-1].end if valid else 0) or not _has_checksum(stream, extent):
            break
        valid.append(extent)
    return valid


def _has_checksum(stream: BinaryIO, extent: Extent) -> bool:
    stream.seek(extent.start)
    remaining, checksum = extent.size_bytes, 0
    while remaining and (block := stream.read(min(remaining, _READ_BYTES))):
        remaining, checksum = remaining - len(block), google_crc32c.extend(checksum, block)
    return remaining == 0 and checksum == extent.crc32c
