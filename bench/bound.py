"""
How fast a run could be at best when each answer takes its time: the largest of three bounds.

The critical path: token, page, tasks, list of quicklooks, signed URL, archive, one after another.
The pools: what a kind asks for, one answer after another in each of its workers.
The pace: nothing but the token and the first page can be asked for before these are there; then the burst,
then one request after another at the rate, and the answer to the last of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from bulkdl.settings import Settings

_CRITICAL = (
    "token",
    "page of jobs",
    "tasks",
    "quicklook list",
    "signed URL",
    "archive",
    "signed URL of the twin",
)
_KINDS = {"archives": "archive", "quicklooks": "quicklook", "geojson": "geojson"}  # kind of work → setting
_HEAD = 2  # token and first page
_API = "api "


@dataclass(frozen=True, slots=True)
class Work:
    """
    Attributes:
        requests: To the API.
        answers: One after another for each kind of worker.
        workers: Of each kind; a kind whose number adapts is left out.
    """

    latency_s: float
    requests: int
    answers: Mapping[str, int]
    workers: Mapping[str, int]
    rate: float
    burst: int
    path: tuple[str, ...] = field(default=_CRITICAL)

    @classmethod
    def of(cls, asked: Mapping[str, int], *, latency_s: float) -> Self:
        """From what was asked, by ``server endpoint``, under the default settings."""
        settings = Settings()
        wanted = {kind: getattr(settings, f"{key}_concurrency") for kind, key in _KINDS.items()}
        return cls(
            latency_s,
            sum(number for name, number in asked.items() if name.startswith(_API)),
            {
                "archives": asked.get("api results", 0) + asked.get("storage object", 0),
                "quicklooks": asked.get("api quicklook", 0),
                "geojson": asked.get("api geojson", 0),
            },
            {name: number for name, number in wanted.items() if isinstance(number, int)},
            settings.rate,
            settings.burst,
        )


def bound(work: Work) -> dict[str, float]:
    """Seconds that each bound allows at best."""
    limits = {"critical path": len(work.path) * work.latency_s}
    for name, workers in work.workers.items():
        limits[f"pool of {name} ({workers})"] = work.answers[name] * work.latency_s / workers
    if work.rate:
        waiting_s = max(work.requests - _HEAD - work.burst, 0) / work.rate
        name = f"pace ({work.rate:g}/s, burst {work.burst})"
        limits[name] = _HEAD * work.latency_s + waiting_s + work.latency_s
    return limits
