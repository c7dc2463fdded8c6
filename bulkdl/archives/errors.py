"""Exceptions of the readers of archives."""

from __future__ import annotations


class DamagedArchiveError(Exception):
    """An archive is truncated, a checksum does not match, or its structure is invalid."""


class OversizedHeaderError(DamagedArchiveError):
    """The headers of one member exceed the limits, which no ordinary archive does."""


class UnsupportedArchiveError(Exception):
    """An archive is intact as far as it was read, but a feature of it is not supported."""
