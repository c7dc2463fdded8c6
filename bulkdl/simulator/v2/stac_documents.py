"""Create the STAC documents: catalog, collections, items, and the pages that contain them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from bulkdl.simulator.documents import Json
from bulkdl.simulator.v2.deliveries import Deliveries, Delivery, Item
from bulkdl.simulator.v2.documents import micros, order_status
from bulkdl.simulator.v2.item_assets import AssetFile, Href, ItemAsset

FOREIGN_ORIGIN = "https://tiles.example.org"
_STAC = "/v2/assets/stac"
_VERSION = "1.0.0"
_API = "https://api.stacspec.org/v1.0.0-rc.1"
_CONFORMANCE = (
    "core",
    "collections",
    "ogcapi-features",
    "item-search",
    "item-search#filter",
    "item-search#filter:basic-cql",
    "item-search#sort",
)
_EXTENSIONS = "https://api.up42.com/stac-extensions"
QUERYABLES = (
    *("asset_id", "collection", "collection_name", "constellation", "data_product_id", "datetime"),
    *("eo:cloud_cover", "geometry", "gsd", "id", "job_id", "order_id", "tags", "title", "workspace_id"),
)

Changes = Mapping[str, Mapping[str, Any]]
"""The titles and tags that a user has set, by the ID of the original, collection or item."""


def root_url(base_url: str) -> str:
    return f"{base_url}{_STAC}/"


def collection_url(base_url: str, collection_id: str) -> str:
    return f"{base_url}{_STAC}/collections/{collection_id}"


def catalog_document(base_url: str) -> Json:
    root = root_url(base_url)
    return {
        "type": "Catalog",
        "id": "up42-storage",
        "stac_version": _VERSION,
        "title": "UP42 Storage",
        "description": "UP42 Storage STAC API",
        "stac_extensions": [],
        "conformsTo": [f"{_API}/{name}" for name in _CONFORMANCE],
        "links": [
            link("self", root),
            link("root", root),
            link("data", f"{root}collections"),
            {**link("search", f"{root}search"), "method": "POST"},
        ],
    }


def queryables_document(base_url: str) -> Json:
    return {
        "$schema": "https://json-schema.org/draft/2019-09/schema",
        "$id": f"{base_url}{_STAC}/queryables",
        "type": "object",
        "title": "UP42 Storage",
        "properties": {name: {"title": name} for name in QUERYABLES},
    }


def collection_document(deliveries: Deliveries, delivery: Delivery, changes: Changes, base_url: str) -> Json:
    """
    Return the collection of *delivery*.

    ``assets`` contains the original, or nothing. Properties of orders and products are absent for old
    outputs. There is no time of creation.
    """
    own = collection_url(base_url, str(delivery.collection_id))
    acquired = micros(delivery.created_at - timedelta(days=9))
    original = delivery.original
    user = {"title": delivery.title, "tags": _as_list(delivery.tags), **_changes_of(changes, delivery)}
    return {
        "type": "Collection",
        "stac_version": _VERSION,
        "id": delivery.collection_id,
        "title": delivery.name or f"delivery {delivery.number}",
        "description": "A delivery",
        "license": "proprietary",
        "keywords": [],
        "providers": [
            {"name": delivery.producer or "UP42", "roles": ["producer"], "url": "https://up42.com"}
        ],
        "summaries": {},
        "extent": {
            "spatial": {"bbox": [[-180, -60, 180, 60]]},
            "temporal": {"interval": [[acquired, acquired]]},
        },
        "stac_extensions": [f"{_EXTENSIONS}/up42-{name}/v1.0.0/schema.json" for name in ("system", "order")],
        **_properties(deliveries, delivery),
        "up42-user:title": user["title"],
        "up42-user:tags": user["tags"],
        "assets": {original_key(delivery, original): _original_asset(original, base_url)}
        if original and delivery.lists_original
        else {},
        "links": [
            link("self", own),
            link("parent", root_url(base_url)),
            link("items", f"{own}/items", "application/geo+json"),
            link("root", root_url(base_url)),
        ],
    }


def item_document(
    deliveries: Deliveries, delivery: Delivery, item: Item, changes: Changes, base_url: str
) -> Json:
    """Return one item. ``datetime`` is the time of the acquisition."""
    collection = collection_url(base_url, str(delivery.collection_id))
    west, south, east, north = item.bounds
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    acquired = item.acquired_at.strftime("%Y-%m-%dT%H:%M:%S+00:00")
    return {
        "type": "Feature",
        "stac_version": _VERSION,
        "id": item.id,
        "collection": delivery.collection_id,
        "bbox": list(item.bounds),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "stac_extensions": [f"{_EXTENSIONS}/up42-system/v1.0.0/schema.json"],
        "properties": {
            "datetime": acquired,
            "start_datetime": acquired,
            "end_datetime": acquired,
            "constellation": delivery.collection_name,
            "gsd": 0.5,
            "eo:cloud_cover": item.number * 10 % 100,
            "title": item.title,
            **_properties(deliveries, delivery),
            "up42-user:title": None,
            "up42-user:tags": None,
            **changes.get(item.id, {}),
        },
        "assets": {asset.key: _asset_document(asset, base_url) for asset in item.assets},
        "links": [
            link("self", f"{collection}/items/{item.id}", "application/geo+json"),
            link("parent", collection),
            link("collection", collection),
            link("root", root_url(base_url)),
        ],
    }


def link(relation: str, href: str, media_type: str = "application/json") -> Json:
    return {"rel": relation, "href": href, "type": media_type}


def original_key(delivery: Delivery, original: AssetFile) -> str:
    """Return the key of *original* in its collection."""
    return f"{delivery.collection_id or '':.8}_{original.name.split('_')[-1]}"


def foreign_href(asset: ItemAsset) -> str:
    return f"{FOREIGN_ORIGIN}/{asset.key}"


def page_links(base_url: str, collection_id: str | None, own: str) -> list[Json]:
    root = root_url(base_url)
    parent = collection_url(base_url, collection_id) if collection_id else root
    return [link("root", root), link("parent", parent), link("self", own)]


def _properties(deliveries: Deliveries, delivery: Delivery) -> dict[str, Json]:
    asset_id = delivery.original.id if delivery.original else None
    document: dict[str, Json] = {
        "up42-system:asset_id": asset_id,
        "up42-system:account_id": deliveries.account_id,
        "up42-system:workspace_id": delivery.workspace_id,
        "up42-system:metadata_version": "0.0.5",
    }
    if delivery.job_id:
        document["up42-system:job_id"] = delivery.job_id
    if delivery.source:
        document["up42-system:source"] = delivery.source
        document["up42-product:collection_name"] = delivery.collection_name
        document["up42-product:product_id"] = delivery.product_id
        document["up42-product:modality"] = "multispectral"
    if delivery.order_id:
        index = deliveries.ids.decode(delivery.order_id)
        document["up42-order:id"] = delivery.order_id
        document["up42-order:status"] = order_status(deliveries, index.job) if index else None
        document["up42-order:host_id"] = delivery.host
    return document


def _changes_of(changes: Changes, delivery: Delivery) -> Mapping[str, Any]:
    return changes.get(delivery.original.id, {}) if delivery.original else {}


def _as_list(tags: tuple[str, ...] | None) -> list[str] | None:
    return None if tags is None else list(tags)


def _original_asset(original: AssetFile, base_url: str) -> Json:
    return {
        "href": f"{base_url}/v2/assets/{original.id}",
        "title": "Original Delivery",
        "type": original.media_type,
        "roles": ["data", "original"],
    }


def _asset_document(asset: ItemAsset, base_url: str) -> Json:
    if asset.file is None or asset.href is Href.FOREIGN:
        href = foreign_href(asset)
    else:
        suffix = "/download-url" if asset.href is Href.DOWNLOAD_URL else ""
        href = f"{base_url}/v2/assets/{asset.file.id}{suffix}"
    document = {"href": href, "title": asset.title, "type": asset.media_type, "roles": list(asset.roles)}
    return {**document, "description": asset.description} if asset.description else document
