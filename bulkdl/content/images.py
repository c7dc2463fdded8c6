"""
Recognition of images by their first bytes, and a check that they are complete.

Pixels are not decoded. A JPEG or PNG is complete if its own structure leads to its end marker: the end
marker of an embedded thumbnail does not count. Data after the end is allowed.
"""

from __future__ import annotations

import re
from typing import BinaryIO

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_MAGIC: tuple[tuple[bytes, int], ...] = (
    (_JPEG, 0),
    (_PNG, 0),
    (b"WEBP", 8),
    (b"GIF8", 0),
    (b"II*\x00", 0),  # TIFF
    (b"MM\x00*", 0),
    (b"jP  ", 4),  # JPEG 2000
)
# Content types of the formats above: a body with one of these must start with magic bytes.
_KNOWN_TYPES = frozenset(
    {"image/jpeg", "image/jpg", "image/pjpeg", "image/png", "image/gif", "image/webp"}
) | {
    "image/tiff",
    "image/jp2",
}
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_HEAD_BYTES = 512
_SCAN_BYTES = 64 << 10

_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
# 0xFF in entropy-coded data is followed by 0x00 or a restart marker; JPEG-LS allows all below 0x80.
# 0xFF 0xFF is a fill byte before a marker.
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])", re.DOTALL)


def is_image(head: bytes) -> bool:
    """Return whether *head* starts like an image of a known format."""
    return any(head[at : at + len(magic)] == magic for magic, at in _MAGIC)


def may_be_image(head: bytes, content_type: str) -> bool:
    """
    Return whether a body can be an image.

    A body of an unknown format can be one if its *content_type* is an image type without known magic
    bytes, and its first bytes are not text.
    """
    if is_image(head):
        return True
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type.startswith("image/") and media_type not in _KNOWN_TYPES and not is_text(head)


def is_text(head: bytes) -> bool:
    """Return whether *head* has no control characters of a binary format."""
    return _CONTROL.search(head) is None


def is_complete(stream: BinaryIO, size_bytes: int) -> bool:
    """Return whether the image in *stream* reaches its end; True for formats without a known end. Blocks."""
    head = stream.read(_HEAD_BYTES)
    if head.startswith(_JPEG):
        return _Jpeg(stream, size_bytes).is_complete()
    if head.startswith(_PNG):
        return _has_png_end(stream, size_bytes)
    if head.startswith(b"GIF8"):
        stream.seek(max(0, size_bytes - 16))
        return b";" in stream.read(16)
    if head[:4] == b"RIFF":
        return int.from_bytes(head[4:8], "little") + 8 <= size_bytes
    return True


def _has_png_end(stream: BinaryIO, size_bytes: int) -> bool:
    at = len(_PNG)
    while at + 12 <= size_bytes:  # length, type, checksum
        stream.seek(at)
        header = stream.read(8)
        at += 12 + int.from_bytes(header[:4], "big")
        if header[4:] == b"IEND":
            return at <= size_bytes
    return False


class _Jpeg:
    """A walk over the markers of the main image."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream = stream
        self._size_bytes = size_bytes
        self._at = 2  # behind the start of the image
        self._block = b""
        self._block_at = 0

    def is_complete(self) -> bool:
        has_scan = False
        while (marker := self._next_marker()) is not None:
            if marker == _END_OF_IMAGE:
                return has_scan
            has_scan = has_scan or marker == _START_OF_SCAN
            if not self._skip_segment():
                return False
        return False

    def _next_marker(self) -> int | None:
        """Find the next marker that is not part of entropy-coded data, and move behind it."""
        while self._load(2):
            match = _MARKER.search(self._block, self._at - self._block_at)
            if match:
                self._at = self._block_at + match.end()
                return match[1][0]
            self._at = self._block_at + len(self._block) - 1  # the last byte may be half of a marker
        return None

    def _skip_segment(self) -> bool:
        """Move behind the segment of the marker just read; False if it is truncated."""
        if not self._load(2):
            return False
        at = self._at - self._block_at
        length = int.from_bytes(self._block[at : at + 2], "big")
        self._at += length
        return length >= 2 and self._at <= self._size_bytes

    def _load(self, count: int) -> bool:
        """Load a block that has the next *count* bytes; False if there are not so many."""
        if not self._block_at <= self._at <= self._block_at + len(self._block) - count:
            self._stream.seek(self._at)
            self._block, self._block_at = self._stream.read(_SCAN_BYTES), self._at
        return len(self._block) - (self._at - self._block_at) >= count
