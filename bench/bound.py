"""
Compute the lower bound of the duration of a run with a fixed response time: the maximum of three bounds.

Critical path: the requests of which each needs the response to the one before.
Pools: the responses of a kind, one after another in each of its workers.
Rate limit: the token and the first page, then the burst, then one request after another at the rate, and
the response to the last request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from bench.pairs import ProgramRuns
from bench.result import Metric, RowResult
from bulkdl.settings import Settings
from bulkdl.sources.up42_storage.spec import SPEC as STORAGE

MAX_RATIO = 1.25
"""Maximum duration of a run divided by the bound."""

_CRITICAL_PATH = (
    "token",
    "page of jobs",
    "tasks",
    "quicklook list",
    "signed URL",
    "archive",
    "signed URL of the same object",
)
# The first page of a numbered list shows the number of the last page, which has the newest originals.
_STORAGE_CRITICAL_PATH = ("token", "first page", "last page", "search", "signed URL", "asset")
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

    @classmethod
    def from_storage_requests(cls, request_counts: Mapping[str, int], *, latency_s: float) -> Self:
        """Create it for today's API. A worker of any kind requests a signed URL and then the asset."""
        settings = Settings()
        pool = sum(kind.concurrency.maximum for kind in STORAGE.kinds)
        return cls(
            latency_s,
            sum(number for name, number in request_counts.items() if name.startswith(_API)),
            {"assets": request_counts.get("api download_url", 0) + request_counts.get("storage object", 0)},
            {"assets": pool},
            settings.rate,
            settings.burst,
            _STORAGE_CRITICAL_PATH,
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


def compare_with_bounds(
    result: RowResult, ours: ProgramRuns, request_counts: Mapping[str, int], work: Work
) -> None:
    """Add the bounds of *work* and the ratio of the duration of *ours* to the largest bound."""
    result.facts["requests of one run"] = ", ".join(
        f"{n} {name}" for name, n in sorted(request_counts.items())
    )
    limits = compute_bounds(work)
    result.facts |= {f"lower bound, {name}": f"{seconds:.2f} s" for name, seconds in limits.items()}
    ratio = ours.median(lambda sample: sample.wall_s) / max(limits.values())
    result.metrics.append(Metric("time / lower bound", f"{ratio:.2f}", f"≤ {MAX_RATIO}", ratio <= MAX_RATIO))
