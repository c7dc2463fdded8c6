import gzip
import io
import json
import tarfile
import zipfile

import pytest

from bulkdl.content.media_types import (
    ORIGINAL_SUFFIXES,
    checks_for_asset,
    checks_for_original,
    find_suffix,
)
from bulkdl.errors import ContentRejectedError, TransferError
from bulkdl.models import Reason

XML_ERROR = b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code></Error>"
HTML = b"\n<!DOCTYPE html><html><body>Bad gateway</body></html>"
JSON_ERROR = b'{"title": "Not Found", "status": 404}'


def _zip():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.tif", b"II*\0")
    return stream.getvalue()


def _tgz():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        info = tarfile.TarInfo("a.tif")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"II*\0"))
    return stream.getvalue()


def _tar():
    return gzip.decompress(_tgz())


CONTENT = {
    "b01.tiff": [b"II*\0rest", b"MM\0*rest", b"II+\0rest", b"MM\0+rest"],
    "b01.TIF": [b"II*\0rest"],
    "b02.jp2": [b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51\0"],
    "preview.jpg": [b"\xff\xd8\xff\xe0rest"],
    "preview.png": [b"\x89PNG\r\n\x1a\nrest"],
    "stac.geojson": [b' {"type": "Feature"}', b"[1]"],
    "metadata.xml": [b"<?xml version='1.0'?><Product/>", b"\xef\xbb\xbf<Dimap/>"],
    "report.pdf": [b"%PDF-1.7"],
    "data.zip": [_zip()],
    "data.tgz": [_tgz()],
    "data.tar": [_tar()],
}


@pytest.mark.parametrize(
    ("name", "head"), [(name, head) for name, heads in CONTENT.items() for head in heads]
)
def test_check_head_of_an_asset_accepts_its_format(name, head):
    assert checks_for_asset(name).check_head(head, "application/xml", has_digest=False) == ""


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("has_digest", [False, True])
@pytest.mark.parametrize("head", [XML_ERROR, HTML, b""])
def test_check_head_of_an_asset_rejects_error_pages(name, head, has_digest):
    for checks in (checks_for_asset(name), checks_for_original(name)):
        with pytest.raises(ContentRejectedError) as caught:
            checks.check_head(head, "image/tiff", has_digest=has_digest)
        assert caught.value.reason is Reason.UNEXPECTED_CONTENT


@pytest.mark.parametrize("name", [name for name in CONTENT if "json" not in name])
@pytest.mark.parametrize("has_digest", [False, True])
def test_check_head_of_an_asset_rejects_a_json_error(name, has_digest):
    with pytest.raises(ContentRejectedError):
        checks_for_asset(name).check_head(JSON_ERROR, "", has_digest=has_digest)


def test_check_head_of_an_asset_accepts_other_binary_data_only_with_a_checksum():
    checks = checks_for_asset("b01.tiff")
    assert checks.check_head(b"\0binary", "", has_digest=True) == ""
    with pytest.raises(ContentRejectedError, match="not tiff data"):
        checks.check_head(b"\0binary", "", has_digest=False)


@pytest.mark.parametrize("head", [b"text", b"\0binary", b"{}", b"<kml/>", b""])
def test_check_head_of_an_unknown_format_accepts_anything_but_error_pages(head):
    assert checks_for_asset("licence.txt").check_head(head, "", has_digest=False) == ""
    with pytest.raises(ContentRejectedError):
        checks_for_asset("licence.txt").check_head(HTML, "", has_digest=True)


@pytest.mark.parametrize(
    ("name", "head", "suffix"),
    [
        ("order.zip", _zip(), ""),
        ("order.zip", _tgz(), ""),
        ("order", _zip(), ".zip"),
        ("order", _tgz(), ".tgz"),
        ("order", _tar(), ".tar"),
        ("order.1", b"II*\0", ".tiff"),
        ("order", b"\xff\x4f\xff\x51", ".jp2"),
        ("order", b"\0binary", ".bin"),
    ],
)
def test_check_head_of_an_original_returns_a_suffix_if_its_name_has_none(name, head, suffix):
    assert checks_for_original(name).check_head(head, "", has_digest=True) == suffix
    assert suffix in ORIGINAL_SUFFIXES


@pytest.mark.parametrize("head", [b"text", b"\0binary", b"{}", b"<kml/>"])
def test_check_head_of_an_original_without_checksum_accepts_archives_and_rasters_only(head):
    with pytest.raises(ContentRejectedError, match="not an archive or a raster"):
        checks_for_original("order.zip").check_head(head, "", has_digest=False)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.zip", _zip()),
        ("a.tgz", _tgz()),
        ("a.json", json.dumps({"a": 1}).encode()),
        ("a.json", b"\xef\xbb\xbf[1]"),
        ("a.xml", b"<a>1</a>\n"),
        ("a.tiff", b"II*\0"),
        ("a.unknown", b"x"),
    ],
)
def test_validate_accepts_complete_files_and_rejects_truncated_ones(name, content):
    checks = checks_for_asset(name)
    checks.validate(io.BytesIO(content), len(content))
    if name not in ("a.tiff", "a.unknown"):
        cut = content[: len(content) // 2]
        with pytest.raises(TransferError) as caught:
            checks.validate(io.BytesIO(cut), len(cut))
        assert caught.value.reason is Reason.CORRUPT_CONTENT


def test_validate_large_json_is_parsed_as_a_stream():
    content = b"[" + b"1," * (9 << 20) + b"1]"
    checks_for_asset("a.json").validate(io.BytesIO(content), len(content))
    with pytest.raises(TransferError):
        checks_for_asset("a.json").validate(io.BytesIO(content[:-1]), len(content) - 1)


def test_is_cheap_only_for_small_files_that_are_not_archives():
    assert checks_for_asset("a.json").is_cheap(1000)
    assert not checks_for_asset("a.json").is_cheap(1 << 20)
    assert not checks_for_asset("a.zip").is_cheap(1)
    assert not checks_for_original("a").is_cheap(1)


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.TIF", "tif"), ("a", ""), (".tif", ""), ("a.tar.gz", "gz"), ("", "")]
)
def test_find_suffix_is_in_lower_case(name, suffix):
    assert find_suffix(name) == suffix
