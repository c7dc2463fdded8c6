"""
Write ``outputs.geojsonl``: a GeoJSON feature in each line (RFC 8142 without the record separator).

Paths are relative to the output directory.
"""

from __future__ import annotations

from typing import Any

from bulkdl.processors.catalog.facts import CatalogContainer, CatalogEntry, CatalogInfo
from bulkdl.processors.catalog.json_text import encode_compact
from bulkdl.processors.catalog.stac_items import geometry_document
from bulkdl.processors.catalog.unchanged import TextWriter

FILE = "outputs.geojsonl"
_BETWEEN_LINES = "\x1e"  # JSON escapes it


class GeoJsonWriter(TextWriter):
    """Writes ``outputs.geojsonl``."""

    format = "geojson"

    def __init__(self, info: CatalogInfo) -> None:
        self._stream = (info.folder / FILE).open("w", encoding="utf-8", buffering=1 << 18)

    def render(self, container: CatalogContainer) -> str:
        return _BETWEEN_LINES.join(encode_compact(_feature(container, entry)) for entry in container.entries)

    def write(self, text: str) -> None:
        if text:
            self._stream.write(text.replace(_BETWEEN_LINES, "\n") + "\n")

    def finish(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


def _feature(container: CatalogContainer, entry: CatalogEntry) -> dict[str, Any]:
    feature: dict[str, Any] = {
        "type": "Feature",
        "id": f"{container.id}/{entry.id}",
        "geometry": geometry_document(entry.footprint),
        "properties": {
            "title": entry.title,
            "state": entry.state,
            "reason": entry.reason,
            "detail": entry.detail,
            "source": container.source,
            "project": container.scope_id,
            "job": container.id,
            "job_name": container.name,
            "task": entry.parent_id,
            "block": entry.block,
            "datetime": entry.datetime,
            "start": entry.start,
            "end": entry.end,
            "datetime_source": entry.datetime_source,
            "files": {file.name: file.href for file in entry.files},
            "notes": list(entry.notes),
            **entry.properties,
            "provider": entry.provider_properties,
        },
    }
    if entry.footprint is not None:
        feature["bbox"] = list(entry.footprint.bbox)
    return feature
