"""
Create quicklooks: valid JPEG and PNG images from a seed.

This is the only module that needs Pillow. To reach a size, an image is padded with data that decoders skip
(JPEG comments, a private PNG chunk).
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from functools import lru_cache

from PIL import Image, ImageDraw, ImageOps

_PX = 512
_MAX_KEPT_BYTES = 100_000
_DRAWN_PX = 320  # the drawing is enlarged, because drawing takes time for each pixel
_WATER_LEVEL = 84
_CLOUDY = 0.4  # share of the pictures with clouds
# Colours of low, middle and high ground.
_LANDSCAPES = (
    ((38, 62, 38), (92, 112, 66), (176, 160, 120)),
    ((44, 72, 44), (118, 124, 80), (190, 178, 150)),
    ((70, 66, 48), (142, 122, 88), (206, 190, 160)),
)
_FIELDS = ((150, 160, 84), (96, 130, 62), (178, 158, 108), (70, 98, 54))


def create_picture(key: str, suffix: str, size_bytes: int = 0) -> bytes:
    """Create the image for *key* with at least *size_bytes*: PNG for the suffix ``png``, otherwise JPEG."""
    # Pictures of this size are listed and downloaded again and again, and drawing takes 10 ms.
    create = _create_kept if size_bytes <= _MAX_KEPT_BYTES else _create
    return create(key, suffix, size_bytes)


def _create(key: str, suffix: str, size_bytes: int) -> bytes:
    rng = random.Random(key)
    image = _draw(rng)
    out = io.BytesIO()
    if suffix.lower() == "png":
        image.quantize(32, Image.Quantize.FASTOCTREE).save(out, "PNG")
        return _pad_png(out.getvalue(), size_bytes, rng)
    image.save(out, "JPEG", quality=60)
    return _pad_jpeg(out.getvalue(), size_bytes, rng)


_create_kept = lru_cache(maxsize=256)(_create)


def _draw(rng: random.Random) -> Image.Image:
    """Draw an area as a satellite could show it: water, vegetation, bare ground, fields and clouds."""
    height = _create_noise(rng, (3, 7, 17, 45))
    land = ImageOps.colorize(height, *rng.choice(_LANDSCAPES), blackpoint=70, midpoint=118, whitepoint=195)
    pen = ImageDraw.Draw(land, "RGBA")
    for _ in range(rng.randrange(10, 40)):
        x, y, width, depth = (
            rng.randrange(_DRAWN_PX),
            rng.randrange(_DRAWN_PX),
            rng.randrange(12, 46),
            rng.randrange(12, 46),
        )
        lean = rng.randrange(-8, 8)
        corners = [(x, y), (x + width, y + lean), (x + width - lean, y + depth + lean), (x - lean, y + depth)]
        pen.polygon(corners, fill=(*rng.choice(_FIELDS), 110))
    water = height.point(lambda level: 255 if level < _WATER_LEVEL else 0)
    land.paste((24, 52, 74), mask=water)
    if rng.random() < _CLOUDY:
        clouds = _create_noise(rng, (4, 11, 29)).point(lambda level: max(0, min(235, (level - 138) * 6)))
        land.paste((246, 248, 250), mask=clouds)
    return land.resize((_PX, _PX), Image.Resampling.BILINEAR)


def _create_noise(rng: random.Random, sizes: tuple[int, ...]) -> Image.Image:
    """Return the sum of random grids; each further grid is finer and has half the weight."""
    total = Image.new("L", (_DRAWN_PX, _DRAWN_PX), 128)
    for octave, size in enumerate(sizes):
        grid = Image.frombytes("L", (size, size), rng.randbytes(size * size))
        total = Image.blend(
            total, grid.resize((_DRAWN_PX, _DRAWN_PX), Image.Resampling.BICUBIC), 0.6 / (octave + 1)
        )
    return total


def _pad_jpeg(data: bytes, size_bytes: int, rng: random.Random) -> bytes:
    missing = size_bytes - len(data)
    segments = []
    while missing > 0:
        length = max(0, min(missing - 4, 60_000))
        segments.append(b"\xff\xfe" + struct.pack(">H", length + 2) + rng.randbytes(length))
        missing -= length + 4
    return data[:2] + b"".join(segments) + data[2:]


def _pad_png(data: bytes, size_bytes: int, rng: random.Random) -> bytes:
    missing = size_bytes - len(data)
    if missing <= 0:
        return data
    body = b"paDg" + rng.randbytes(max(0, missing - 12))
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk + data[33:]  # 33: signature and IHDR
