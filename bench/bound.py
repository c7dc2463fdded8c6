"""
Compute the lower bound of the duration of a run with a fixed response time: the maximum of three bounds.

Critical path: token, page, tasks, list of quicklooks, signed URL and archive, one after another.
Pools: the responses of a kind, one after another in each of its workers.
Rate limit: the token and the first page, then the burst, then one request after another at the rate, and
the response to the last request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from bulkdl.settings import Settings

_CRITICAL_PATH = (
    "token",
    "page of jobs",
    "tasks",
    "quicklook list",
    "signed URL",
    "archive",
    "signed URL of the same object",
)
_KINDS = {"archives": "archive", "quicklooks": "quicklook", "geojson": "geojson"}  # kind of work → setting
_INITIAL_REQUESTS = 2  # token and first page
_API = "api "


@dataclass(frozen=True, slots=True)
class Work:
    """
    Attributes:
        requests: Number of API requests.
        responses: Sequential responses per kind of worker.
        workers: Number per kind. Kinds with adaptive concurrency are omitted.
    """

    latency_s: float
    requests: int
    responses: Mapping[str, int]
    workers: Mapping[str, int]
    rate: float
    burst: int
    path: tuple[str, ...] = field(default=_CRITICAL_PATH)

    @classmethod
    def from_requests(cls, request_counts: Mapping[str, int], *, latency_s: float) -> Self:
        """Create it from the number of requests per ``server endpoint``, with the default settings."""
        settings = Settings()
        concurrency = {kind: getattr(settings, f"{key}_concurrency") for kind, key in _KINDS.items()}
        return cls(
            latency_s,
            sum(number for name, number in request_counts.items() if name.startswith(_API)),
            {
                "archives": request_counts.get("api results", 0) + request_counts.get("storage object", 0),
                "quicklooks": request_counts.get("api quicklook", 0),
                "geojson": request_counts.get("api geojson", 0),
            },
            {name: number for name, number in concurrency.items() if isinstance(number, int)},
            settings.rate,
            settings.burst,
        )


def compute_bounds(work: Work) -> dict[str, float]:
    """Return the lower bounds in seconds."""
    limits = {"critical path": len(work.path) * work.latency_s}
    for name, workers in work.workers.items():
        limits[f"pool of {name} ({workers})"] = work.responses[name] * work.latency_s / workers
    if work.rate:
        waiting_s = max(work.requests - _INITIAL_REQUESTS - work.burst, 0) / work.rate
        name = f"rate limit ({work.rate:g}/s, burst {work.burst})"
        limits[name] = _INITIAL_REQUESTS * work.latency_s + waiting_s + work.latency_s
    return limits
