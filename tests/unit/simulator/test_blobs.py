import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.simulator.lazy_bytes import (
    CHUNK_BYTES,
    Blob,
    Chain,
    Filler,
    Flipped,
    Lazy,
    Literal,
    Repeated,
    StoredGzip,
    Window,
    chunks,
    crc32,
    whole,
)

BLOBS: list[Blob] = [
    Literal(b""),
    Literal(b"some text"),
    Lazy(5, lambda: b"12345"),
    Window(Literal(b"0123456789"), 3, 7),
    Repeated(b"abc", 100),
    Flipped(Literal(b"abcdef"), 2),
    Filler(b"key", 0),
    Filler(b"key", 70_000),
    Filler(b"key", 2 * CHUNK_BYTES + 5),
    Chain([]),
    Chain([Literal(b"head"), Filler(b"k", 100), Literal(b""), Literal(b"tail")]),
    StoredGzip(Literal(b"")),
    StoredGzip(Filler(b"k", 65_535)),
    StoredGzip(Chain([Literal(b"x"), Filler(b"k", 3 * 65_535)])),
]


@pytest.mark.parametrize("blob", BLOBS, ids=lambda blob: f"{type(blob).__name__}-{blob.size}")
@given(data=st.data())
def test_any_part_is_what_the_whole_has_there(blob: Blob, data: st.DataObject) -> None:
    everything = whole(blob)
    assert len(everything) == blob.size
    start = data.draw(st.integers(0, blob.size))
    stop = data.draw(st.integers(start, blob.size))
    assert blob.read(start, stop) == everything[start:stop]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 200_000])
def test_gzip_of_stored_blocks_unpacks(size: int) -> None:
    inner = Filler(b"k", size)
    assert gzip.decompress(whole(StoredGzip(inner))) == whole(inner)


def test_filler_is_its_keys_own_and_nowhere_like_itself() -> None:
    blob = Filler(b"a", 4 * CHUNK_BYTES)
    blocks = list(chunks(blob))
    assert len({block[:64] for block in blocks}) == len({block[4096:8192] for block in blocks}) == 4
    assert blocks[0] != whole(Filler(b"b", CHUNK_BYTES))
    assert len(zlib.compress(blocks[0], 1)) > CHUNK_BYTES * 0.99


def test_crc_over_chunks_is_that_of_the_whole() -> None:
    blob = Filler(b"k", 3 * CHUNK_BYTES + 1)
    assert crc32(blob) == zlib.crc32(whole(blob))
