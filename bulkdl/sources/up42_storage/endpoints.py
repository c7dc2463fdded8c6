"""Label API requests by the shape of their path, with few different values, for the metrics."""

from __future__ import annotations

import re

from yarl import URL

OTHER = "other"

_STAC = r"/v2/assets/stac"
_SHAPES = {
    "token": r"/realms/[^/]+/protocol/openid-connect/token",
    "assets": r"/v2/assets",
    "asset": r"/v2/assets/[^/]+/metadata",
    "sign": r"/v2/assets/[^/]+/download-url",
    "collections": rf"{_STAC}/collections",
    "collection": rf"{_STAC}/collections/[^/]+",
    "items": rf"{_STAC}/collections/[^/]+/items",
    "search": rf"{_STAC}/search",
    "processing_jobs": r"/v2/processing/jobs",
    "processing_job": r"/v2/processing/jobs/[^/]+",
    "orders": r"/v2/orders",
    "order": r"/v2/orders/[^/]+",
}
_SHAPE = re.compile("|".join(rf"(?P<{endpoint}>{shape}/?$)" for endpoint, shape in _SHAPES.items()))

API_ENDPOINTS = tuple(_SHAPES)


def endpoint_label(method: str, url: URL) -> str:
    """Return the endpoint of today's API that *url* belongs to, with any base path."""
    del method
    match = _SHAPE.search(url.raw_path)
    return (match and match.lastgroup) or OTHER
