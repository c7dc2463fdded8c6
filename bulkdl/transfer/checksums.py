"""
Compute and compare checksums of a body while it is received.

CRC32C is always computed: its cost is small, storage nearly always sends it, and the ledger stores it for
``verify --deep``. MD5 is slower than a fast connection. It is computed only if the server sends nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from typing import BinaryIO, Protocol

import google_crc32c

from bulkdl.models import Digest, Extent

_READ_BYTES = 1 << 20


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _FixedHash:
    """A hash whose value is known and cannot change."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def update(self, data: bytes, /) -> None:
        raise AssertionError(f"the hash is final; it cannot take {len(data)} more bytes")

    def digest(self) -> bytes:
        return self._value


class Digester:
    """
    Running digests of the first ``at_bytes`` bytes of an object.

    Args:
        expected: Digests that the server sent; they decide which algorithms run.
    """

    def __init__(self, expected: tuple[Digest, ...] = ()) -> None:
        self.at_bytes = 0
        crc32c: _Hash = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
        self._hashes: dict[str, _Hash] = {"crc32c": crc32c}
        if needs_md5(expected):
            self._hashes["md5"] = hashlib.md5(usedforsecurity=False)

    @classmethod
    def of_extents(cls, extents: Iterable[Extent]) -> Digester:
        """Combine the checksums of adjacent extents without reading their bytes."""
        digester = cls()
        crc = 0
        for extent in extents:
            crc = combine_crc32c(crc, extent.crc32c, extent.size_bytes)
            digester.at_bytes += extent.size_bytes
        digester._hashes = {"crc32c": _FixedHash(crc.to_bytes(4, "big"))}
        return digester

    def update(self, block: bytes) -> None:
        """Add *block*, which follows the bytes so far."""
        for running in self._hashes.values():
            running.update(block)
        self.at_bytes += len(block)

    def read(self, stream: BinaryIO, until_bytes: int) -> None:
        """Add the bytes of *stream* up to position *until_bytes*; blocks, so call it in a thread."""
        while self.at_bytes < until_bytes:
            block = stream.read(min(_READ_BYTES, until_bytes - self.at_bytes))
            if not block:
                return
            self.update(block)

    @property
    def crc32c(self) -> Digest:
        """The CRC32C of the bytes so far."""
        return self.digest("crc32c")

    def find_mismatch(self, expected: tuple[Digest, ...]) -> Digest | None:
        """Return the first of the *expected* digests that the bytes do not have; None if all match."""
        return next(
            (
                digest
                for digest in expected
                if digest.algorithm in self._hashes and self.digest(digest.algorithm).value != digest.value
            ),
            None,
        )

    def digest(self, algorithm: str) -> Digest:
        """Return the digest of the bytes so far."""
        return Digest(algorithm, base64.b64encode(self._hashes[algorithm].digest()).decode("ascii"))


def needs_md5(expected: tuple[Digest, ...]) -> bool:
    """Return whether MD5 is the only algorithm of the *expected* digests."""
    return bool(expected) and all(digest.algorithm == "md5" for digest in expected)


_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected


def _times(matrix: list[int], vector: int) -> int:
    product, row = 0, 0
    while vector:
        if vector & 1:
            product ^= matrix[row]
        vector >>= 1
        row += 1
    return product


@cache
def _zero_byte_powers() -> list[list[int]]:
    """Return matrices over GF(2) that append 1, 2, 4, 8 … zero bytes to a message."""
    matrix = [_POLYNOMIAL, *(1 << bit for bit in range(31))]  # one zero bit
    for _ in range(3):
        matrix = [_times(matrix, column) for column in matrix]
    powers = [matrix]
    for _ in range(47):
        powers.append([_times(powers[-1], column) for column in powers[-1]])
    return powers


def combine_crc32c(first: int, second: int, second_bytes: int) -> int:
    """Return the CRC-32C of two adjacent byte ranges, given the CRC-32C of both."""
    for power in _zero_byte_powers():
        if not second_bytes:
            break
        if second_bytes & 1:
            first = _times(power, first)
        second_bytes >>= 1
    return first ^ second


def parse_goog_hash(values: list[str]) -> tuple[Digest, ...]:
    """
    Parse ``x-goog-hash``: one digest per header line, or several separated by commas.

    Items that are not crc32c or md5, or not base64 of the right length, are ignored.
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
