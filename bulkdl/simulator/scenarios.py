"""
Define the job scenarios: one example of each case, and random scenarios for the other jobs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from bulkdl.simulator.archives import ArchiveFormat

Parents = tuple[tuple[int, ...], ...]

SINGLE: Parents = ((),)
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
class JobScenario:
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
    archive_format: ArchiveFormat | None = None
    name: str = ""
    has_no_name: bool = False
    mode: str = "DEFAULT"
    has_no_features: bool = False
    has_no_archive: bool = False

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
    def is_unfinished(self) -> bool:
        return self.status in UNFINISHED

    @classmethod
    def create_random(cls, rng: random.Random) -> JobScenario:
        status = rng.choices(list(cls._WEIGHTS), list(cls._WEIGHTS.values()))[0]
        if rng.random() < 0.08:
            return cls(
                status,
                SINGLE,
                mode="DRY_RUN",
                has_no_features=rng.random() < 0.3,
                has_no_archive=rng.random() < 0.5,
            )
        parents = rng.choices((SINGLE, PAIR, CHAIN, DIAMOND), (3, 5, 2, 1))[0]
        return cls(status, parents, has_no_name=rng.random() < 0.15, has_no_features=rng.random() < 0.05)


SCENARIOS = (
    JobScenario(archive_format="tgz"),
    JobScenario(parents=SINGLE, archive_format="zip", has_no_name=True),
    JobScenario("FAILED"),
    JobScenario(parents=SINGLE, mode="DRY_RUN", archive_format="tgz"),
    JobScenario(parents=DIAMOND, archive_format="tgz", name="Rhein/Main 🛰️ – NDVI"),
    JobScenario(archive_format="tar"),
    JobScenario("RUNNING"),
    JobScenario(has_no_features=True),
    JobScenario("CANCELLED"),
    JobScenario("ERROR", SINGLE),
    JobScenario("NOT_STARTED"),
    JobScenario("PENDING", SINGLE),
    JobScenario(parents=SINGLE, mode="DRY_RUN", has_no_archive=True),
    JobScenario(parents=CHAIN, has_no_name=True),
)


def task_statuses(plot: JobScenario, rng: random.Random) -> list[str]:
    """Return the status of each task. Tasks before the one that determines the job status have SUCCEEDED."""
    count = len(plot.parents)
    if plot.status == "SUCCEEDED":
        return ["SUCCEEDED"] * count
    if plot.status in {"NOT_STARTED", "PENDING"}:
        return ["NOT_STARTED"] * count
    decided = rng.randrange(1, count) if count > 1 else 0
    return ["SUCCEEDED"] * decided + [plot.status] + ["NOT_STARTED"] * (count - decided - 1)
