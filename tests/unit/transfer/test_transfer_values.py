"""Digests, signed URLs and the floor on speed."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkdl.http.stall import StallDetector
from bulkdl.models import Digest
from bulkdl.transfer.checksums import Digester, parse_goog_hash
from bulkdl.transfer.signed_url import SignedUrl
from support.scripted_store import goog_hash

CRC, MD5 = Digest("crc32c", "yZRlqg=="), Digest("md5", "XrY7u+Ae7tCTyyK7j1rNww==")
NOW = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], ()),
        (["crc32c=yZRlqg=="], (CRC,)),
        (["crc32c=yZRlqg==,md5=XrY7u+Ae7tCTyyK7j1rNww=="], (CRC, MD5)),
        (["crc32c=yZRlqg==", "md5=XrY7u+Ae7tCTyyK7j1rNww=="], (CRC, MD5)),
        ([" crc32c=yZRlqg== , md5=XrY7u+Ae7tCTyyK7j1rNww=="], (CRC, MD5)),
        (["sha256=47DEQpj8HBSa", "crc32c=yZRlqg=="], (CRC,)),
        (["crc32c="], ()),
        (["crc32c"], ()),
        (["crc32c=yZRlqg"], ()),
        (["crc32c=!!!!!!=="], ()),
        (["crc32c=XrY7u+Ae7tCTyyK7j1rNww=="], ()),
        (["md5=yZRlqg=="], ()),
        (["crc32c=yZRlqé=="], ()),
        (["=,,=="], ()),
    ],
)
def test_goog_hash_in_all_its_forms(values, found):
    assert parse_goog_hash(values) == found


@settings(deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4))
def test_rubbish_in_goog_hash_is_left_out(values):
    assert all(digest.algorithm in ("crc32c", "md5") for digest in parse_goog_hash(values))


@settings(deadline=None)
@given(
    st.binary(max_size=300), st.integers(0, 300), st.sampled_from([("crc32c",), ("md5",), ("crc32c", "md5")])
)
def test_a_digest_in_two_halves_is_that_of_the_whole(data, at, algorithms):
    told = parse_goog_hash([goog_hash(data, *algorithms)])
    digester = Digester(told)
    digester.update(data[:at])
    digester.read(io.BytesIO(data[at:]), len(data))
    assert digester.at_bytes == len(data)
    assert digester.find_mismatch(told) is None
    assert str(digester.crc32c) == goog_hash(data, "crc32c")
    other = Digester(told)
    other.update(data + b"x")
    assert other.find_mismatch(told) == told[0]


def test_reading_stops_where_the_part_counts():
    digester = Digester()
    digester.read(io.BytesIO(b"abcdef"), 3)
    assert str(digester.crc32c) == goog_hash(b"abc", "crc32c")
    digester.read(io.BytesIO(b""), 9)
    assert digester.at_bytes == 3


def test_md5_is_spared_where_crc32c_is_told():
    assert set(Digester((CRC, MD5))._hashes) == {"crc32c"}
    assert set(Digester((MD5,))._hashes) == {"crc32c", "md5"}


V2 = "https://storage.googleapis.com/bucket/a%2Fb/out.tgz?GoogleAccessId=x%40y&Expires=1709294520&Signature=s%2F1%3D"
V4 = (
    "https://storage.googleapis.com/bucket/out.tgz?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=c"
    "&X-Goog-Date=20240301T115900Z&X-Goog-Expires=180&X-Goog-SignedHeaders=host&X-Goog-Signature=5ec2e7"
)


@pytest.mark.parametrize(
    ("url", "source", "expires_at"),
    [
        (V2, "https://storage.googleapis.com/bucket/a%2Fb/out.tgz", NOW + timedelta(minutes=2)),
        (V4, "https://storage.googleapis.com/bucket/out.tgz", NOW + timedelta(minutes=2)),
        ("http://me:secret@h:81/x?Signature=s#part", "http://h:81/x", None),
        ("http://h/x", "http://h/x", None),
        ("http://h/x?Expires=soon", "http://h/x", None),
        ("http://h/x?Expires=99999999999999999999", "http://h/x", None),
        ("http://h/x?X-Goog-Expires=5", "http://h/x", None),
        ("http://h/x?X-Goog-Date=20240301T115900Z&X-Goog-Expires=99999999999999", "http://h/x", None),
        ("http://h/x?X-Goog-Date=yesterday&X-Goog-Expires=5", "http://h/x", None),
        ("http://h/x?response-content-disposition=attachment&Signature=s", "http://h/x", None),
    ],
)
def test_a_signed_url_tells_its_object_and_its_end(url, source, expires_at):
    signed = SignedUrl.parse(url)
    assert (signed.source, signed.expires_at) == (source, expires_at)
    assert str(signed.url) == url


def test_a_url_without_expiry_is_taken_for_fresh():
    assert SignedUrl.parse("http://h/x").fresh(NOW, 5)


@pytest.mark.parametrize(
    ("now_s", "margin_s", "fresh"), [(0, 0, True), (114, 5, True), (115, 5, False), (120, 0, False)]
)
def test_a_url_is_fresh_until_shortly_before_its_end(now_s, margin_s, fresh):
    assert SignedUrl.parse(V2).fresh(NOW + timedelta(seconds=now_s), margin_s) is fresh


@pytest.mark.parametrize("url", [V2, V4])
def test_no_signature_is_shown(url):
    signed = SignedUrl.parse(url)
    for shown in (repr(signed), str(signed), signed.source, signed.host):
        assert "5ec2e7" not in shown
        assert "s%2F1" not in shown
        assert "Signature" not in shown


_NAMES = st.sampled_from(["id", "generation", "token", "Expires", "Signature", "X-Goog-Signature"])
_QUERY = st.lists(st.tuples(_NAMES, st.text("abc=&%/é", max_size=4)), max_size=3)


@settings(deadline=None)
@given(
    st.sampled_from(["/a", "/b", "/a%2Fb", "/a/b"]),
    _QUERY,
    st.sampled_from(["/a", "/b", "/a%2Fb", "/a/b"]),
    _QUERY,
)
def test_two_objects_never_have_one_source(path, query, other_path, other_query):
    from yarl import URL

    def made(at, pairs):
        return SignedUrl.parse(str(URL("http://h").join(URL(at, encoded=True)).with_query(pairs)))

    def chosen(pairs):
        return sorted(pair for pair in pairs if pair[0] in ("id", "generation", "token"))

    same = (path, chosen(query)) == (other_path, chosen(other_query))
    assert (made(path, query).source == made(other_path, other_query).source) is same


def test_what_chooses_an_object_is_kept_as_a_mark_only():
    source = SignedUrl.parse("http://h/download?token=can4ry&Expires=1").source
    assert source.startswith("http://h/download#")
    assert "can4ry" not in source


def test_a_transfer_is_stalled_when_it_is_too_slow_for_a_whole_window():
    floor = StallDetector(100, 10)
    assert not floor.is_stalled(9.9, 0)
    assert floor.is_stalled(0.1, 999)


@pytest.mark.parametrize(("got", "stalled"), [(999, True), (1000, False)])
def test_the_floor_itself_is_fast_enough(got, stalled):
    assert StallDetector(100, 10).is_stalled(10, got) is stalled


def test_each_window_stands_by_itself():
    floor = StallDetector(100, 10)
    assert not floor.is_stalled(10, 10_000)
    assert floor.is_stalled(10, 0)


def test_a_floor_of_zero_is_none():
    assert not StallDetector(0, 10).is_stalled(3600, 0)
