"""
Checksums of the bytes as they pass.

CRC32C is always taken: it costs next to nothing, storage nearly always tells it, and the ledger
keeps it for ``verify --deep``. MD5 is slower than a fast line, so it is taken only where it is the
only digest the server gives.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import BinaryIO, Protocol

import google_crc32c

from bulkdl.models import Digest, Extent

_READ_BYTES = 1 << 20


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Known:
    """A finished digest."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def update(self, data: bytes, /) -> None:
        raise AssertionError(f"this digest is finished; {len(data)} bytes came after it")

    def digest(self) -> bytes:
        return self._value


class Digester:
    """Running digests over the first ``at_bytes`` bytes of an object."""

    def __init__(self, wanted: tuple[Digest, ...] = ()) -> None:
        self.at_bytes = 0
        crc32c: _Hash = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
        self._hashes: dict[str, _Hash] = {"crc32c": crc32c}
        if needs_md5(wanted):
            self._hashes["md5"] = hashlib.md5(usedforsecurity=False)

    @classmethod
    def of_extents(cls, extents: Iterable[Extent]) -> Digester:
        """The digester of bytes whose checksums are known, without reading them again."""
        whole = cls()
        crc = 0
        for extent in extents:
            crc = combine_crc32c(crc, extent.crc32c, extent.size_bytes)
            whole.at_bytes += extent.size_bytes
        whole._hashes = {"crc32c": _Known(crc.to_bytes(4, "big"))}
        return whole

    def update(self, block: bytes) -> None:
        for running in self._hashes.values():
            running.update(block)
        self.at_bytes += len(block)

    def read(self, stream: BinaryIO, until_bytes: int) -> None:
        """Take in what *stream* holds up to *until_bytes*; blocks, so call it in a thread."""
        while self.at_bytes < until_bytes:
            block = stream.read(min(_READ_BYTES, until_bytes - self.at_bytes))
            if not block:
                return
            self.update(block)

    @property
    def crc32c(self) -> Digest:
        return self._digest("crc32c")

    def find_mismatch(self, told: tuple[Digest, ...]) -> Digest | None:
        """The first of the *told* digests that the bytes do not have; None when none contradicts."""
        return next(
            (
                digest
                for digest in told
                if digest.algorithm in self._hashes and self._digest(digest.algorithm).value != digest.value
            ),
            None,
        )

    def _digest(self, algorithm: str) -> Digest:
        return Digest(algorithm, base64.b64encode(self._hashes[algorithm].digest()).decode("ascii"))


def needs_md5(told: tuple[Digest, ...]) -> bool:
    """Whether MD5 is the only digest that the server gave."""
    return bool(told) and all(digest.algorithm == "md5" for digest in told)


_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected


def _times(matrix: list[int], vector: int) -> int:
    product, row = 0, 0
    while vector:
        if vector & 1:
            product ^= matrix[row]
        vector >>= 1
        row += 1
    return product


def _zero_byte_powers() -> list[list[int]]:
    """Matrices over GF(2) that append 1, 2, 4, 8 … zero bytes to a message."""
    matrix = [_POLYNOMIAL, *(1 << bit for bit in range(31))]  # one zero bit
    for _ in range(3):
        matrix = [_times(matrix, column) for column in matrix]
    powers = [matrix]
    for _ in range(47):
        powers.append([_times(powers[-1], column) for column in powers[-1]])
    return powers


_ZEROS = _zero_byte_powers()


def combine_crc32c(first: int, second: int, second_bytes: int) -> int:
    """The CRC-32C of two runs of bytes, one after the other, from the CRC-32C of each."""
    for power in _ZEROS:
        if not second_bytes:
            break
        if second_bytes & 1:
            first = _times(power, first)
        second_bytes >>= 1
    return first ^ second


def parse_goog_hash(values: list[str]) -> tuple[Digest, ...]:
    """
    Read ``x-goog-hash``: one digest a header line, or several joined by commas.

    What is neither crc32c nor md5, or is not base64 of the right length, is left out.
    """
    sizes = {"crc32c": 4, "md5": 16}
    found = []
    for item in ",".join(values).split(","):
        algorithm, _, value = item.strip().partition("=")
        if algorithm in sizes and _decoded_size(value) == sizes[algorithm]:
            found.append(Digest(algorithm, value))
    return tuple(found)


def _decoded_size(value: str) -> int:
    try:
        return len(base64.b64decode(value, validate=True))
    except ValueError:
        return -1
