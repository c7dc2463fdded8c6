"""
The STAC documents of entries, as plain objects.

The references of assets are paths relative to the document. They are not percent-encoded, because programs
use the references of a local catalogue as file names.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from bulkdl.processors.catalog.facts import (
    CatalogContainer,
    CatalogEntry,
    CatalogFile,
    Footprint,
    RasterHeader,
)

STAC_VERSION = "1.1.0"
_BASE = "https://stac-extensions.github.io"
_FILE = f"{_BASE}/file/v2.1.0/schema.json"
# Version 1 allows proj:epsg, which older readers need, next to proj:code.
_PROJECTION = f"{_BASE}/projection/v1.2.0/schema.json"
_BY_PREFIX = {
    "eo": f"{_BASE}/eo/v1.1.0/schema.json",
    "sat": f"{_BASE}/sat/v1.0.0/schema.json",
    "view": f"{_BASE}/view/v1.0.0/schema.json",
    "processing": f"{_BASE}/processing/v1.2.0/schema.json",
}
# Prefixes of multihash values: the codes of the algorithms and the lengths of their digests.
_MULTIHASH = {"sha256": "1220", "md5": "d50110"}
_TO_OUTPUT = "../../../"
_JSON, _GEOJSON = "application/json", "application/geo+json"

Json = dict[str, Any]


def item_document(container: CatalogContainer, entry: CatalogEntry) -> Json:
    """Return the STAC item of *entry*, in the folder of its container."""
    assets = {file.name: _asset(file) for file in entry.files}
    properties = _properties(container, entry)
    document: Json = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": _extensions(properties, entry.files),
        "id": entry.id,
        "geometry": geometry_document(entry.footprint),
        "properties": properties,
        "links": [
            link("root", "../../catalog.json"),
            link("parent", "./catalog.json"),
            link("collection", "../collection.json"),
        ],
        "assets": assets,
        "collection": container.scope_id,
    }
    if entry.footprint is not None:
        document["bbox"] = list(entry.footprint.bbox)
    return document


def link(relation: str, href: str, media_type: str = _JSON, title: str = "") -> Json:
    """Return a link."""
    found: Json = {"rel": relation, "href": href, "type": media_type}
    return {**found, "title": title} if title else found


def item_link(entry: CatalogEntry) -> Json:
    """Return the link from the catalogue of a container to the item of *entry*."""
    return link("item", f"./{entry.id}.json", _GEOJSON, entry.title)


def geometry_document(footprint: Footprint | None) -> Json | None:
    """Return the GeoJSON geometry of *footprint*."""
    if footprint is None:
        return None
    if len(footprint.polygons) == 1:
        return {"type": "Polygon", "coordinates": footprint.polygons[0]}
    return {"type": "MultiPolygon", "coordinates": footprint.polygons}


def _properties(container: CatalogContainer, entry: CatalogEntry) -> Json:
    """Return the properties of the item. Those with the prefix ``up42`` describe the output."""
    properties: Json = {"title": entry.title, "datetime": entry.datetime}
    if entry.datetime is None:  # STAC then requires both ends
        start = entry.start or container.created_at
        properties |= {"start_datetime": start, "end_datetime": entry.end or start}
    elif entry.start and entry.end:
        properties |= {"start_datetime": entry.start, "end_datetime": entry.end}
    own = {
        "up42:status": entry.state,
        "up42:reason": entry.reason,
        "up42:detail": entry.detail,
        "up42:hint": entry.hint,
        "up42:kinds": list(entry.kinds),
        "up42:datetime_source": entry.datetime_source,
        "up42:feature_id": entry.feature_id,
        "up42:container_id": container.id,
        "up42:container_name": container.name,
        "up42:parent_id": entry.parent_id,
        "up42:parent_name": entry.parent_name,
        "up42:block": entry.block,
        "up42:notes": list(entry.notes),
        "up42:properties": entry.provider_properties,
    }
    return {
        **properties,
        "created": container.created_at,
        **entry.properties,
        **{name: value for name, value in own.items() if value},
    }


def _extensions(properties: Json, files: Sequence[CatalogFile]) -> list[str]:
    prefixes = {name.partition(":")[0] for name in properties}
    found = {url for prefix, url in _BY_PREFIX.items() if prefix in prefixes}
    if any(file.size_bytes is not None for file in files):
        found.add(_FILE)
    if any(file.raster is not None for file in files):
        found.add(_PROJECTION)
    return sorted(found)


def _asset(file: CatalogFile) -> Json:
    document: Json = {"href": _TO_OUTPUT + file.href, "roles": [file.role]}
    if file.media_type:
        document["type"] = file.media_type
    if file.title:
        document["title"] = file.title
    if file.size_bytes is not None:
        document["file:size"] = file.size_bytes
    if checksum := multihash(file.checksum):
        document["file:checksum"] = checksum
    if file.member:
        document["up42:member"] = file.member
    return {**document, **_raster_fields(file.raster)} if file.raster else document


def _raster_fields(raster: RasterHeader) -> Json:
    fields: Json = {
        "proj:shape": [raster.height, raster.width],
        "bands": [{"data_type": raster.dtype}] * min(raster.bands, 256),
    }
    if raster.epsg is not None:
        fields |= {"proj:epsg": raster.epsg, "proj:code": f"EPSG:{raster.epsg}"}
    else:
        fields["proj:epsg"] = None
    if raster.transform is not None:
        fields["proj:transform"] = list(raster.transform)
    return fields


def multihash(checksum: str) -> str:
    """Return the multihash of ``algorithm=value``; empty if the algorithm has none."""
    algorithm, _, value = checksum.partition("=")
    prefix = _MULTIHASH.get(algorithm)
    if prefix is None or not value:
        return ""
    return prefix + (base64.b64decode(value).hex() if algorithm == "md5" else value)
