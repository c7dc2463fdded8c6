"""
Represent large bodies without holding them in memory. Any byte range can be read.

An archive of one gigabyte consists of a few literal headers and a filler that is computed from a key. The
cost of a range in the middle is proportional to its length.
"""

from __future__ import annotations

import random
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from hashlib import blake2b
from itertools import accumulate
from typing import Protocol

CHUNK_BYTES = 1 << 20
_STAMP_BYTES = 16


class Blob(Protocol):
    """Bytes with random access. ``read(start, stop)`` requires 0 <= start <= stop <= size."""

    @property
    def size(self) -> int: ...

    def read(self, start: int, stop: int) -> bytes: ...


def iter_chunks(
    blob: Blob, start: int = 0, stop: int | None = None, step: int = CHUNK_BYTES
) -> Iterator[bytes]:
    end = blob.size if stop is None else stop
    for at in range(start, end, step):
        yield blob.read(at, min(at + step, end))


def read_all(blob: Blob) -> bytes:
    return blob.read(0, blob.size)


def compute_crc32(blob: Blob) -> int:
    value = 0
    for chunk in iter_chunks(blob):
        value = zlib.crc32(chunk, value)
    return value


class LiteralBytes:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, start: int, stop: int) -> bytes:
        return self._data[start:stop]


class LazyBytes:
    """*size* bytes that *make* computes on the first read."""

    def __init__(self, size: int, make: Callable[[], bytes]) -> None:
        self.size = size
        self._make = make

    @cached_property
    def _data(self) -> bytes:
        return self._make()

    def read(self, start: int, stop: int) -> bytes:
        return self._data[start:stop]


class BlobSlice:
    """The bytes from *start* to *stop* of another blob."""

    def __init__(self, blob: Blob, start: int, stop: int) -> None:
        self._blob, self._start = blob, start
        self.size = stop - start

    def read(self, start: int, stop: int) -> bytes:
        return self._blob.read(self._start + start, self._start + stop)


class FlippedByte:
    """Another blob with all bits of the byte *at* inverted."""

    def __init__(self, blob: Blob, at: int) -> None:
        self._blob, self._at = blob, at
        self.size = blob.size

    def read(self, start: int, stop: int) -> bytes:
        data = bytearray(self._blob.read(start, stop))
        if start <= self._at < stop:
            data[self._at - start] ^= 0xFF
        return bytes(data)


class RepeatedBytes:
    """Repetitions of *unit* with a total of *size* bytes."""

    def __init__(self, unit: bytes, size: int) -> None:
        self._unit = unit
        self.size = size

    def read(self, start: int, stop: int) -> bytes:
        phase = start % len(self._unit)
        times = (phase + stop - start) // len(self._unit) + 1
        return (self._unit * times)[phase : phase + stop - start]


class BlobChain:
    """Concatenation of blobs."""

    def __init__(self, parts: Sequence[Blob]) -> None:
        self._parts = [part for part in parts if part.size]
        self._ends = list(accumulate(part.size for part in self._parts))
        self.size = self._ends[-1] if self._ends else 0

    def read(self, start: int, stop: int) -> bytes:
        slices = []
        number = bisect_right(self._ends, start)
        while start < stop:
            part, end = self._parts[number], self._ends[number]
            base = end - part.size
            slices.append(part.read(start - base, min(stop, end) - base))
            start, number = end, number + 1
        return slices[0] if len(slices) == 1 else b"".join(slices)


@cache
def _noise() -> bytes:
    block = random.Random("filler").randbytes(CHUNK_BYTES)
    return block + block


class FillerBytes:
    """
    Incompressible bytes that depend on *key* and on their offset.

    Each MiB is a fixed block of noise that is rotated by a different amount and stamped at its start.
    Reading is as fast as a copy. No two offsets have equal content,
    so a write at a wrong offset is detected.
    """

    def __init__(self, key: bytes, size: int) -> None:
        self._key = key
        self.size = size

    def read(self, start: int, stop: int) -> bytes:
        slices = []
        while start < stop:
            number, inside = divmod(start, CHUNK_BYTES)
            length = min(stop - start, CHUNK_BYTES - inside)
            slices.append(self._block(number, inside, inside + length))
            start += length
        return slices[0] if len(slices) == 1 else b"".join(slices)

    def _block(self, number: int, start: int, stop: int) -> bytes:
        digest = blake2b(number.to_bytes(8, "big"), key=self._key[:64], digest_size=4 + _STAMP_BYTES).digest()
        turn = int.from_bytes(digest[:4], "big") % CHUNK_BYTES
        stamp = digest[4:][start:stop]
        return stamp + _noise()[turn + start + len(stamp) : turn + stop]


class StoredGzip:
    """
    A gzip member that contains *inner* in stored (uncompressed) deflate blocks.

    Stored blocks have a fixed size, so the offset of each byte is known without compression.
    """

    _HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    _BLOCK = 0xFFFF
    _BLOCK_HEAD = 5

    def __init__(self, inner: Blob) -> None:
        self.inner = inner
        self._blocks = max(1, -(-inner.size // self._BLOCK))
        body = self._blocks * self._BLOCK_HEAD + inner.size
        self._chain_ends = (len(self._HEAD), len(self._HEAD) + body)
        self.size = self._chain_ends[1] + 8

    @cached_property
    def _trailer(self) -> bytes:
        return struct.pack("<II", compute_crc32(self.inner), self.inner.size & 0xFFFFFFFF)

    def read(self, start: int, stop: int) -> bytes:
        first, last = self._chain_ends
        slices = [self._HEAD[start:stop]]
        slices.extend(self._body(max(start, first) - first, min(stop, last) - first))
        if stop > last:
            slices.append(self._trailer[max(start - last, 0) : stop - last])
        return b"".join(slices)

    def _body(self, start: int, stop: int) -> Iterator[bytes]:
        stride = self._BLOCK_HEAD + self._BLOCK
        while start < stop:
            number, inside = divmod(start, stride)
            base = number * self._BLOCK
            length = min(self._BLOCK, self.inner.size - base)
            end = min(stop - number * stride, self._BLOCK_HEAD + length)
            if inside < self._BLOCK_HEAD:
                final = number == self._blocks - 1
                yield struct.pack("<BHH", final, length, length ^ 0xFFFF)[inside:end]
            yield self.inner.read(
                base + max(inside - self._BLOCK_HEAD, 0), base + max(end - self._BLOCK_HEAD, 0)
            )
            start = number * stride + end
