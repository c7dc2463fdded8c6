"""Header blocks of tar: the same values as tarfile, for all formats and number notations."""

from __future__ import annotations

import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.archives.errors import DamagedArchiveError
from bulkdl.archives.tar_headers import parse_header
from support.archive_bytes import header, patched

TYPES = st.sampled_from(
    [tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.CONTTYPE]
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=24)


@given(NAMES, TYPES, st.integers(0, 1 << 62), st.integers(-(1 << 40), 1 << 40), st.booleans())
def test_parse_header_equals_tarfile(name: str, kind: bytes, size: int, mtime: int, is_folder: bool) -> None:
    info = tarfile.TarInfo(name + "/" * is_folder)
    info.size, info.mtime, info.type = size, mtime, kind
    block = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    expected = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    found = parse_header(block)
    assert found.name.rstrip("/") == expected.name.rstrip("/")
    assert (found.type, found.size_bytes, found.mtime_s) == (expected.type, expected.size, expected.mtime)


def test_parse_header_of_ustar_joins_the_prefix() -> None:
    info = tarfile.TarInfo("p" * 120 + "/" + "n" * 90)
    assert parse_header(info.tobuf(tarfile.USTAR_FORMAT)).name == info.name


def test_parse_header_of_old_gnu_format_ignores_the_times_in_place_of_the_prefix() -> None:
    assert parse_header(patched(header("a"), 345, b"14000000000\0")).name == "a"


def test_parse_header_accepts_a_signed_checksum() -> None:
    block = header("ä")
    signed = sum(byte - 256 * (byte > 127) for byte in block[:148] + block[156:]) + 8 * 32
    assert parse_header(block[:148] + b"%06o\0 " % signed + block[156:]).name == "ä"


@pytest.mark.parametrize("size", [b"9" * 11 + b"\0", b"x" * 12, b"-1" + bytes(10), b"\xff" * 12])
def test_parse_header_with_an_invalid_size_raises(size: bytes) -> None:
    with pytest.raises(DamagedArchiveError):
        parse_header(patched(header(), 124, size))


@pytest.mark.parametrize("at", [0, 110, 130, 156, 300, 511])
def test_parse_header_with_a_changed_byte_raises(at: int) -> None:
    block = bytearray(header())
    block[at] ^= 1
    with pytest.raises(DamagedArchiveError):
        parse_header(bytes(block))


@pytest.mark.parametrize("size", [0, 1, 511])
def test_parse_header_that_is_truncated_raises(size: int) -> None:
    with pytest.raises(DamagedArchiveError):
        parse_header(header()[:size])


def test_parse_header_of_the_end_mark_raises() -> None:
    with pytest.raises(DamagedArchiveError):
        parse_header(bytes(512))
