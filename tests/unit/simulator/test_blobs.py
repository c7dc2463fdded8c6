import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.simulator.lazy_bytes import (
    CHUNK_BYTES,
    Blob,
    BlobChain,
    BlobSlice,
    FillerBytes,
    FlippedByte,
    LazyBytes,
    LiteralBytes,
    RepeatedBytes,
    StoredGzip,
    compute_crc32,
    iter_chunks,
    read_all,
)

BLOBS: list[Blob] = [
    LiteralBytes(b""),
    LiteralBytes(b"some text"),
    LazyBytes(5, lambda: b"12345"),
    BlobSlice(LiteralBytes(b"0123456789"), 3, 7),
    RepeatedBytes(b"abc", 100),
    FlippedByte(LiteralBytes(b"abcdef"), 2),
    FillerBytes(b"key", 0),
    FillerBytes(b"key", 70_000),
    FillerBytes(b"key", 2 * CHUNK_BYTES + 5),
    BlobChain([]),
    BlobChain([LiteralBytes(b"head"), FillerBytes(b"k", 100), LiteralBytes(b""), LiteralBytes(b"tail")]),
    StoredGzip(LiteralBytes(b"")),
    StoredGzip(FillerBytes(b"k", 65_535)),
    StoredGzip(BlobChain([LiteralBytes(b"x"), FillerBytes(b"k", 3 * 65_535)])),
]


@pytest.mark.parametrize("blob", BLOBS, ids=lambda blob: f"{type(blob).__name__}-{blob.size}")
@given(data=st.data())
def test_blob_read_returns_the_slice_of_the_whole(blob: Blob, data: st.DataObject) -> None:
    everything = read_all(blob)
    assert len(everything) == blob.size
    start = data.draw(st.integers(0, blob.size))
    stop = data.draw(st.integers(start, blob.size))
    assert blob.read(start, stop) == everything[start:stop]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 200_000])
def test_stored_gzip_can_be_decompressed(size: int) -> None:
    inner = FillerBytes(b"k", size)
    assert gzip.decompress(read_all(StoredGzip(inner))) == read_all(inner)


def test_filler_depends_on_key_and_offset() -> None:
    blob = FillerBytes(b"a", 4 * CHUNK_BYTES)
    blocks = list(iter_chunks(blob))
    assert len({block[:64] for block in blocks}) == len({block[4096:8192] for block in blocks}) == 4
    assert blocks[0] != read_all(FillerBytes(b"b", CHUNK_BYTES))
    assert len(zlib.compress(blocks[0], 1)) > CHUNK_BYTES * 0.99


def test_compute_crc32_equals_zlib() -> None:
    blob = FillerBytes(b"k", 3 * CHUNK_BYTES + 1)
    assert compute_crc32(blob) == zlib.crc32(read_all(blob))
