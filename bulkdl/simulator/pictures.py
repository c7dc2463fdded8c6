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

from PIL import Image, ImageDraw, ImageOps

_PX = 512


def create_picture(key: str, suffix: str, size_bytes: int = 0) -> bytes:
    """Create the image for *key* with at least *size_bytes*: PNG for the suffix ``png``, otherwise JPEG."""
    rng = random.Random(key)
    image = _draw(rng)
    out = io.BytesIO()
    if suffix.lower() == "png":
        image.quantize(32).save(out, "PNG")
        return _pad_png(out.getvalue(), size_bytes, rng)
    image.save(out, "JPEG", quality=60)
    return _pad_jpeg(out.getvalue(), size_bytes, rng)


def _draw(rng: random.Random) -> Image.Image:
    ramp = Image.linear_gradient("L").resize((_PX, _PX)).rotate(rng.choice((0, 90, 180, 270)))
    dark, light = ((rng.randrange(100), rng.randrange(100), rng.randrange(100)) for _ in range(2))
    image = ImageOps.colorize(ramp, dark, (255 - light[0], 255 - light[1], 255 - light[2]))
    pen = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.randrange(_PX), rng.randrange(_PX)
        shade = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        pen.rectangle((x, y, x + rng.randrange(20, 160), y + rng.randrange(20, 160)), fill=shade)
    return image


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
