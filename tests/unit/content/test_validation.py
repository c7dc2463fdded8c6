"""Tests of the validation of archives, images and GeoJSON, and of other content."""

import codecs
import gzip
import io
import random
import tarfile
import zipfile
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from bulkdl.archives.formats import archive_suffix
from bulkdl.content import geojson_checks
from bulkdl.errors import TransferError
from bulkdl.models import Reason
from bulkdl.source_spec import HEAD_BYTES
from bulkdl.sources.up42_jobs.models import Kind
from support.content_checks import check_magic_bytes, needs_validation, validate_content

FILES = {
    "output/data.json": b'{"type": "FeatureCollection", "features": []}',
    "output/raster.tif": random.Random(1).randbytes(3000),
    "output/" + "long/" * 40 + "name.txt": b"pax",
}


def tar(mode="w", files=FILES, **options):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return buffer.getvalue()


ARCHIVES = {
    "tar.gz": tar("w:gz"),
    "tar": tar(),
    "gnu tar": tar(format=tarfile.GNU_FORMAT),
    "old tar": tar(files={"output/a": b"a" * 700}, format=tarfile.USTAR_FORMAT).replace(
        b"ustar\x0000", b"\0" * 8
    ),
    "zip": zipped(),
    "stored zip": zipped(zipfile.ZIP_STORED),
    "lzma zip": zipped(zipfile.ZIP_LZMA),
    "bzip2 zip": zipped(zipfile.ZIP_BZIP2),
    "two gzip members": tar("w:gz") + gzip.compress(b""),
}
_old = bytearray(ARCHIVES["old tar"])
_old[148:156] = b"%06o\0 " % (sum(_old[:148]) + 8 * 32 + sum(_old[156:512]))
ARCHIVES["old tar"] = bytes(_old)
SUFFIXES = {"tar.gz": ".tar.gz", "two gzip members": ".tar.gz"}


def suffix_of(name):
    return SUFFIXES.get(name, ".zip" if "zip" in name else ".tar")


def rejection_of(data, kind=Kind.ARCHIVE):
    """Return the reason for which *data* is rejected; None if it passes both checks."""
    try:
        check_magic_bytes(kind, data[:HEAD_BYTES], "", has_digest=False)
        validate_content(kind, io.BytesIO(data), len(data))
    except TransferError as failure:
        return failure.reason
    return None


@pytest.mark.parametrize("name", ARCHIVES)
def test_check_magic_bytes_of_an_archive_returns_its_suffix(name):
    data = ARCHIVES[name]
    assert check_magic_bytes(Kind.ARCHIVE, data[:HEAD_BYTES], "", has_digest=False) == suffix_of(name)
    assert rejection_of(data) is None


@pytest.mark.parametrize("name", [name for name in ARCHIVES if name != "two gzip members"])
@settings(deadline=None)
@given(st.data())
def test_validate_archive_cut_anywhere_fails(name, data):
    whole = ARCHIVES[name]
    # After its first block of zeros a tar has only zeros.
    end = len(whole.rstrip(b"\0")) + HEAD_BYTES - 1 if suffix_of(name) == ".tar" else len(whole)
    at = data.draw(st.integers(0, end - 1))
    assert rejection_of(whole[:at]) in (Reason.CORRUPT_CONTENT, Reason.UNEXPECTED_CONTENT)


@pytest.mark.parametrize("name", ARCHIVES)
def test_validate_archive_cut_between_members_fails(name):
    whole = ARCHIVES[name]
    passed = [at for at in range(0, len(whole.rstrip(b"\0")), HEAD_BYTES) if rejection_of(whole[:at]) is None]
    assert passed == []


@pytest.mark.parametrize("name", ARCHIVES)
@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), min_size=1, max_size=20))
def test_validate_archive_with_any_damage_does_not_crash(name, flips):
    data = bytearray(ARCHIVES[name])
    for place, mask in flips:
        data[int(place * len(data))] ^= mask
    assert rejection_of(bytes(data)) in (None, Reason.CORRUPT_CONTENT, Reason.UNEXPECTED_CONTENT)


@pytest.mark.parametrize("name", ["tar.gz", "zip", "stored zip"])
def test_validate_archive_with_a_flipped_byte_fails(name):
    data = bytearray(ARCHIVES[name])
    data[len(data) // 2] ^= 1
    assert rejection_of(bytes(data)) is Reason.CORRUPT_CONTENT


def test_validate_zip_of_an_unknown_version_fails():
    data = bytearray(ARCHIVES["zip"])
    data[data.find(b"PK\x01\x02") + 6] = 200
    assert rejection_of(bytes(data)) is Reason.CORRUPT_CONTENT


def test_validate_tar_with_an_invalid_header_midway_fails():
    data = bytearray(ARCHIVES["tar"])
    data[1024] ^= 1
    assert rejection_of(bytes(data)) is Reason.CORRUPT_CONTENT


def test_validate_zip_with_an_unsupported_method_passes():
    data = bytearray(zipped(zipfile.ZIP_STORED))
    for magic, offset in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        at = -1
        while (at := data.find(magic, at + 1)) >= 0:
            data[at + offset] = 9  # Deflate64
    assert rejection_of(bytes(data)) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<?xml version='1.0'?><Error><Code>InternalError</Code></Error>",
        b"\xef\xbb\xbf<Error/>",
        b" \r\n\t<!DOCTYPE html><html>Bad gateway</html>",
        b'{"error": {"code": 500}, "data": null}',
        b"[]",
        b"   ",
    ],
)
@pytest.mark.parametrize("has_digest", [True, False])
@pytest.mark.parametrize("kind", [Kind.ARCHIVE, Kind.QUICKLOOK])
def test_check_magic_bytes_of_text_fails_for_archives_and_quicklooks(kind, text, has_digest):
    with pytest.raises(TransferError) as raised:
        check_magic_bytes(kind, text, "image/png", has_digest=has_digest)
    assert raised.value.reason is Reason.UNEXPECTED_CONTENT


def test_check_magic_bytes_of_an_unknown_archive_passes_only_with_a_digest():
    with pytest.raises(TransferError):
        check_magic_bytes(Kind.ARCHIVE, b"7z\xbc\xaf\x27\x1c" + bytes(300), "", has_digest=False)
    assert check_magic_bytes(Kind.ARCHIVE, b"7z\xbc\xaf\x27\x1c" + bytes(300), "", has_digest=True) == ".bin"


@settings(deadline=None)
@given(st.binary(max_size=600))
@example(b"\x1f\x8b")
@example(b"PK\x05\x06")
def test_check_magic_bytes_of_any_bytes_returns_or_raises_a_transfer_error(head):
    assert archive_suffix(head) in (None, ".tar.gz", ".tar", ".zip")
    for kind in Kind:
        with suppress(TransferError):
            check_magic_bytes(kind, head, "", has_digest=False)


PICTURES = [
    b"\xff\xd8\xff\xe0" + bytes(20),
    b"\x89PNG\r\n\x1a\n" + bytes(20),
    b"RIFF\x10\x00\x00\x00WEBPVP8 ",
    b"GIF89a" + bytes(20),
    b"II*\x00" + bytes(20),
    b"MM\x00*" + bytes(20),
    b"\x00\x00\x00\x0cjP  \r\n\x87\n",
]


@pytest.mark.parametrize("head", PICTURES)
@pytest.mark.parametrize("content_type", ["image/jpeg", "", "application/octet-stream"])
def test_check_magic_bytes_of_an_image_passes_with_any_content_type(head, content_type):
    assert check_magic_bytes(Kind.QUICKLOOK, head, content_type, has_digest=False) == ""


def test_check_magic_bytes_of_an_unknown_image_passes_only_with_an_image_type():
    assert check_magic_bytes(Kind.QUICKLOOK, b"\x00avif", "image/avif", has_digest=False) == ""
    with pytest.raises(TransferError):
        check_magic_bytes(Kind.QUICKLOOK, b"\x00avif", "application/octet-stream", has_digest=False)


def encode_image(form, **options):
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 50).convert("RGB").save(buffer, form, **options)
    return buffer.getvalue()


ENCODED = {
    "jpeg": encode_image("JPEG"),
    "jpeg with restarts": encode_image("JPEG", restart_marker_rows=1),
    "progressive": encode_image("JPEG", progressive=True),
    "png": encode_image("PNG"),
    "gif": encode_image("GIF"),
    "webp": encode_image("WEBP"),
}


@pytest.mark.parametrize("form", ENCODED)
@pytest.mark.parametrize("trailing", [b"", b"\0", b"some program's signature"])
def test_validate_complete_image_passes_with_trailing_data(form, trailing):
    if form != "gif" or len(trailing) < 16:
        assert rejection_of(ENCODED[form] + trailing, Kind.QUICKLOOK) is None


@pytest.mark.parametrize("form", [form for form in ENCODED if form != "gif"])
def test_validate_image_cut_anywhere_fails(form):
    whole = ENCODED[form]
    passed = [at for at in range(len(whole)) if rejection_of(whole[:at], Kind.QUICKLOOK) is None]
    assert passed == []


@pytest.mark.parametrize(
    ("kind", "has_digest", "inspected"),
    [
        (Kind.ARCHIVE, True, False),
        (Kind.ARCHIVE, False, True),
        (Kind.GEOJSON, True, True),
        (Kind.GEOJSON, False, True),
        (Kind.QUICKLOOK, True, False),
        (Kind.QUICKLOOK, False, True),
    ],
)
def test_needs_validation_is_true_without_digest_and_for_geojson(kind, has_digest, inspected):
    assert needs_validation(kind, has_digest=has_digest) is inspected


@pytest.fixture(params=["small", "large"])
def size(request, monkeypatch):
    """Select how JSON is read: in memory or as a stream."""
    if request.param == "large":
        monkeypatch.setattr(geojson_checks, "_IN_MEMORY_BYTES", 0)


FEATURES = (
    b'{"type": "FeatureCollection", "features": [{"type": "Feature", "id": 1, "properties": {"type": 3}}]}'
)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (FEATURES, None),
        (b'{"features": [], "type": "FeatureCollection"}', None),
        (b'  \n{"type": "Polygon", "coordinates": []}\n', None),
        (b'{"type": "Topology"}', Reason.UNEXPECTED_CONTENT),
        (b'{"error": {"type": "Feature"}, "data": null}', Reason.UNEXPECTED_CONTENT),
        (b'{"type": ["Feature"]}', Reason.UNEXPECTED_CONTENT),
        (b'[{"type": "Feature"}]', Reason.UNEXPECTED_CONTENT),
        (b"{}", Reason.UNEXPECTED_CONTENT),
        (b"<html>", Reason.UNEXPECTED_CONTENT),
        (b"", Reason.UNEXPECTED_CONTENT),
        (b"Feature", Reason.UNEXPECTED_CONTENT),
        (b"   ", Reason.CORRUPT_CONTENT),
        (FEATURES + b"}", Reason.CORRUPT_CONTENT),
        (b'{"type": "Feature", "x": "\xff\xfe"}', Reason.CORRUPT_CONTENT),
        (b"[" * 100_000, Reason.CORRUPT_CONTENT),
        (b'{"type": "Point", "coordinates": [NaN, 0]}', Reason.CORRUPT_CONTENT),
        (b'{"type": "Point", "coordinates": [Infinity, 0]}', Reason.CORRUPT_CONTENT),
        (b'{"type": "Point", "coordinates": [-Infinity, 0]}', Reason.CORRUPT_CONTENT),
        (b'{"type": "Point", "coordinates": [1e999, 0]}', None),
        (codecs.BOM_UTF8 + FEATURES, None),
        (FEATURES.decode().encode("utf-16-le"), Reason.CORRUPT_CONTENT),
    ],
)
def test_validate_geojson_accepts_only_geojson_types(document, reason):
    assert rejection_of(document, Kind.GEOJSON) is reason


@pytest.mark.usefixtures("size")
def test_validate_geojson_cut_at_any_byte_fails():
    passed = [at for at in range(len(FEATURES)) if rejection_of(FEATURES[:at], Kind.GEOJSON) is None]
    assert passed == []
