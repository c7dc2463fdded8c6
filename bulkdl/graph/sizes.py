"""How many workers each pool has, and between which bounds they are at work at once."""

from __future__ import annotations

from dataclasses import dataclass

from bulkdl.model import Kind
from bulkdl.settings import Settings

_MOST_CONNECTIONS = 64
_AUTO = {Kind.ARCHIVE: (8, 32), Kind.QUICKLOOK: (16, 64), Kind.GEOJSON: (16, 64)}


@dataclass(frozen=True, slots=True)
class PoolSize:
    """
    Attributes:
        workers: Outputs in flight, at most.
        start: Permits to begin with.
        least: Never fewer permits.
        most: Never more. For archives a permit is a connection, of which a large one may have several.
    """

    workers: int
    start: int
    least: int
    most: int


def sizes_of(settings: Settings) -> dict[Kind, PoolSize]:
    """What the settings say of each pool: a number is kept to, ``auto`` is a beginning."""
    asked = {
        Kind.ARCHIVE: settings.archive_concurrency,
        Kind.QUICKLOOK: settings.quicklook_concurrency,
        Kind.GEOJSON: settings.geojson_concurrency,
    }
    return {kind: _size(kind, workers, settings.connections) for kind, workers in asked.items()}


def _size(kind: Kind, asked: object, connections: int) -> PoolSize:
    start, most = (asked, asked) if isinstance(asked, int) else _AUTO[kind]
    least = start if isinstance(asked, int) else 1
    each = connections if kind is Kind.ARCHIVE else 1
    return PoolSize(most, start, least, max(most, min(most * each, _MOST_CONNECTIONS)))
