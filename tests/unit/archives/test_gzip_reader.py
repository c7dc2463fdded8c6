"""Gzip streams with both libraries: equal results and errors for whole, cut and damaged streams."""

from __future__ import annotations

import gzip
import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.archives.errors import DamagedArchiveError
from bulkdl.archives.gzip_reader import INFLATE_LIBRARIES, InflateLibrary, fastest_library, open_gzip


def decompress(data: bytes, library: InflateLibrary | None = None) -> bytes:
    return open_gzip(io.BytesIO(data), library).read()


def result_of(data: bytes, library: InflateLibrary) -> bytes | None:
    try:
        return decompress(data, library)
    except DamagedArchiveError:
        return None


def test_fastest_library_with_isal_installed_is_isal() -> None:
    assert fastest_library().name == "isal"


def test_open_gzip_several_members_returns_all_of_them(library: InflateLibrary) -> None:
    data = b"".join(gzip.compress(part) for part in (b"one", b"", b"two" * 100_000))
    assert decompress(data, library) == b"one" + b"two" * 100_000


def test_open_gzip_zero_bytes_behind_the_end_are_ignored(library: InflateLibrary) -> None:
    data = gzip.compress(b"one") + bytes(200_000) + gzip.compress(b"two") + bytes(7)
    assert decompress(data, library) == b"onetwo"


@pytest.mark.parametrize("trailer", [b"x", b"\0\0x", b"\x1f\x8b"])
def test_open_gzip_other_bytes_behind_the_end_are_damage(library: InflateLibrary, trailer: bytes) -> None:
    with pytest.raises(DamagedArchiveError):
        decompress(gzip.compress(b"one") + trailer, library)


def test_open_gzip_each_cut_is_damage(library: InflateLibrary) -> None:
    data = gzip.compress(bytes(range(256)) * 4)
    for size in range(1, len(data)):
        with pytest.raises(DamagedArchiveError):
            decompress(data[:size], library)


@pytest.mark.parametrize("at", [-1, -8])
def test_open_gzip_wrong_checksum_or_length_is_damage(library: InflateLibrary, at: int) -> None:
    data = bytearray(gzip.compress(b"content" * 1000))
    data[at] ^= 1
    with pytest.raises(DamagedArchiveError):
        decompress(bytes(data), library)


def with_header_fields(content: bytes, fields: int) -> bytes:
    """Return a gzip member whose header has the optional fields of the bits *fields*."""
    head = bytes([0x1F, 0x8B, 8, fields]) + bytes(5) + b"\xff"
    head += b"\x05\x00extra" if fields & 4 else b""
    head += b"name\0" if fields & 8 else b""
    head += b"comment\0" if fields & 16 else b""
    head += (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") if fields & 2 else b""
    raw = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = raw.compress(content) + raw.flush()
    return head + body + zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")


@pytest.mark.parametrize("fields", range(0, 32, 2))
def test_open_gzip_optional_header_fields_are_skipped(library: InflateLibrary, fields: int) -> None:
    assert decompress(with_header_fields(b"content", fields), library) == b"content"


@given(
    parts=st.lists(st.binary(max_size=300), min_size=1, max_size=3),
    at=st.integers(10, 10_000),
    flip=st.integers(0, 255),
    level=st.integers(0, 9),
)
def test_open_gzip_random_damage_gives_equal_results_in_both_libraries(
    parts: list[bytes], at: int, flip: int, level: int
) -> None:
    data = bytearray(b"".join(gzip.compress(part * 20, level) for part in parts))
    data[max(at % len(data), 10)] ^= flip
    results = [result_of(bytes(data), library) for library in INFLATE_LIBRARIES.values()]
    assert results[0] == results[-1]
    if not flip:
        assert results[0] == b"".join(part * 20 for part in parts)
