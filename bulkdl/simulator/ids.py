"""
Encode indexes as UUIDs and decode them without a table.

A UUID of version 4 has 122 free bits. The index (kind, project, job, task, part) uses 64 bits, and the
other bits are zero. A keyed Feistel network encrypts all 122 bits. Decrypting an unknown UUID gives these
zeros with a probability of 2**-58. An account of a million jobs can therefore reject unknown IDs without
using memory.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b

_HALF_BITS = 61
_HALF = (1 << _HALF_BITS) - 1
_ROUNDS = 4
_FIELD_BITS = (4, 12, 32, 6, 10)  # kind, project, job, task, part


class IdKind(IntEnum):
    PROJECT = 1
    JOB = 2
    TASK = 3
    FEATURE = 4
    WORKFLOW = 5
    BLOCK = 6
    USER = 7
    ORIGINAL = 8
    COLLECTION = 9
    ITEM = 10
    ITEM_ASSET = 11
    ORDER = 12
    PROCESSING_JOB = 13
    WORKSPACE = 14
    PRODUCT = 15


_KINDS = frozenset(IdKind)


@dataclass(frozen=True, slots=True)
class Index:
    kind: IdKind
    project: int = 0
    job: int = 0
    task: int = 0
    part: int = 0


class Ids:
    """Convert between indexes and UUIDs for one *seed*."""

    def __init__(self, seed: int) -> None:
        key = str(seed).encode()
        self._rounds = [blake2b(digest_size=8, key=key, salt=bytes([number])) for number in range(_ROUNDS)]

    def encode(self, index: Index) -> str:
        packed = 0
        fields = (index.kind, index.project, index.job, index.task, index.part)
        for value, bits in zip(fields, _FIELD_BITS, strict=True):
            packed = packed << bits | value
        return _as_uuid(self._scramble(packed))

    def decode(self, text: str) -> Index | None:
        """Return the index of the UUID *text*, or None if it was not created with this seed."""
        try:
            bits = _from_uuid(text)
        except ValueError:
            return None
        if _as_uuid(bits) != text:
            return None  # another spelling
        packed = self._unscramble(bits)
        values = []
        for bits in reversed(_FIELD_BITS):
            values.append(packed & ((1 << bits) - 1))
            packed >>= bits
        part, task, job, project, kind = values
        if packed or kind not in _KINDS:
            return None
        return Index(IdKind(kind), project, job, task, part)

    def _round(self, number: int, half: int) -> int:
        keyed = self._rounds[number].copy()
        keyed.update(half.to_bytes(8, "big"))
        return int.from_bytes(keyed.digest(), "big") & _HALF

    def _scramble(self, value: int) -> int:
        left, right = value >> _HALF_BITS, value & _HALF
        for number in range(_ROUNDS):
            left, right = right, left ^ self._round(number, right)
        return left << _HALF_BITS | right

    def _unscramble(self, value: int) -> int:
        left, right = value >> _HALF_BITS, value & _HALF
        for number in reversed(range(_ROUNDS)):
            left, right = right ^ self._round(number, left), left
        return left << _HALF_BITS | right


def _as_uuid(bits: int) -> str:
    high, middle, low = bits >> 74, bits >> 62 & 0xFFF, bits & ((1 << 62) - 1)
    text = f"{high << 80 | 0x4 << 76 | middle << 64 | 0b10 << 62 | low:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _from_uuid(text: str) -> int:
    whole = uuid.UUID(text)
    if whole.version != 4:
        raise ValueError(text)
    number = whole.int
    return (number >> 80) << 74 | (number >> 64 & 0xFFF) << 62 | number & ((1 << 62) - 1)
