"""
Compute an UP42 account on demand.

Job *k* of project *p* is a pure function of (seed, p, k). A million jobs therefore need no memory. A larger
account starts with the same jobs as a smaller account, and two processes with the same seed produce
identical bytes. The first jobs of each project cover all cases that a client must handle. The other jobs
are random.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache

from bulkdl.simulator.archives import ArchiveFormat
from bulkdl.simulator.geotiff import Bounds
from bulkdl.simulator.ids import IdKind, Ids, Index
from bulkdl.simulator.scenarios import HOSTILE_NAMES, SCENARIOS, JobScenario, task_statuses
from bulkdl.simulator.v2.deliveries import Deliveries, StorageOptions

FIRST_JOB_AT = datetime(2019, 1, 7, 9, 30, tzinfo=UTC)
LAST_JOB_AT = datetime(2024, 1, 31, tzinfo=UTC)
_JOBS_IN_FIRST_HALF = 50  # number of jobs in the first half of the time range
_JOB_NAMES = ("NDVI weekly", "coast 2021", "ships", "Äcker/Nord", "tile_07", "nightly", "a b c", "harbour #4")
_BLOCKS = ("sentinel2-l1c-aoiclipped", "tiling", "ndvi", "superresolution")
_QUICKLOOK_SUFFIXES = ("jpg", "png", "jpeg")
# The areas of interest of consecutive jobs, as longitude and latitude. One is on the antimeridian.
_PLACES = (
    (13.41, 52.52),
    (9.96, 53.54),
    (4.05, 51.96),
    (-0.33, 39.45),
    (8.45, 50.02),
    (180.0, -16.75),
    (36.82, -1.29),
    (-58.37, -34.61),
    (-122.42, 37.77),
    (139.77, 35.62),
    (151.21, -33.86),
    (72.83, 18.96),
    (-43.2, -22.92),
)
_FEATURE_WIDTH, _FEATURE_HEIGHT = 1 / 16, 1 / 32


@dataclass(frozen=True, slots=True)
class ProjectKey:
    id: str
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Feature:
    id: str
    bounds: Bounds
    acquired_at: datetime


@dataclass(frozen=True, slots=True)
class SimulatedTask:
    """
    One task and its outputs.

    Attributes:
        quicklooks: File names. Empty for processing tasks.
        archive_bytes: Approximate size of its archive. None without an archive.
        node: Number in the path of its storage object.
    """

    id: str
    index: int
    name: str
    block_id: str
    is_data: bool
    status: str
    parent_ids: tuple[str, ...]
    started_at: datetime | None
    finished_at: datetime | None
    features: tuple[Feature, ...]
    quicklooks: tuple[str, ...]
    archive_bytes: int | None
    archive_format: ArchiveFormat
    node: int


@dataclass(frozen=True, slots=True)
class SimulatedJob:
    project_id: str
    id: str
    index: int
    name: str | None
    status: str
    mode: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    workflow_id: str
    workflow_name: str
    tasks: tuple[SimulatedTask, ...]


@dataclass(frozen=True)
class SimulatedAccount:
    """
    The account of one UP42 user.

    Attributes:
        jobs: Number of jobs in all projects. The first projects get the remainder.
        archive_bytes: Size of an archive with rasters, or (low, high) for a random size, uniform on a
            logarithmic scale. Headers and data.json need at least some hundred bytes.
        quicklook_bytes: Minimum size of a quicklook.
        hostile_names: Data tasks of every fourth job also have quicklooks with the names of
            ``HOSTILE_NAMES``.
        settled: Running jobs have SUCCEEDED, as if one day had passed.
        deleted: IDs of deleted jobs.
        rerun: IDs of jobs that ran again under the same ID and finished an hour later.
        running: IDs of tasks that are RUNNING, independent of the status of their job.
        storage: Size and state of the storage in today's API.
    """

    seed: int = 1
    projects: int = 2
    jobs: int = 32
    archive_bytes: int | tuple[int, int] = (2_000, 400_000)
    quicklook_bytes: int = 0
    hostile_names: bool = False
    all_finished: bool = False
    deleted: frozenset[str] = frozenset()
    rerun: frozenset[str] = frozenset()
    running: frozenset[str] = frozenset()
    storage: StorageOptions = field(default_factory=StorageOptions)

    @cached_property
    def ids(self) -> Ids:
        return Ids(self.seed)

    @cached_property
    def deliveries(self) -> Deliveries:
        """Return what today's API lists."""
        return Deliveries(self.seed, self.ids, self.storage)

    @cached_property
    def user_id(self) -> str:
        return self.ids.encode(Index(IdKind.USER))

    def project_key(self, number: int) -> ProjectKey:
        rng = random.Random(f"{self.seed}/key/{number}")
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
        head = "".join(rng.choices(letters, k=8))
        tail = "".join(rng.choices(letters + "0123456789", k=35))
        return ProjectKey(self.ids.encode(Index(IdKind.PROJECT, number)), f"{head}.{tail}")

    def project_number(self, project_id: str) -> int | None:
        index = self.ids.decode(project_id)
        if index is None or index.kind is not IdKind.PROJECT or index.project >= self.projects:
            return None
        return index.project

    def job_count(self, project: int) -> int:
        share, more = divmod(self.jobs, self.projects)
        return share + (project < more)

    def job(self, project: int, number: int) -> SimulatedJob:
        return _create_job(self, project, number)

    def find_job(self, project: int, job_id: str) -> SimulatedJob | None:
        index = self.ids.decode(job_id)
        if index is None or index.kind is not IdKind.JOB or index.project != project:
            return None
        if index.job >= self.job_count(project) or job_id in self.deleted:
            return None
        return self.job(project, index.job)

    def job_numbers(self, project: int) -> Sequence[int]:
        """Return the numbers of the existing jobs of *project*, oldest first."""
        numbers = range(self.job_count(project))
        if not self.deleted:
            return numbers
        return [number for number in numbers if self.job(project, number).id not in self.deleted]

    def iter_jobs(self) -> Iterator[SimulatedJob]:
        for project in range(self.projects):
            for number in self.job_numbers(project):
                yield self.job(project, number)


@lru_cache(maxsize=2_048)
def _create_job(account: SimulatedAccount, project: int, number: int) -> SimulatedJob:
    rng = random.Random(f"{account.seed}/{project}/{number}")
    scenario = SCENARIOS[number] if number < len(SCENARIOS) else JobScenario.create_random(rng)
    if account.all_finished and scenario.is_unfinished:
        scenario = replace(scenario, status="SUCCEEDED")
    created = FIRST_JOB_AT + (LAST_JOB_AT - FIRST_JOB_AT) * (number / (number + _JOBS_IN_FIRST_HALF))
    tasks = _create_tasks(account, project, number, scenario, created, rng)
    ids, workflow = account.ids, rng.randrange(3)
    timestamps = [
        timestamp for task in tasks for timestamp in (task.started_at, task.finished_at) if timestamp
    ]
    job_id = ids.encode(Index(IdKind.JOB, project, number))
    finished = max(timestamps, default=created) + timedelta(hours=job_id in account.rerun)
    return SimulatedJob(
        project_id=ids.encode(Index(IdKind.PROJECT, project)),
        id=job_id,
        index=number,
        name=None if scenario.has_no_name else scenario.name or rng.choice(_JOB_NAMES),
        status=scenario.status,
        mode=scenario.mode,
        created_at=created,
        started_at=min(timestamps, default=None),
        finished_at=None if scenario.is_unfinished else finished,
        workflow_id=ids.encode(Index(IdKind.WORKFLOW, project, part=workflow)),
        workflow_name=f"workflow {workflow}",
        tasks=tuple(_as_running(task) if task.id in account.running else task for task in tasks),
    )


def _as_running(task: SimulatedTask) -> SimulatedTask:
    return replace(task, status="RUNNING", finished_at=None, quicklooks=())


def _create_tasks(
    account: SimulatedAccount,
    project: int,
    number: int,
    scenario: JobScenario,
    created: datetime,
    rng: random.Random,
) -> tuple[SimulatedTask, ...]:
    statuses = task_statuses(scenario, rng)
    tasks: list[SimulatedTask] = []
    for task_number, (parents, status) in enumerate(zip(scenario.parents, statuses, strict=True)):
        index = Index(IdKind.TASK, project, number, task_number)
        parent_ids = tuple(tasks[parent].id for parent in parents)
        started = created + timedelta(seconds=2 + 40 * task_number)
        tasks.append(_create_task(account, scenario, index, status, parent_ids, started))
    return tuple(tasks)


def _create_task(
    account: SimulatedAccount,
    scenario: JobScenario,
    index: Index,
    status: str,
    parent_ids: tuple[str, ...],
    started: datetime,
) -> SimulatedTask:
    rng = random.Random(f"{account.seed}/{index.project}/{index.job}/{index.task}")
    succeeded, has_started = status == "SUCCEEDED", status not in {"NOT_STARTED", "PENDING"}
    has_ended = succeeded or status in {"FAILED", "ERROR", "CANCELLED"}
    features = _create_features(account, index, scenario, started, rng) if succeeded else ()
    form: ArchiveFormat = scenario.archive_format or rng.choices(("tgz", "zip", "tar"), (8, 1, 1))[0]
    block = _BLOCKS[0] if not parent_ids else rng.choice(_BLOCKS[1:])
    return SimulatedTask(
        id=account.ids.encode(index),
        index=index.task,
        name=f"{block}:{index.task + 1}",
        block_id=account.ids.encode(Index(IdKind.BLOCK, part=_BLOCKS.index(block))),
        is_data=not parent_ids,
        status=status,
        parent_ids=parent_ids,
        started_at=started if has_started else None,
        finished_at=started + timedelta(seconds=35) if has_started and has_ended else None,
        features=features,
        quicklooks=_quicklook_names(account, index, features, rng) if not parent_ids else (),
        archive_bytes=_random_archive_bytes(account, rng)
        if succeeded and not scenario.has_no_archive
        else None,
        archive_format=form,
        node=rng.getrandbits(32),
    )


def _create_features(
    account: SimulatedAccount, index: Index, scenario: JobScenario, started: datetime, rng: random.Random
) -> tuple[Feature, ...]:
    if scenario.has_no_features:
        return ()
    longitude, latitude = _PLACES[index.job % len(_PLACES)]
    features = []
    for part in range(rng.choice((1, 1, 2, 3))):
        feature_id = account.ids.encode(Index(IdKind.FEATURE, index.project, index.job, index.task, part))
        # Whole multiples of 1/64 have an exact text.
        west = round((longitude + rng.randrange(-8, 8) / 64) * 64) / 64 - _FEATURE_WIDTH / 2
        south = round((latitude + rng.randrange(-6, 6) / 64) * 64) / 64
        if longitude == 180 and part == 0:
            west = longitude - _FEATURE_WIDTH / 2
        bounds = (west, south, west + _FEATURE_WIDTH, south + _FEATURE_HEIGHT)
        features.append(Feature(feature_id, bounds, started - timedelta(days=2 + 5 * part)))
    return tuple(features)


def _quicklook_names(
    account: SimulatedAccount, index: Index, features: tuple[Feature, ...], rng: random.Random
) -> tuple[str, ...]:
    names = tuple(f"{feature.id}.{rng.choice(_QUICKLOOK_SUFFIXES)}" for feature in features)
    return names + HOSTILE_NAMES if account.hostile_names and names and index.job % 4 == 0 else names


def _random_archive_bytes(account: SimulatedAccount, rng: random.Random) -> int:
    if isinstance(account.archive_bytes, int):
        return account.archive_bytes
    low, high = account.archive_bytes
    return round(low * (high / low) ** rng.random()) if low else rng.randint(0, high)
