"""Convert an entry to the values that the page shows in its card. The page loads them on demand."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from typing import Any

from bulkdl.processors.catalog.facts import CatalogEntry, CatalogFile

MAX_FILES = 40
MAX_TEXT_CHARS = 1_000
MAX_PROPERTIES_CHARS = 6_000


def describe_entry(entry: CatalogEntry) -> dict[str, Any]:
    """Return the details of *entry* without empty values. The size is bounded."""
    files = entry.files[:MAX_FILES]
    base = _find_common_folder(files)
    properties, is_cut = _bound(entry.properties)
    provider_properties, is_provider_cut = _bound(entry.provider_properties)
    details = {
        "id": entry.id,
        "parent": [entry.parent_id, entry.parent_name] if entry.parent_id else None,
        "block": entry.block,
        "feature": entry.feature_id,
        "outputs": [[output.kind, output.name] for output in entry.outputs[:MAX_FILES]],
        "detail": entry.detail[:MAX_TEXT_CHARS],
        "hint": entry.hint[:MAX_TEXT_CHARS],
        "bbox": entry.footprint.bbox if entry.footprint else None,
        "datetime": entry.datetime,
        "span": [entry.start, entry.end] if entry.start else None,
        "dateSource": entry.datetime_source,
        "base": base,
        "files": [_describe_file(file, base) for file in files],
        "filesLeftOut": len(entry.files) - len(files),
        "properties": properties,
        "providerProperties": provider_properties,
        "arePropertiesCut": is_cut or is_provider_cut,
        "notes": [note[:MAX_TEXT_CHARS] for note in entry.notes[:MAX_FILES]],
    }
    return {name: value for name, value in details.items() if value}


def _find_common_folder(files: Sequence[CatalogFile]) -> str:
    folder = posixpath.dirname(files[0].href) if files else ""
    while folder and not all(file.href.startswith(f"{folder}/") for file in files):
        folder = posixpath.dirname(folder) if "/" in folder.strip("/") else ""
    return folder


def _describe_file(file: CatalogFile, base: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": file.name,
        "role": file.role,
        "path": file.href[len(base) + 1 :] if base else file.href,
        "type": file.media_type,
        "size": file.size_bytes,
        "checksum": file.checksum,
        "member": file.member,
        "title": file.title,
    }
    if file.raster is not None:
        raster = file.raster
        described["raster"] = {
            "width": raster.width,
            "height": raster.height,
            "bands": raster.bands,
            "dtype": raster.dtype,
            "epsg": raster.epsg,
            "transform": raster.transform,
        }
    return {name: value for name, value in described.items() if value not in ("", None)}


def _bound(properties: Any) -> tuple[dict[str, str], bool]:
    """Return the properties as texts up to a total length, and whether some are missing."""
    shown: dict[str, str] = {}
    left = MAX_PROPERTIES_CHARS
    for name, value in properties.items():
        text = value if isinstance(value, str) else _to_text(value)
        left -= len(name) + min(len(text), MAX_TEXT_CHARS)
        if left < 0:
            return shown, True
        shown[str(name)] = text if len(text) <= MAX_TEXT_CHARS else text[:MAX_TEXT_CHARS] + "…"
    return shown, False


def _to_text(value: Any) -> str:
    if type(value) in (int, float):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)
