"""Tests of the checksums: parsing of x-goog-hash, running digests, combined CRC32C."""

import io

import pytest
from google_crc32c import value as crc32c_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkdl.models import Digest, Extent
from bulkdl.transfer.checksums import Digester, combine_crc32c, parse_goog_hash
from support.scripted_store import goog_hash

CRC, MD5 = Digest("crc32c", "yZRlqg=="), Digest("md5", "XrY7u+Ae7tCTyyK7j1rNww==")


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
def test_parse_goog_hash_returns_the_valid_digests(values, found):
    assert parse_goog_hash(values) == found


@settings(deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4))
def test_parse_goog_hash_of_any_text_returns_known_algorithms(values):
    assert all(digest.algorithm in ("crc32c", "md5") for digest in parse_goog_hash(values))


@settings(deadline=None)
@given(
    st.binary(max_size=300), st.integers(0, 300), st.sampled_from([("crc32c",), ("md5",), ("crc32c", "md5")])
)
def test_digester_with_update_and_read_matches_the_whole(data, at, algorithms):
    expected = parse_goog_hash([goog_hash(data, *algorithms)])
    digester = Digester(expected)
    digester.update(data[:at])
    digester.read(io.BytesIO(data[at:]), len(data))
    assert digester.at_bytes == len(data)
    assert digester.find_mismatch(expected) is None
    assert str(digester.crc32c) == goog_hash(data, "crc32c")
    other = Digester(expected)
    other.update(data + b"x")
    assert other.find_mismatch(expected) == expected[0]


def test_digester_read_stops_at_the_given_position():
    digester = Digester()
    digester.read(io.BytesIO(b"abcdef"), 3)
    assert str(digester.crc32c) == goog_hash(b"abc", "crc32c")
    digester.read(io.BytesIO(b""), 9)
    assert digester.at_bytes == 3


def test_digester_computes_md5_only_without_crc32c():
    assert set(Digester((CRC, MD5))._hashes) == {"crc32c"}
    assert set(Digester((MD5,))._hashes) == {"crc32c", "md5"}


@given(st.binary(max_size=3000), st.binary(max_size=3000))
def test_combine_crc32c_of_two_ranges_is_the_checksum_of_both(first, second):
    combined = combine_crc32c(crc32c_of(first), crc32c_of(second), len(second))
    assert combined == crc32c_of(first + second)


@given(st.binary(min_size=1, max_size=5000), st.integers(1, 700))
def test_digester_of_extents_has_the_checksum_of_the_whole(data, step):
    extents = [
        Extent(start, len(data[start : start + step]), crc32c_of(data[start : start + step]))
        for start in range(0, len(data), step)
    ]
    whole = Digester()
    whole.update(data)
    assert Digester.of_extents(extents).crc32c == whole.crc32c
