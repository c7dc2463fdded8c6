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
from bulkdl.processors.catalog.cache import CachedContainer, EntryCache, Order, fingerprint, order_of
from bulkdl.processors.catalog.checksums import ChecksumsWriter, add_checksums
from bulkdl.processors.catalog.entries import create_container, create_entries
from bulkdl.processors.catalog.facts import CatalogEntry, CatalogInfo, CatalogWriter
from bulkdl.processors.catalog.georeference import QuicklookWriter
from bulkdl.processors.catalog.output_tree import OutputTree
from bulkdl.processors.catalog.publishing import WorkFolder, read_marker
from bulkdl.processors.catalog.records import LedgerContainer
from bulkdl.processors.catalog.unchanged import (
    KeepingWriter,
    KeptContainer,
    Summary,
    TextWriter,
    summarize,
)

# Format → module and class of its writer. A module is imported only if its format is written.
_WRITERS = {
    "stac": ("bulkdl.processors.catalog.stac", "StacWriter"),
    "gpkg": ("bulkdl.processors.catalog.geopackage", "GeoPackageWriter"),
    "mosaic": ("bulkdl.processors.catalog.mosaic", "MosaicWriter"),
    "geojson": ("bulkdl.processors.catalog.geojson", "GeoJsonWriter"),
    "parquet": ("bulkdl.processors.catalog.parquet", "ParquetWriter"),
    "page": ("bulkdl.processors.catalog.page.writer", "PageWriter"),
}
FORMATS = tuple(_WRITERS)
_TEXTS = frozenset({"geojson", "parquet", "page"})  # the writers that are a TextWriter
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

    def count(self, summary: Summary) -> None:
        """Count a container and its entries."""
        self.containers += 1
        self.entries += len(summary.ids)
        self.states.update(summary.states)

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
        place.prepare(stop)
        if PAGE in request.formats:
            place.check_index()
        info = request.info(place.catalog, place.index)
        cache = _open_cache(place, request)
        closing.callback(cache.close)
        writers = _open_writers(request, info, _find_previous(place, cache), closing)
        result = CatalogPass(stop, request, cache, writers).run(records)
        for writer in writers:
            writer.finish()
        cache.close()
        check_stop(stop)
        written_at = f"{info.written_at:%Y-%m-%dT%H:%M:%SZ}"
        place.publish({"written_at": written_at, **result.as_dict()}, sync=request.sync)
    return result


def _open_cache(place: WorkFolder, request: CatalogRequest) -> EntryCache:
    texts = [name for name in request.formats if name in _TEXTS]
    if request.checksums:
        texts.append(ChecksumsWriter.format)
    variant = ",".join(sorted(request.formats)) + (" checksums" if request.checksums else "")
    return EntryCache(place.previous_cache, place.cache, place.build, texts, variant)


def _find_previous(place: WorkFolder, cache: EntryCache) -> Path | None:
    """Return the published catalogue if the cache describes it and it has the same formats."""
    marker: Mapping[str, Any] = read_marker(place.published) or {}
    is_same = marker.get("build") == cache.previous_build and cache.is_same_variant
    return place.published if is_same else None


def _open_writers(
    request: CatalogRequest, info: CatalogInfo, previous: Path | None, closing: ExitStack
) -> list[CatalogWriter]:
    writers: list[CatalogWriter] = []

    def add(writer: CatalogWriter) -> None:
        closing.callback(writer.close)
        writers.append(writer)

    for name in request.formats:
        module, kind = _WRITERS[name]
        create = getattr(import_module(module), kind)
        add(cast("CatalogWriter", create(info) if name in _TEXTS else create(info, previous)))
    if request.checksums:
        add(ChecksumsWriter(info))
    if request.georeferences:
        add(QuicklookWriter(info))
    return writers


class CatalogPass:
    """One pass over the containers."""

    def __init__(
        self,
        stop: threading.Event,
        request: CatalogRequest,
        cache: EntryCache,
        writers: Sequence[CatalogWriter],
    ) -> None:
        self._stop = stop
        self._request = request
        self._cache = cache
        self._writers = writers
        # Not determined for each container, because the check of a protocol is slow.
        self._keeping = {writer for writer in writers if isinstance(writer, KeepingWriter)}
        self._result = CatalogResult(tuple(request.formats))

    def run(self, records: Records) -> CatalogResult:
        """Give all containers to the writers."""
        for record, tree in records:
            check_stop(self._stop)
            order, current = order_of(record, tree), fingerprint(record, tree)
            cached = self._cache.find(order, current)
            self._remove_obsolete()
            if cached is not None and (self._cache.is_same_variant or not self._request.checksums):
                self._keep(record, order, current, cached)
            else:
                entries = cached.entries() if cached is not None else create_entries(record, tree)
                self._add(record, order, current, entries)
        self._cache.skip_rest()
        self._remove_obsolete()
        return self._result

    def _remove_obsolete(self) -> None:
        for scope_id, _, container_id, _ in self._cache.removed:
            for writer in self._keeping:
                writer.remove(scope_id, container_id)
        self._cache.removed.clear()

    def _add(
        self, record: LedgerContainer, order: Order, current: str, entries: tuple[CatalogEntry, ...]
    ) -> None:
        if self._request.checksums:
            entries = add_checksums(self._stop, entries, self._request.output)
        container = create_container(record, entries)
        texts = {}
        for writer in self._writers:
            if isinstance(writer, TextWriter):
                texts[writer.format] = writer.render(container)
                writer.write(texts[writer.format])
            else:
                writer.add(container)
        summary = summarize(container)
        self._cache.add(order, current, summary, container, texts)
        self._result.count(summary)

    def _keep(self, record: LedgerContainer, order: Order, current: str, cached: CachedContainer) -> None:
        kept = KeptContainer(
            create_container(record, ()),
            cached.summary,
            lambda: create_container(record, cached.entries(), is_unchanged=True),
        )
        texts = dict(cached.texts)
        for writer in self._writers:
            if isinstance(writer, TextWriter):
                if writer.format not in texts:
                    texts[writer.format] = writer.render(kept.container)
                writer.write(texts[writer.format])
            elif writer not in self._keeping or not writer.keep(kept):
                writer.add(kept.container)
        self._cache.add(order, current, cached.summary, cached, texts)
        self._result.count(cached.summary)
        self._result.unchanged += 1
