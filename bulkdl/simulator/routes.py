"""Map paths to endpoints. Segments in braces are parameters. A trailing slash is ignored."""

from __future__ import annotations

from dataclasses import dataclass

_JOB = "projects/{project}/jobs/{job}"
_TASK = _JOB + "/tasks/{task}"

_REALM = "realms/public/protocol/openid-connect"
_STAC = "v2/assets/stac"
_WEBHOOKS = "workspaces/{workspace}/webhooks"

LEGACY_ENDPOINTS: dict[str, tuple[str, ...]] = {
    "token": ("oauth/token",),
    "me": ("users/me",),
    "project": ("projects/{project}",),
    "jobs": ("projects/{project}/jobs",),
    "job": (_JOB,),
    "tasks": (_JOB + "/tasks",),
    "results": (_JOB + "/downloads/results", _TASK + "/downloads/results"),
    "geojson": (_JOB + "/outputs/data-json", _TASK + "/outputs/data-json"),
    "quicklooks": (_TASK + "/outputs/quicklooks",),
    "quicklook": (_TASK + "/outputs/quicklooks/{name}",),
    "logs": (_TASK + "/logs",),
}

TODAY_ENDPOINTS: dict[str, tuple[str, ...]] = {
    "login": (_REALM + "/token",),
    "userinfo": (_REALM + "/userinfo",),
    "assets": ("v2/assets",),
    "asset": ("v2/assets/{asset}/metadata",),
    "download_url": ("v2/assets/{asset}/download-url",),
    "catalog": (_STAC,),
    "queryables": (_STAC + "/queryables",),
    "collections": (_STAC + "/collections",),
    "collection": (_STAC + "/collections/{collection}",),
    "items": (_STAC + "/collections/{collection}/items",),
    "item": (_STAC + "/collections/{collection}/items/{item}",),
    "search": (_STAC + "/search",),
    "processing_jobs": ("v2/processing/jobs",),
    "processing_job": ("v2/processing/jobs/{job}",),
    "orders": ("v2/orders",),
    "order": ("v2/orders/{order}",),
    "webhook_events": ("webhooks/events",),
    "webhooks": (_WEBHOOKS,),
    "webhook": (_WEBHOOKS + "/{webhook}",),
    "webhook_tests": (_WEBHOOKS + "/{webhook}/tests",),
}

ENDPOINTS = LEGACY_ENDPOINTS | TODAY_ENDPOINTS
LOGIN_ENDPOINTS = ("token", "login")
STAC_ENDPOINTS = ("catalog", "queryables", "collections", "collection", "items", "item", "search")
LIST_KEYS = {
    "assets": "content",
    "orders": "content",
    "collections": "collections",
    "items": "features",
    "search": "features",
    "processing_jobs": "jobs",
}
"""The key of the entries in a page, by the endpoint."""
WEBHOOK_ENDPOINTS = ("webhook_events", "webhooks", "webhook", "webhook_tests")

_PATTERNS = [
    (endpoint, pattern.split("/")) for endpoint, patterns in ENDPOINTS.items() for pattern in patterns
]


@dataclass(frozen=True, slots=True)
class Route:
    endpoint: str
    parameters: dict[str, str]

    @property
    def level(self) -> str:
        if self.endpoint in {"results", "geojson", "quicklooks", "quicklook"}:
            return "task" if "task" in self.parameters else "job"
        return ""


def find_route(segments: list[str]) -> Route:
    for endpoint, pattern in _PATTERNS:
        if len(pattern) == len(segments):
            names = _match(pattern, segments)
            if names is not None:
                return Route(endpoint, names)
    return Route("unknown", {})


def is_today(segments: list[str]) -> bool:
    """Return whether today's API serves the path, which can be unknown."""
    return bool(segments) and segments[0] in {"realms", "v2", "webhooks", "workspaces"}


def _match(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    names = {}
    for expected, actual in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            names[expected[1:-1]] = actual
        elif expected != actual:
            return None
    return names
