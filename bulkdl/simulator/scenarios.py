"""
Define the job scenarios: one example of each case, and random scenarios for the other jobs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from bulkdl.simulator.archives import Format

Parents = tuple[tuple[int, ...], ...]

ALONE: Parents = ((),)
PAIR: Parents = ((), (0,))
CHAIN: Parents = ((), (0,), (1,))
DIAMOND: Parents = ((), (0,), (0,), (1, 2))

UNFINISHED = frozenset({"NOT_STARTED", "PENDING", "RUNNING"})

# Names that a server can send but that are not valid file names.
HOSTILE_NAMES = (
    "../../escaped.jpg",
    "/absolute.jpg",
    "C:\\drive.jpg",
    "nul\0byte.jpg",
    "new\nline.jpg",
    "l" * 296 + ".jpg",
    "con",
    "con.jpg",
    "Twin.jpg",
    "twin.JPG",
    "caf\u00e9.jpg",
    "cafe\u0301.jpg",
    "trailing.",
    "..",
    "a/b.jpg",
    "%2e%2e%2fencoded.jpg",
)


@dataclass(frozen=True, slots=True)
class Plot:
    """
    The scenario of one job.

    Attributes:
        parents: For each task, the indexes of its parent tasks.
        form: Format of all archives. None selects a random format per archive.
        empty: FeatureCollections without features and archives without rasters.
        no_archive: ``downloads/results`` returns 404.
    """

    status: str = "SUCCEEDED"
    parents: Parents = PAIR
    form: Format | None = None
    name: str = ""
    nameless: bool = False
    mode: str = "DEFAULT"
    empty: bool = False
    no_archive: bool = False

    _WEIGHTS: ClassVar = {
        "SUCCEEDED": 84,
        "FAILED": 8,
        "CANCELLED": 3,
        "ERROR": 2,
        "RUNNING": 1,
        "PENDING": 1,
        "NOT_STARTED": 1,
    }

    @property
    def unfinished(self) -> bool:
        return self.status in UNFINISHED

    @classmethod
    def drawn(cls, rng: random.Random) -> Plot:
        status = rng.choices(list(cls._WEIGHTS), list(cls._WEIGHTS.values()))[0]
        if rng.random() < 0.08:
            return cls(status, ALONE, mode="DRY_RUN", empty=rng.random() < 0.3, no_archive=rng.random() < 0.5)
        parents = rng.choices((ALONE, PAIR, CHAIN, DIAMOND), (3, 5, 2, 1))[0]
        return cls(status, parents, nameless=rng.random() < 0.15, empty=rng.random() < 0.05)


GALLERY = (
    Plot(form="tgz"),
    Plot(parents=ALONE, form="zip", nameless=True),
    Plot("FAILED"),
    Plot(parents=ALONE, mode="DRY_RUN", form="tgz"),
    Plot(parents=DIAMOND, form="tgz", name="Rhein/Main 🛰️ – NDVI"),
    Plot(form="tar"),
    Plot("RUNNING"),
    Plot(empty=True),
    Plot("CANCELLED"),
    Plot("ERROR", ALONE),
    Plot("NOT_STARTED"),
    Plot("PENDING", ALONE),
    Plot(parents=ALONE, mode="DRY_RUN", no_archive=True),
    Plot(parents=CHAIN, nameless=True),
)


def task_statuses(plot: Plot, rng: random.Random) -> list[str]:
    """Return the status of each task. Tasks before the one that determines the job status have SUCCEEDED."""
    count = len(plot.parents)
    if plot.status == "SUCCEEDED":
        return ["SUCCEEDED"] * count
    if plot.status in {"NOT_STARTED", "PENDING"}:
        return ["NOT_STARTED"] * count
    decided = rng.randrange(1, count) if count > 1 else 0
    return ["SUCCEEDED"] * decided + [plot.status] + ["NOT_STARTED"] * (count - decided - 1)
