"""Map paths to endpoints. Segments in braces are parameters. A trailing slash is ignored."""

from __future__ import annotations

from dataclasses import dataclass

_JOB = "projects/{project}/jobs/{job}"
_TASK = _JOB + "/tasks/{task}"

ENDPOINTS: dict[str, tuple[str, ...]] = {
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


def _match(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    names = {}
    for expected, actual in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            names[expected[1:-1]] = actual
        elif expected != actual:
            return None
    return names
