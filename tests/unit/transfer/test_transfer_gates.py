"""What may have a final name: real archives, pictures and JSON made here, and everything else."""

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

from bulkdl.errors import TransferError
from bulkdl.models import Kind, Reason
from bulkdl.transfer import validation
from bulkdl.transfer.validation import (
    HEAD_BYTES,
    archive_suffix,
    check_magic_bytes,
    needs_validation,
    validate_content,
)

FILES = {
    "output/data.json": b'{"type": "FeatureCollection", "features": []}',
    "output/raster.tif": random.Random(1).randbytes(3000),
    "output/" + "long/" * 40 + "name.txt": b"pax",
}


def tar(mode="w", files=FILES, **more):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode, **more) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def zipped(method=zipfile.ZIP_DEFLATED):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return made.getvalue()


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


def broken(data, kind=Kind.ARCHIVE):
    """The reason for which *data* is refused by either gate; None when both let it pass."""
    try:
        check_magic_bytes(kind, data[:HEAD_BYTES], "", has_digest=False)
        validate_content(kind, io.BytesIO(data), len(data))
    except TransferError as failure:
        return failure.reason
    return None


@pytest.mark.parametrize("name", ARCHIVES)
def test_every_kind_of_archive_passes_and_is_named_by_its_bytes(name):
    data = ARCHIVES[name]
    assert check_magic_bytes(Kind.ARCHIVE, data[:HEAD_BYTES], "", has_digest=False) == suffix_of(name)
    assert broken(data) is None


@pytest.mark.parametrize("name", [name for name in ARCHIVES if name != "two gzip members"])
@settings(deadline=None)
@given(st.data())
def test_an_archive_cut_anywhere_in_its_content_is_noticed(name, data):
    whole = ARCHIVES[name]
    # Behind the first block of zeros a tar holds nothing but more of them.
    end = len(whole.rstrip(b"\0")) + HEAD_BYTES - 1 if suffix_of(name) == ".tar" else len(whole)
    at = data.draw(st.integers(0, end - 1))
    assert broken(whole[:at]) in (Reason.CORRUPT_CONTENT, Reason.UNEXPECTED_CONTENT)


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_tar_cut_between_its_members_is_noticed(name):
    whole = ARCHIVES[name]
    passed = [at for at in range(0, len(whole.rstrip(b"\0")), HEAD_BYTES) if broken(whole[:at]) is None]
    assert passed == []


@pytest.mark.parametrize("name", ARCHIVES)
@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), min_size=1, max_size=20))
def test_damage_of_any_kind_is_a_failure_and_no_crash(name, flips):
    data = bytearray(ARCHIVES[name])
    for place, mask in flips:
        data[int(place * len(data))] ^= mask
    assert broken(bytes(data)) in (None, Reason.CORRUPT_CONTENT, Reason.UNEXPECTED_CONTENT)


@pytest.mark.parametrize("name", ["tar.gz", "zip", "stored zip"])
def test_one_flipped_byte_of_content_is_noticed(name):
    data = bytearray(ARCHIVES[name])
    data[len(data) // 2] ^= 1
    assert broken(bytes(data)) is Reason.CORRUPT_CONTENT


def test_a_zip_of_a_version_that_there_is_not_is_damaged_and_no_crash():
    data = bytearray(ARCHIVES["zip"])
    data[data.find(b"PK\x01\x02") + 6] = 200
    assert broken(bytes(data)) is Reason.CORRUPT_CONTENT


def test_a_broken_header_in_the_middle_of_a_tar_is_noticed():
    data = bytearray(ARCHIVES["tar"])
    data[1024] ^= 1
    assert broken(bytes(data)) is Reason.CORRUPT_CONTENT


def test_a_zip_that_cannot_be_unpacked_here_is_not_called_damaged():
    data = bytearray(zipped(zipfile.ZIP_STORED))
    for magic, offset in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        at = -1
        while (at := data.find(magic, at + 1)) >= 0:
            data[at + offset] = 9  # Deflate64
    assert broken(bytes(data)) is None


@pytest.mark.parametrize(
    "page",
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
def test_prose_is_neither_archive_nor_picture(kind, page, has_digest):
    with pytest.raises(TransferError) as raised:
        check_magic_bytes(kind, page, "image/png", has_digest=has_digest)
    assert raised.value.reason is Reason.UNEXPECTED_CONTENT


def test_an_unknown_archive_passes_only_with_a_digest():
    with pytest.raises(TransferError):
        check_magic_bytes(Kind.ARCHIVE, b"7z\xbc\xaf\x27\x1c" + bytes(300), "", has_digest=False)
    assert check_magic_bytes(Kind.ARCHIVE, b"7z\xbc\xaf\x27\x1c" + bytes(300), "", has_digest=True) == ".bin"


@settings(deadline=None)
@given(st.binary(max_size=600))
@example(b"\x1f\x8b")
@example(b"PK\x05\x06")
def test_any_beginning_is_let_in_or_refused(head):
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
def test_pictures_pass_by_their_bytes_whatever_they_are_called(head, content_type):
    assert check_magic_bytes(Kind.QUICKLOOK, head, content_type, has_digest=False) == ""


def test_an_unknown_picture_passes_only_when_it_is_called_one():
    assert check_magic_bytes(Kind.QUICKLOOK, b"\x00avif", "image/avif", has_digest=False) == ""
    with pytest.raises(TransferError):
        check_magic_bytes(Kind.QUICKLOOK, b"\x00avif", "application/octet-stream", has_digest=False)


def drawn(form, **more):
    made = io.BytesIO()
    Image.effect_noise((64, 48), 50).convert("RGB").save(made, form, **more)
    return made.getvalue()


DRAWN = {
    "jpeg": drawn("JPEG"),
    "jpeg with restarts": drawn("JPEG", restart_marker_rows=1),
    "progressive": drawn("JPEG", progressive=True),
    "png": drawn("PNG"),
    "gif": drawn("GIF"),
    "webp": drawn("WEBP"),
}


@pytest.mark.parametrize("form", DRAWN)
@pytest.mark.parametrize("behind", [b"", b"\0", b"some program's signature"])
def test_a_whole_picture_passes_also_with_something_behind_it(form, behind):
    if form != "gif" or len(behind) < 16:
        assert broken(DRAWN[form] + behind, Kind.QUICKLOOK) is None


@pytest.mark.parametrize("form", [form for form in DRAWN if form != "gif"])
def test_a_picture_cut_anywhere_is_noticed(form):
    whole = DRAWN[form]
    passed = [at for at in range(len(whole)) if broken(whole[:at], Kind.QUICKLOOK) is None]
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
def test_what_has_a_digest_is_not_looked_at_twice_but_json_is(kind, has_digest, inspected):
    assert needs_validation(kind, has_digest=has_digest) is inspected


@pytest.fixture(params=["small", "large"])
def size(request, monkeypatch):
    """Both ways of reading JSON: whole in memory, and as a stream."""
    if request.param == "large":
        monkeypatch.setattr(validation, "_IN_MEMORY_BYTES", 0)


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
def test_geojson_is_told_from_other_json(document, reason):
    assert broken(document, Kind.GEOJSON) is reason


@pytest.mark.usefixtures("size")
def test_json_cut_at_any_byte_is_noticed():
    passed = [at for at in range(len(FEATURES)) if broken(FEATURES[:at], Kind.GEOJSON) is None]
    assert passed == []
