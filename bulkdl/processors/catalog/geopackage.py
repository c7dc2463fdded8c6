"""
Write ``outputs.gpkg``: the footprints with states and paths, the containers, and the failures.

Paths are relative to the folder of the file.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bulkdl.models import Outcome
from bulkdl.processors.catalog.facts import CatalogContainer, CatalogEntry, CatalogFile, CatalogInfo, Ring
from bulkdl.processors.catalog.geopackage_file import GeoPackage, encode_shape, format_time
from bulkdl.processors.catalog.qgis_style import add_style
from bulkdl.processors.catalog.unchanged import KeptContainer

FILE = "outputs.gpkg"
_OUTPUTS = "outputs"
_TO_OUTPUT = "../"
_MAX_UNION_POLYGONS = 1000
_OUTPUT_COLUMNS = (
    *(("id", "TEXT"), ("title", "TEXT"), ("state", "TEXT"), ("reason", "TEXT"), ("hint", "TEXT")),
    *(("detail", "TEXT"), ("kinds", "TEXT"), ("source", "TEXT"), ("project", "TEXT"), ("job", "TEXT")),
    *(("job_name", "TEXT"), ("task", "TEXT"), ("task_name", "TEXT"), ("block", "TEXT")),
    *(("datetime", "DATETIME"), ("start", "DATETIME"), ("end", "DATETIME"), ("datetime_source", "TEXT")),
    *(("cloud_cover", "REAL"), ("platform", "TEXT"), ("gsd", "REAL"), ("path", "TEXT")),
    *(("thumbnail", "TEXT"), ("metadata", "TEXT"), ("archive", "TEXT"), ("files", "INTEGER")),
    *(("size_bytes", "INTEGER"), ("width", "INTEGER"), ("height", "INTEGER"), ("bands", "INTEGER")),
    *(("dtype", "TEXT"), ("epsg", "INTEGER"), ("notes", "TEXT"), ("properties", "TEXT"), ("item", "TEXT")),
)
_JOB_COLUMNS = (
    *(("job", "TEXT"), ("name", "TEXT"), ("status", "TEXT"), ("source", "TEXT"), ("project", "TEXT")),
    *(("created", "DATETIME"), ("finished", "DATETIME"), ("outputs", "INTEGER")),
    *(("completed", "INTEGER"), ("failed", "INTEGER"), ("skipped", "INTEGER"), ("other", "INTEGER")),
    *(("failure", "TEXT"), ("detail", "TEXT")),
)
_FAILURE_COLUMNS = (
    *(("project", "TEXT"), ("job", "TEXT"), ("job_name", "TEXT"), ("task", "TEXT"), ("kinds", "TEXT")),
    *(("title", "TEXT"), ("reason", "TEXT"), ("detail", "TEXT"), ("hint", "TEXT"), ("output", "INTEGER")),
)


class GeoPackageWriter:
    """
    Writes ``outputs.gpkg``.

    Args:
        previous: The folder of the catalogue whose rows are kept; None if there is none.
    """

    def __init__(self, info: CatalogInfo, previous: Path | None = None) -> None:
        self._info = info
        self._has_items = "stac" in info.formats
        self._is_copy = previous is not None and (previous / FILE).is_file()
        copied = previous / FILE if previous is not None and self._is_copy else None
        self._file = GeoPackage(info.folder / FILE, info.written_at, previous=copied)
        add = self._file.add_layer
        self._outputs = add(_OUTPUTS, _OUTPUT_COLUMNS, description="All outputs by footprint and state")
        self._jobs = add("jobs", _JOB_COLUMNS, description="Jobs and deliveries with counts by state")
        self._failures = add(
            "failures", _FAILURE_COLUMNS, description="Failed outputs with reason and hint", srs_id=None
        )

    def add(self, container: CatalogContainer) -> None:
        counts = Counter(entry.state for entry in container.entries)
        polygons: dict[tuple[Ring, ...], None] = {}
        for entry in container.entries:
            shape = encode_shape(entry.footprint.polygons) if entry.footprint is not None else None
            item = f"{container.folder}/{entry.id}.json" if self._has_items else ""
            self._outputs.add(shape, _output_row(container, entry, item))
            if entry.footprint is not None and len(polygons) < _MAX_UNION_POLYGONS:
                polygons |= dict.fromkeys(entry.footprint.polygons)
            if entry.state == Outcome.FAILED:
                self._failures.add(None, _failure_row(container, entry, self._outputs.count))
        if container.failure:
            self._failures.add(None, _listing_failure_row(container))
        self._jobs.add(
            encode_shape(list(polygons)) if polygons else None,
            _job_row(container, counts),
        )

    def keep(self, kept: KeptContainer) -> bool:
        """Keep the rows of a container in a copied file."""
        del kept
        return self._is_copy

    def remove(self, scope_id: str, container_id: str) -> None:
        """Remove the rows of a container from a copied file."""
        if self._is_copy:
            for layer in (self._outputs, self._jobs, self._failures):
                layer.remove(scope_id, container_id)

    def finish(self) -> None:
        if not self._is_copy:
            add_style(self._file.connection, _OUTPUTS, self._info.written_at)
        self._file.finish()

    def close(self) -> None:
        self._file.close()


def _output_row(container: CatalogContainer, entry: CatalogEntry, item: str) -> tuple[object, ...]:
    data, raster, properties = entry.data, entry.raster, entry.properties
    return (
        *(entry.id, entry.title, entry.state, entry.reason, entry.hint),
        *(entry.detail, ",".join(entry.kinds), container.source, container.scope_id, container.id),
        *(container.name, entry.parent_id, entry.parent_name, entry.block),
        *(format_time(entry.datetime), format_time(entry.start), format_time(entry.end)),
        entry.datetime_source,
        *(properties.get("eo:cloud_cover"), properties.get("platform"), properties.get("gsd"), _path(data)),
        *(_path(entry.thumbnail), _path(_find(entry, "metadata")), _path(_find(entry, "archive"))),
        len(entry.files),
        sum(file.size_bytes or 0 for file in entry.files),
        *((raster.width, raster.height, raster.bands) if raster else (None, None, None)),
        *((raster.dtype, raster.epsg) if raster else (None, None)),
        " ".join(entry.notes),
        entry.provider_text if entry.provider_properties else "",
        item,
    )


def _find(entry: CatalogEntry, role: str) -> CatalogFile | None:
    return next((file for file in entry.files if file.role == role), None)


def _path(file: CatalogFile | None) -> str:
    return _TO_OUTPUT + file.href if file is not None else ""


def _job_row(container: CatalogContainer, counts: Counter[str]) -> tuple[object, ...]:
    completed, failed, skipped = (
        counts[outcome] for outcome in (Outcome.COMPLETED, Outcome.FAILED, Outcome.SKIPPED)
    )
    total = len(container.entries)
    return (
        *(container.id, container.name, container.status, container.source, container.scope_id),
        *(format_time(container.created_at), format_time(container.finished_at), total),
        *(completed, failed, skipped, total - completed - failed - skipped),
        *(container.failure, container.failure_detail),
    )


def _failure_row(container: CatalogContainer, entry: CatalogEntry, number: int) -> tuple[object, ...]:
    return (
        *(container.scope_id, container.id, container.name, entry.parent_id, ",".join(entry.kinds)),
        *(entry.title, entry.reason, entry.detail, entry.hint, number),
    )


def _listing_failure_row(container: CatalogContainer) -> tuple[object, ...]:
    return (
        *(container.scope_id, container.id, container.name, "", ""),
        *("(list of outputs)", container.failure, container.failure_detail, "", None),
    )
