"""
Read the header of a GeoTIFF file: size, bands, type, reference system and transform.

Only the first directory is read, with bounds on the number of values. Other formats return None. An
invalid header also returns None: a catalogue must not depend on the content of one file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from bulkdl.processors.catalog.facts import RasterHeader

Tags = dict[int, tuple[float, ...]]
Transform = tuple[float, float, float, float, float, float]

_FIRST_READ_BYTES = 4096
_MAX_TAGS, _MAX_VALUES = 512, 4096
_FORMATS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 16: "Q", 17: "q"}
_SIZES = {kind: struct.calcsize(f"<{form}") for kind, form in _FORMATS.items()}
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT = 256, 257, 258, 262, 277, 339
_SCALE, _TIEPOINTS, _MATRIX, _GEO_KEYS = 33550, 33922, 34264, 34735
_WANTED = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT, _SCALE, _TIEPOINTS, _MATRIX, _GEO_KEYS}
)
_SAMPLE_TYPES = {1: "uint", 2: "int", 3: "float", 5: "complex_int", 6: "complex"}
_RASTER_TYPE_KEY, _GEOGRAPHIC_KEY, _PROJECTED_KEY = 1025, 2048, 3072
_IS_POINT = 2
_EPSG_CODES = range(1024, 32767)


def read_raster_header(path: str | Path) -> RasterHeader | None:
    """Return the header of the file *path*; None if it is not a readable TIFF file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        return _Reader(handle).read()
    except (OSError, struct.error, ValueError, OverflowError, KeyError):
        return None
    finally:
        os.close(handle)


class _Reader:
    """Reads the first directory of the open file *handle*."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._head = os.pread(handle, _FIRST_READ_BYTES, 0)
        self._order = {b"II": "<", b"MM": ">"}[self._head[:2]]
        (version,) = self._unpack("H", 2)
        if version not in (42, 43):
            raise ValueError("not a TIFF file")
        self._is_big = version == 43

    def read(self) -> RasterHeader | None:
        tags = self._tags()
        width, height = int(tags[_WIDTH][0]), int(tags[_HEIGHT][0])
        if width < 1 or height < 1:
            return None
        bands = int(tags.get(_SAMPLES, (1,))[0])
        keys = _geo_keys(tags.get(_GEO_KEYS, ()))
        photometric = tags.get(_PHOTOMETRIC)
        return RasterHeader(
            width,
            height,
            bands,
            _dtype(tags),
            _epsg(keys),
            _transform(tags, is_point=keys.get(_RASTER_TYPE_KEY) == _IS_POINT),
            int(photometric[0]) if photometric else None,
        )

    def _tags(self) -> Tags:
        (at,) = self._unpack("Q", 8) if self._is_big else self._unpack("I", 4)
        (count,) = self._unpack("Q" if self._is_big else "H", at)
        if count > _MAX_TAGS:
            raise ValueError("too many tags")
        size, at = (20, at + 8) if self._is_big else (12, at + 2)
        entries = self._bytes(at, size * count)
        entry = struct.Struct(f"{self._order}{'HHQQ' if self._is_big else 'HHII'}")
        if len(entries) < size * count:
            raise ValueError("the directory is cut")
        tags: Tags = {}
        for position, (number, kind, length, at) in enumerate(entry.iter_unpack(entries)):
            if number in _WANTED and kind in _FORMATS and length:
                inline = position * size + size - (8 if self._is_big else 4)
                tags[number] = self._values(kind, length, at, entries, inline)
        return tags

    def _values(self, kind: int, count: int, at: int, entries: bytes, inline: int) -> tuple[float, ...]:
        """Return the values of a tag: at *inline* in *entries* if they fit there, otherwise at *at*."""
        packed = f"{self._order}{min(count, _MAX_VALUES)}{_FORMATS[kind]}"
        if _SIZES[kind] * count <= (8 if self._is_big else 4):
            return struct.unpack_from(packed, entries, inline)
        return struct.unpack(packed, self._bytes(at, _SIZES[kind] * min(count, _MAX_VALUES)))

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        packed = self._order + form
        return struct.unpack(packed, self._bytes(at, struct.calcsize(packed)))

    def _bytes(self, at: int, size: int) -> bytes:
        if at + size <= len(self._head):
            return self._head[at : at + size]
        return os.pread(self._handle, size, at)


def _dtype(tags: Tags) -> str:
    bits = int(tags.get(_BITS, (1,))[0])
    sample_format = int(tags.get(_SAMPLE_FORMAT, (1,))[0])
    return f"{_SAMPLE_TYPES.get(sample_format, 'uint')}{max(bits, 8)}"


def _geo_keys(values: Sequence[float]) -> dict[int, int]:
    """Return the GeoTIFF keys whose value is in the directory itself."""
    numbers = [int(value) for value in values]
    groups = [numbers[at : at + 4] for at in range(4, len(numbers) - 3, 4)]
    return {key: value for key, location, _, value in groups if location == 0}


def _epsg(keys: dict[int, int]) -> int | None:
    code = keys.get(_PROJECTED_KEY, keys.get(_GEOGRAPHIC_KEY))
    return code if code in _EPSG_CODES else None


def _transform(tags: Tags, *, is_point: bool) -> Transform | None:
    matrix, scale, tiepoints = (tags.get(number, ()) for number in (_MATRIX, _SCALE, _TIEPOINTS))
    if len(matrix) == 16:
        a, b, c, d, e, f = (matrix[at] for at in (0, 1, 3, 4, 5, 7))
    elif len(scale) >= 2 and len(tiepoints) == 6:
        column, row, _, x, y, _ = tiepoints
        a, b, c = scale[0], 0.0, x - column * scale[0]
        d, e, f = 0.0, -scale[1], y + row * scale[1]
    else:
        return None
    if is_point:
        c, f = c - a / 2 - b / 2, f - d / 2 - e / 2
    transform = (a, b, c, d, e, f)
    return transform if all(map(isfinite, transform)) and a * e - b * d != 0 else None
