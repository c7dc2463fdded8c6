"""
Collect the values that the page needs of every entry, as columns of numbers and of short texts.

The page filters and draws all entries without further requests, so that these values are a part of
index.html. Everything else is in files with the details of 1,000 entries each. The columns are the only data
that a writer holds in memory: about 100 bytes for each entry.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from bulkdl.processors.catalog.facts import CatalogContainer, CatalogEntry, Footprint, Ring

STATES = ("completed", "failed", "skipped", "cancelled", "planned")
MAX_TITLE_CHARS = 120
# A footprint on the map needs few points. The catalogue has all of them.
MAX_RINGS = 16
MAX_RING_POINTS = 64
UNITS_PER_DEGREE = 1_000_000

# These dates are of the container, not of the acquisition.
CONTAINER_DATES = ("job", "delivery")
HAS_PICTURE, HAS_JOB_DATE, CROSSES_ANTIMERIDIAN = 1, 2, 4
_NO_DATE = -(2**31)
_MAX_KINDS = 31  # bits of a signed number
_MAX_TABLE = 65_535


class PageColumns:
    """The columns of all entries, in the order of ``add_row``."""

    def __init__(self) -> None:
        self._container = array("i")
        self._kinds = array("i")
        self._minute = array("i")
        self._coordinates = array("i")
        self._block = array("H")
        self._points = array("H")
        self._state = array("B")
        self._reason = array("B")
        self._flags = array("B")
        self._rings = array("B")
        self._titles = bytearray()
        self._containers = bytearray()
        self._container_count = 0
        self._sources: set[str] = set()
        self._scopes: dict[tuple[str, str], int] = {}
        self._kind_table: dict[str, int] = {}
        self._block_table: dict[str, int] = {"": 0}
        self._reason_table: dict[str, int] = {"": 0}

    def __len__(self) -> int:
        return len(self._state)

    @property
    def tables(self) -> dict[str, object]:
        """Return the texts that the columns refer to by their position."""
        return {
            "states": STATES,
            "sources": sorted(self._sources),
            "kinds": list(self._kind_table),
            "reasons": list(self._reason_table),
            "blocks": list(self._block_table),
            "scopes": [list(scope) for scope in self._scopes],
        }

    def add_container(self, values: Sequence[Any]) -> None:
        """Add the container of the entries that follow; see ``describe_container``."""
        source, scope_id, scope_name, *others = values
        self._sources.add(source)
        scope = self._scopes.setdefault((scope_id, scope_name), len(self._scopes))
        row = json.dumps([scope, *others], ensure_ascii=False, separators=(",", ":"))
        self._containers += b"," if self._container_count else b"["
        self._containers += row.encode("utf-8", "backslashreplace")
        self._container_count += 1

    def add_row(self, row: Sequence[Any]) -> None:
        """Add one entry of the container that was added last; see ``describe_row``."""
        state, reason, flags, minute, kinds, block, title, rings = row
        self._container.append(self._container_count - 1)
        mask = 0
        for kind in kinds:
            mask |= 1 << _index_of(self._kind_table, kind, _MAX_KINDS)
        self._kinds.append(mask)
        self._minute.append(minute)
        self._block.append(_index_of(self._block_table, block, _MAX_TABLE))
        self._state.append(state)
        self._reason.append(_index_of(self._reason_table, reason, 255))
        self._flags.append(flags)
        self._titles += title.encode("utf-8", "replace") + b"\n"
        self._rings.append(len(rings))
        for ring in rings:
            self._points.append(len(ring) // 2)
            self._coordinates.extend(ring)

    def iter_sections(self) -> Iterator[tuple[str, str, bytes | bytearray | memoryview]]:
        """Yield name, type and content of each column. Columns of large numbers are first."""
        yield "coordinates", "i32", _to_bytes(_to_differences(self._coordinates))
        yield "containerOf", "i32", _to_bytes(self._container)
        yield "kindMask", "i32", _to_bytes(self._kinds)
        yield "minute", "i32", _to_bytes(self._minute)
        yield "block", "u16", _to_bytes(self._block)
        yield "points", "u16", _to_bytes(self._points)
        yield "state", "u8", _to_bytes(self._state)
        yield "reason", "u8", _to_bytes(self._reason)
        yield "flags", "u8", _to_bytes(self._flags)
        yield "rings", "u8", _to_bytes(self._rings)
        yield "titles", "text", self._titles
        yield "containers", "text", self._containers + b"]" if self._containers else b"[]"


def describe_container(container: CatalogContainer) -> list[str]:
    """Return the values of *container* for ``PageColumns.add_container``."""
    return [
        container.source,
        container.scope_id,
        container.scope_name,
        container.id,
        container.name,
        container.status,
        container.created_at,
        container.folder,
    ]


def describe_row(entry: CatalogEntry) -> list[Any]:
    """Return the values of *entry* for ``PageColumns.add_row``; they do not depend on other entries."""
    flags = HAS_PICTURE if entry.thumbnail is not None else 0
    flags |= HAS_JOB_DATE if entry.datetime_source in CONTAINER_DATES else 0
    footprint = entry.footprint
    if footprint is not None and footprint.bbox[0] > footprint.bbox[2]:
        flags |= CROSSES_ANTIMERIDIAN
    return [
        STATES.index(entry.state),
        entry.reason,
        flags,
        _to_minute(entry.datetime or entry.start),
        entry.kinds,
        entry.block or entry.parent_name,
        _to_line(entry.title),
        _to_units(footprint),
    ]


def _to_units(footprint: Footprint | None) -> list[list[int]]:
    """Return the rings that the map shows: longitudes and latitudes in turn, in units of a degree."""
    if footprint is None:
        return []
    rings = [ring for polygon in footprint.polygons for ring in polygon][:MAX_RINGS]
    return [
        [round(value * UNITS_PER_DEGREE) for position in _reduce(ring) for value in position]
        for ring in rings
    ]


def _to_bytes(column: array[int]) -> memoryview:
    if sys.byteorder == "big" and column.itemsize > 1:
        column = array(column.typecode, column)
        column.byteswap()
    return memoryview(column).cast("B")


def _to_differences(coordinates: array[int]) -> array[int]:
    # The page adds them up again. Small numbers compress to two thirds.
    differences = array("i", coordinates)
    for position in range(2, len(coordinates)):
        differences[position] = coordinates[position] - coordinates[position - 2]
    return differences


def _reduce(ring: Ring) -> Sequence[tuple[float, float]]:
    # The page closes each ring, so that the last position is not needed.
    open_ring = ring[:-1] if len(ring) > 1 and ring[0] == ring[-1] else ring
    step = -(-len(open_ring) // MAX_RING_POINTS)
    return open_ring[:: max(1, step)]


def _index_of(table: dict[str, int], text: str, limit: int) -> int:
    """Return the position of *text* in *table*. A full table uses its last position for further texts."""
    found = table.get(text)
    if found is not None:
        return found
    if len(table) >= limit:
        return limit - 1
    table[text] = len(table)
    return len(table) - 1


def _to_minute(timestamp: str | None) -> int:
    if not timestamp:
        return _NO_DATE
    try:
        parsed = datetime.fromisoformat(timestamp)
    except ValueError:
        return _NO_DATE
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() // 60)


def _to_line(title: str) -> str:
    line = title if title.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in title)
    return line if len(line) <= MAX_TITLE_CHARS else line[: MAX_TITLE_CHARS - 1] + "…"
