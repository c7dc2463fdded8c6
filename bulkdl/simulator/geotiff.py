"""
Create GeoTIFF files of any size. The pixels are a filler that is computed on read.

Pillow and GDAL need the raster in memory. This writer keeps only the header and the strip table: TIFF 6.0,
one band of unsigned bytes, uncompressed strips, and the GeoTIFF 1.1 keys for "geographic, pixel is area,
EPSG:4326".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bulkdl.simulator.lazy_bytes import Blob, BlobChain, FillerBytes, LiteralBytes

Bounds = tuple[float, float, float, float]  # west, south, east, north, in degrees

MAX_RASTER_BYTES = 3 << 30  # classic TIFF has 32-bit offsets
_MAX_WIDTH = 16_384
_STRIP_BYTES = 1 << 20
_SHORT, _LONG, _DOUBLE = 3, 4, 12
_FORMAT = {_SHORT: "H", _LONG: "I", _DOUBLE: "d"}
_GEO_KEYS = (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326)


def create_geotiff(bounds: Bounds, size_bytes: int, key: bytes) -> Blob:
    """Create a GeoTIFF of *bounds* with *size_bytes*. Very small files are larger."""
    header_guess = 400 + 8 * (size_bytes // _STRIP_BYTES + 1)
    pixels = max(64, min(size_bytes, MAX_RASTER_BYTES) - header_guess)
    width = min(_MAX_WIDTH, 1 << ((pixels.bit_length() - 1) // 2))
    height = pixels // width
    header = _header(bounds, width, height)
    rest = max(width * height, size_bytes - len(header))
    return BlobChain([LiteralBytes(header), FillerBytes(key, rest)])


def _header(bounds: Bounds, width: int, height: int) -> bytes:
    rows = max(1, _STRIP_BYTES // width)
    strips = [min(rows, height - row) * width for row in range(0, height, rows)]
    length = len(_layout(bounds, width, height, rows, strips, 0))
    return _layout(bounds, width, height, rows, strips, length)


def _layout(bounds: Bounds, width: int, height: int, rows: int, strips: list[int], pixels_at: int) -> bytes:
    west, south, east, north = bounds
    offsets = [pixels_at + rows * width * number for number in range(len(strips))]
    return _directory(
        [
            (256, _LONG, [width]),
            (257, _LONG, [height]),
            (258, _SHORT, [8]),
            (259, _SHORT, [1]),
            (262, _SHORT, [1]),
            (273, _LONG, offsets),
            (277, _SHORT, [1]),
            (278, _LONG, [rows]),
            (279, _LONG, strips),
            (339, _SHORT, [1]),
            (33550, _DOUBLE, [(east - west) / width, (north - south) / height, 0.0]),
            (33922, _DOUBLE, [0.0, 0.0, 0.0, west, north, 0.0]),
            (34735, _SHORT, _GEO_KEYS),
        ]
    )


def _directory(tags: Sequence[tuple[int, int, Sequence[float]]]) -> bytes:
    """Return the file header, a directory of *tags* (number, type, values), and the external values."""
    after = 8 + 2 + 12 * len(tags) + 4
    entries, overflow = [], b""
    for number, kind, values in tags:
        packed = struct.pack(f"<{len(values)}{_FORMAT[kind]}", *values)
        if len(packed) > 4:
            inline = struct.pack("<I", after + len(overflow))
            overflow += packed + b"\0" * (len(packed) % 2)
        else:
            inline = packed.ljust(4, b"\0")
        entries.append(struct.pack("<HHI", number, kind, len(values)) + inline)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(entries) + b"\0" * 4 + overflow
