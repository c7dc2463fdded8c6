"""
Write ``items.parquet``: GeoParquet 1.1 in the shape of STAC-GeoParquet, with fixed columns.

Items without a footprint are left out, because readers of STAC-GeoParquet do not accept them. The properties
of the provider are one column of JSON text: their types differ between providers, and a column has one type.
References are relative to the file.

The rows are first written as lines of JSON, which are then converted in batches, so that memory is bounded.
Requires the extra ``geoparquet``.
"""

from __future__ import annotations

import json
from typing import Any

from arro3.core import DataType, Field, Schema
from arro3.io import read_json, write_parquet

from bulkdl.processors.catalog.facts import BBox, CatalogContainer, CatalogEntry, CatalogFile, CatalogInfo
from bulkdl.processors.catalog.json_text import encode_ascii
from bulkdl.processors.catalog.stac_items import STAC_VERSION, multihash
from bulkdl.processors.catalog.unchanged import TextWriter
from bulkdl.processors.catalog.wkb import encode_multipolygon, encode_polygon

FILE = "items.parquet"
ASSETS = ("data", "thumbnail", "metadata", "archive", "original")
_TO_OUTPUT = "../"
_BETWEEN_ROWS = "\x1e"  # JSON escapes it
_BATCH_ROWS, _GROUP_ROWS = 500, 5_000
_TEXT, _REAL, _INTEGER = DataType.utf8(), DataType.float64(), DataType.int64()
_TIME = DataType.timestamp("us", tz="UTC")
_TEXTS = DataType.list(Field("item", _TEXT))
_LINK = DataType.struct([Field(name, _TEXT) for name in ("href", "rel", "type", "title")])
_ASSET = DataType.struct(
    [
        *(Field(name, _TEXT) for name in ("href", "type", "title")),
        Field("roles", _TEXTS),
        Field("file:size", _INTEGER),
        Field("file:checksum", _TEXT),
        Field("up42:member", _TEXT),
    ]
)
_BBOX = DataType.struct([Field(name, _REAL) for name in ("xmin", "ymin", "xmax", "ymax")])
_SCHEMA = Schema(
    [
        Field("type", _TEXT),
        Field("stac_version", _TEXT),
        Field("stac_extensions", _TEXTS),
        Field("id", _TEXT),
        Field("collection", _TEXT),
        Field("geometry", DataType.binary()),
        Field("bbox", _BBOX),
        Field("links", DataType.list(Field("item", _LINK))),
        Field("assets", DataType.struct([Field(name, _ASSET) for name in ASSETS])),
        *(Field(name, _TIME) for name in ("datetime", "start_datetime", "end_datetime", "created")),
        *(Field(name, _TEXT) for name in ("title", "platform", "constellation", "sat:orbit_state")),
        *(Field(name, _REAL) for name in ("eo:cloud_cover", "gsd", "view:incidence_angle")),
        *(Field(name, _REAL) for name in ("view:sun_azimuth", "view:sun_elevation")),
        Field("proj:code", _TEXT),
        *(Field(f"up42:{name}", _TEXT) for name in ("source", "container_id", "container_name", "status")),
        *(Field(f"up42:{name}", _TEXT) for name in ("reason", "parent_id", "parent_name", "block")),
        *(Field(f"up42:{name}", _TEXT) for name in ("feature_id", "datetime_source", "properties")),
    ]
)
_GEO = {
    "version": "1.1.0",
    "primary_column": "geometry",
    "columns": {
        "geometry": {
            "encoding": "WKB",
            "geometry_types": ["Polygon", "MultiPolygon"],
            "covering": {
                "bbox": {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")},
            },
        }
    },
}
_FROM_PROPERTIES = (
    *("platform", "constellation", "sat:orbit_state", "eo:cloud_cover", "gsd", "view:incidence_angle"),
    *("view:sun_azimuth", "view:sun_elevation"),
)


class ParquetWriter(TextWriter):
    """Writes ``items.parquet``."""

    format = "parquet"

    def __init__(self, info: CatalogInfo) -> None:
        self._path = info.folder / FILE
        self._rows_path = info.folder.parent / "items.ndjson"
        self._has_items = "stac" in info.formats
        self._rows = self._rows_path.open("w", encoding="ascii", buffering=1 << 18)

    def render(self, container: CatalogContainer) -> str:
        return _BETWEEN_ROWS.join(
            encode_ascii(self._row(container, entry))
            for entry in container.entries
            if entry.footprint is not None
        )

    def write(self, text: str) -> None:
        if text:
            self._rows.write(text.replace(_BETWEEN_ROWS, "\n") + "\n")

    def _row(self, container: CatalogContainer, entry: CatalogEntry) -> dict[str, Any]:
        footprint = entry.footprint
        assert footprint is not None  # noqa: S101 - checked by the caller
        polygons = footprint.polygons
        shape = encode_polygon(polygons[0]) if len(polygons) == 1 else encode_multipolygon(polygons)
        start = None if entry.datetime else entry.start or container.created_at
        raster = entry.raster
        return {
            "type": "Feature",
            "stac_version": STAC_VERSION,
            "stac_extensions": [],
            "id": entry.id,
            "collection": container.scope_id,
            "geometry": shape.hex(),
            "bbox": _covering(footprint.bbox),
            "links": self._links(container, entry),
            "assets": {name: _asset(file) for name in ASSETS if (file := _find(entry, name))},
            "datetime": entry.datetime,
            "start_datetime": start or entry.start,
            "end_datetime": entry.end or start,
            "created": container.created_at,
            "title": entry.title,
            **{name: entry.properties.get(name) for name in _FROM_PROPERTIES},
            "proj:code": f"EPSG:{raster.epsg}" if raster is not None and raster.epsg is not None else None,
            "up42:source": container.source,
            "up42:container_id": container.id,
            "up42:container_name": container.name,
            "up42:status": entry.state,
            "up42:reason": entry.reason,
            "up42:parent_id": entry.parent_id,
            "up42:parent_name": entry.parent_name,
            "up42:block": entry.block,
            "up42:feature_id": entry.feature_id,
            "up42:datetime_source": entry.datetime_source,
            "up42:properties": entry.provider_text,
        }

    def _links(self, container: CatalogContainer, entry: CatalogEntry) -> list[dict[str, str]]:
        if not self._has_items:
            return []
        href = f"./{container.folder}/{entry.id}.json"
        return [{"href": href, "rel": "derived_from", "type": "application/geo+json"}]

    def finish(self) -> None:
        self._rows.close()
        write_parquet(
            read_json(self._rows_path, _SCHEMA, batch_size=_BATCH_ROWS),
            self._path,
            compression="zstd(3)",
            key_value_metadata={"geo": json.dumps(_GEO)},
            max_row_group_size=_GROUP_ROWS,
        )

    def close(self) -> None:
        self._rows.close()
        self._rows_path.unlink(missing_ok=True)


def _covering(bbox: BBox) -> dict[str, float]:
    """Return the columns for filters. Across the antimeridian they cover all longitudes."""
    west, south, east, north = bbox
    if west > east:
        west, east = -180.0, 180.0
    return {"xmin": west, "ymin": south, "xmax": east, "ymax": north}


def _find(entry: CatalogEntry, role: str) -> CatalogFile | None:
    return next((file for file in entry.files if file.role == role), None)


def _asset(file: CatalogFile) -> dict[str, Any]:
    return {
        "href": _TO_OUTPUT + file.href,
        "type": file.media_type or None,
        "title": file.title or None,
        "roles": [file.role],
        "file:size": file.size_bytes,
        "file:checksum": multihash(file.checksum) or None,
        "up42:member": file.member or None,
    }
