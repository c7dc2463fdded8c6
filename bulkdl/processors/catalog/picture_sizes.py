"""Read the size of a JPEG, PNG or WebP picture from its header."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_MAX_SEGMENTS = 10_000
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
# Start of frame, without the tables DHT, JPG and DAC in the same range.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def read_picture_size(path: Path) -> tuple[int, int] | None:
    """Return width and height of the picture *path*; None if it is of another format or damaged."""
    try:
        with path.open("rb") as stream:
            size = _read(stream)
    except (OSError, struct.error, IndexError):
        return None
    return size if size is not None and min(size) > 0 else None


def _read(stream: BinaryIO) -> tuple[int, int] | None:
    head = stream.read(32)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack_from(">II", head, 16)
        return width, height
    if head.startswith(b"\xff\xd8"):
        stream.seek(2)
        return _read_jpeg(stream)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _read_webp(head)
    return None


def _read_jpeg(stream: BinaryIO) -> tuple[int, int] | None:
    for _ in range(_MAX_SEGMENTS):
        marker = stream.read(2)
        while marker == b"\xff\xff":  # fill bytes
            marker = b"\xff" + stream.read(1)
        if len(marker) < 2 or marker[0] != 0xFF:
            return None
        if marker[1] in _NO_LENGTH:
            continue
        (length,) = struct.unpack(">H", stream.read(2))
        if marker[1] in _FRAMES:
            height, width = struct.unpack_from(">HH", stream.read(5), 1)
            return width, height
        stream.seek(length - 2, 1)
    return None


def _read_webp(head: bytes) -> tuple[int, int] | None:
    form = head[12:16]
    if form == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if form == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if form == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
