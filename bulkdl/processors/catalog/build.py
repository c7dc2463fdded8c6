"""Write all formats of a catalogue in one pass over the containers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from bulkdl.concurrency import check_stop
from bulkdl.processors.catalog.cache import EntryCache, fingerprint, order_of
from bulkdl.processors.catalog.checksums import ChecksumsWriter, add_checksums
from bulkdl.processors.catalog.entries import create_container, create_entries
from bulkdl.processors.catalog.facts import CatalogInfo, CatalogWriter
from bulkdl.processors.catalog.georeference import QuicklookWriter
from bulkdl.processors.catalog.output_tree import OutputTree
from bulkdl.processors.catalog.publishing import WorkFolder, read_marker
from bulkdl.processors.catalog.records import LedgerContainer
from bulkdl.processors.catalog.stac import StacWriter

# Format → module and class of its writer. A module is imported only if its format is written.
_WRITERS = {
    "gpkg": ("bulkdl.processors.catalog.geopackage", "GeoPackageWriter"),
    "mosaic": ("bulkdl.processors.catalog.mosaic", "MosaicWriter"),
    "geojson": ("bulkdl.processors.catalog.geojson", "GeoJsonWriter"),
    "parquet": ("bulkdl.processors.catalog.parquet", "ParquetWriter"),
    "page": ("bulkdl.processors.catalog.page.writer", "PageWriter"),
}
FORMATS = ("stac", *_WRITERS)
PAGE, GEOJSON, PARQUET = "page", "geojson", "parquet"
PARQUET_EXTRA = "geoparquet"

Records = Iterable[tuple[LedgerContainer, OutputTree]]


def default_formats() -> tuple[str, ...]:
    """Return the formats of a catalogue without a choice: all except GeoJSON that are installed."""
    return tuple(name for name in FORMATS if name != GEOJSON and (name != PARQUET or has_parquet()))


def has_parquet() -> bool:
    """Return whether the extra for Parquet is installed."""
    return find_spec("arro3") is not None and find_spec("arro3.io") is not None


@dataclass(slots=True)
class CatalogResult:
    """
    What a catalogue contains.

    Attributes:
        states: The number of entries by state.
        unchanged: The number of containers whose entries were not read again.
    """

    formats: tuple[str, ...]
    containers: int = 0
    unchanged: int = 0
    entries: int = 0
    states: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        return {
            "formats": list(self.formats),
            "containers": self.containers,
            "unchanged": self.unchanged,
            "entries": self.entries,
            "states": dict(sorted(self.states.items())),
        }


@dataclass(frozen=True, slots=True)
class CatalogRequest:
    """
    What to write, and where.

    Attributes:
        output: The output directory.
        work: The folder for catalogues that are being written; on the file system of *output*.
        formats: The formats to write; the others are not in the new catalogue.
        info: Returns the facts for the writers, given the new folder and the new page.
        checksums: Whether to compute the checksums of all files, and to write them.
        georeferences: Whether to write the place of each quicklook next to it.
        sync: Whether the catalogue must survive a power cut.
    """

    output: Path
    work: Path
    formats: Sequence[str]
    info: Callable[[Path, Path], CatalogInfo]
    checksums: bool = False
    georeferences: bool = False
    sync: bool = True


def write_catalog(stop: threading.Event, request: CatalogRequest, records: Records) -> CatalogResult:
    """
    Write the catalogue of *records* and publish it in place of the old one; blocks.

    Raises:
        DestinationError: The names of the catalogue belong to other files.
        OSError, sqlite3.Error: A file cannot be written; the old catalogue stays.
        ReadStopped: *stop* is set.
    """
    place = WorkFolder(request.output, request.work)
    with ExitStack() as closing:
        closing.callback(place.close)
        place.prepare()
        if PAGE in request.formats:
            place.check_index()
        cache = EntryCache(place.previous_cache, place.cache, place.build)
        closing.callback(cache.close)
        info = request.info(place.catalog, place.index)
        previous = _find_previous(place, cache)
        writers = _open_writers(request, info, previous, closing)
        result = _write_containers(stop, request, records, cache, writers)
        for writer in writers:
            writer.finish()
        cache.close()
        check_stop(stop)
        written_at = f"{info.written_at:%Y-%m-%dT%H:%M:%SZ}"
        place.publish({"written_at": written_at, **result.as_dict()}, sync=request.sync)
    return result


def _find_previous(place: WorkFolder, cache: EntryCache) -> Path | None:
    """Return the published catalogue if its items are those of the cache."""
    marker: Mapping[str, Any] = read_marker(place.published) or {}
    is_same = marker.get("build") == cache.previous_build and "stac" in marker.get("formats", ())
    return place.published if is_same else None


def _open_writers(
    request: CatalogRequest, info: CatalogInfo, previous: Path | None, closing: ExitStack
) -> list[CatalogWriter]:
    writers: list[CatalogWriter] = []

    def add(writer: CatalogWriter) -> None:
        closing.callback(writer.close)
        writers.append(writer)

    for name in request.formats:
        if name == "stac":
            add(StacWriter(info, previous))
        else:
            module, kind = _WRITERS[name]
            add(cast("CatalogWriter", getattr(import_module(module), kind)(info)))
    if request.checksums:
        add(ChecksumsWriter(info))
    if request.georeferences:
        add(QuicklookWriter(info))
    return writers


def _write_containers(
    stop: threading.Event,
    request: CatalogRequest,
    records: Records,
    cache: EntryCache,
    writers: Sequence[CatalogWriter],
) -> CatalogResult:
    result = CatalogResult(tuple(request.formats))
    for record, tree in records:
        check_stop(stop)
        order, current = order_of(record, tree), fingerprint(record, tree)
        cached = cache.find(order, current)
        entries = cached if cached is not None else create_entries(record, tree)
        is_unchanged = cached is not None
        if request.checksums:
            entries, has_new = add_checksums(stop, entries, request.output)
            is_unchanged = is_unchanged and not has_new
        cache.add(order, current, entries)
        container = create_container(record, entries, is_unchanged=is_unchanged)
        for writer in writers:
            writer.add(container)
        result.containers += 1
        result.unchanged += is_unchanged
        result.entries += len(entries)
        result.states.update(entry.state for entry in entries)
    return result
