"""
Checksums of the bytes as they pass.

CRC32C is always taken: it costs next to nothing, storage nearly always tells it, and the ledger
keeps it for ``verify --deep``. MD5 is slower than a fast line, so it is taken only where it is the
only digest the server gives.
"""

from __future__ import annotations

import base64
import hashlib
from typing import BinaryIO, Protocol

import google_crc32c

from bulkdl.model import Digest

_READ_BYTES = 1 << 20


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class Digester:
    """Running digests over the first ``at_bytes`` bytes of an object."""

    def __init__(self, wanted: tuple[Digest, ...] = ()) -> None:
        self.at_bytes = 0
        crc32c: _Hash = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
        self._hashes: dict[str, _Hash] = {"crc32c": crc32c}
        if wanted and all(digest.algorithm == "md5" for digest in wanted):
            self._hashes["md5"] = hashlib.md5(usedforsecurity=False)

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

    def contradicts(self, told: tuple[Digest, ...]) -> Digest | None:
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
