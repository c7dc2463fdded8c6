"""Detection of complete images, and of bodies that can be images."""

import io
import struct

import pytest
from PIL import Image

from bulkdl.errors import TransferError
from bulkdl.models import Reason
from bulkdl.sources.up42_jobs.models import Kind
from support.content_checks import check_magic_bytes, validate_content


def drawn(form, size=(64, 48), **more):
    made = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(made, form, **more)
    return made.getvalue()


def jpeg_with_thumbnail(**more):
    """A JPEG whose EXIF segment holds a small, complete JPEG."""
    body = b"Exif\0\0" + b"II*\x00" + drawn("JPEG", (16, 16))
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    whole = drawn("JPEG", (200, 150), **more)
    return whole[:2] + segment + whole[2:], len(segment) + 2


def is_complete(data):
    try:
        validate_content(Kind.QUICKLOOK, io.BytesIO(data), len(data))
    except TransferError as failure:
        return failure.reason is not Reason.CORRUPT_CONTENT
    return True


@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_inspect_jpeg_cut_behind_its_thumbnail_is_truncated(more):
    whole, behind = jpeg_with_thumbnail(**more)
    assert is_complete(whole)
    assert is_complete(whole + b"something else")
    cuts = [*range(3, behind + 700), *range(behind + 700, len(whole), 97), len(whole) - 1]
    assert [at for at in cuts if is_complete(whole[:at])] == []


def test_inspect_jpeg_without_a_scan_is_truncated():
    assert not is_complete(b"\xff\xd8\xff\xe0\x00\x04ab\xff\xd9")


def test_inspect_jpeg_fill_bytes_and_stray_bytes_between_segments_pass():
    whole = drawn("JPEG")
    assert is_complete(whole[:2] + b"\xff\xff\xff\xfe\x00\x04ab\0\0\0" + whole[2:])


def test_inspect_jpeg_marker_across_two_blocks_is_found(monkeypatch):
    whole = drawn("JPEG")
    for size in range(2, 40):
        monkeypatch.setattr("bulkdl.content.images._SCAN_BYTES", size)
        assert is_complete(whole)
        assert not is_complete(whole[:-1])


def test_inspect_png_with_data_behind_its_end_passes_and_without_end_not():
    whole = drawn("PNG")
    assert is_complete(whole + bytes(100_000))
    end = whole[-12:]
    text = b"tEXt" + end
    inside = struct.pack(">I", len(end)) + text + bytes(4)
    assert not is_complete(whole[:33] + inside + whole[33:-12])


@pytest.mark.parametrize(
    "text",
    [
        b"Service temporarily unavailable. Please try again later.",
        "Dienst nicht verfügbar".encode("latin-1"),
        b"ok",
        b"Error: \r\n\tnot found\n",
    ],
)
@pytest.mark.parametrize(
    "content_type", ["image/jpeg", "image/png; charset=utf-8", "IMAGE/AVIF", "image/x-y"]
)
def test_admit_text_with_an_image_type_is_rejected(text, content_type):
    with pytest.raises(TransferError) as raised:
        check_magic_bytes(Kind.QUICKLOOK, text, content_type, has_digest=False)
    assert raised.value.reason is Reason.UNEXPECTED_CONTENT


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/png", "image/gif", "image/webp", "image/tiff"])
def test_admit_type_with_known_magic_bytes_needs_them(content_type):
    with pytest.raises(TransferError):
        check_magic_bytes(Kind.QUICKLOOK, b"\x00\x01\x02binary", content_type, has_digest=False)
