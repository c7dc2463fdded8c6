"""List the outputs of a complete download of an account, for a byte-by-byte comparison in tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from bulkdl.models import TERMINAL_STATUSES, Reason
from bulkdl.simulator.account import SimulatedAccount, SimulatedJob, SimulatedTask
from bulkdl.simulator.api import create_quicklook
from bulkdl.simulator.documents import data_json
from bulkdl.simulator.lazy_bytes import Blob, LiteralBytes, read_all
from bulkdl.simulator.objects import Bucket, has_archive


class ExpectedKind(StrEnum):
    """The kind of an output of a job."""

    ARCHIVE = "archive"
    QUICKLOOK = "quicklook"
    GEOJSON = "geojson"


@dataclass(frozen=True, slots=True)
class ExpectedOutput:
    """
    One expected output.

    Attributes:
        task_id: None at job level.
        name: Name of a quicklook as returned by UP42. Empty for other kinds.
        make: Creates the body.
    """

    project_id: str
    job_id: str
    task_id: str | None
    kind: ExpectedKind
    name: str
    create_body: Callable[[], Blob] = field(repr=False)

    @property
    def body(self) -> Blob:
        return self.create_body()

    @property
    def size_bytes(self) -> int:
        return self.body.size

    def read(self) -> bytes:
        return read_all(self.body)


@dataclass(frozen=True, slots=True)
class ExpectedSkip:
    """An output that is not available, or an unfinished job (*kind* is None)."""

    project_id: str
    job_id: str
    task_id: str | None
    kind: ExpectedKind | None
    reason: Reason


def iter_expected_outputs(account: SimulatedAccount, bucket: Bucket) -> Iterator[ExpectedOutput]:
    for job in account.iter_jobs():
        if job.status not in TERMINAL_STATUSES:
            continue
        for task_id, task in _iter_sources(job):
            where = (job.project_id, job.id, task_id)
            if has_archive(task):
                yield ExpectedOutput(*where, ExpectedKind.ARCHIVE, "", partial(bucket.body, job, task))
            yield ExpectedOutput(*where, ExpectedKind.GEOJSON, "", partial(_geojson, task))
            for name in task.quicklooks if task_id else ():
                yield ExpectedOutput(
                    *where, ExpectedKind.QUICKLOOK, name, partial(_picture, account, task, name)
                )


def _geojson(task: SimulatedTask) -> Blob:
    return LiteralBytes(data_json(task))


def _picture(account: SimulatedAccount, task: SimulatedTask, name: str) -> Blob:
    return LiteralBytes(create_quicklook(account, task, name))


def iter_expected_skips(account: SimulatedAccount) -> Iterator[ExpectedSkip]:
    for job in account.iter_jobs():
        if job.status not in TERMINAL_STATUSES:
            yield ExpectedSkip(job.project_id, job.id, None, None, Reason.CONTAINER_UNFINISHED)
            continue
        for task_id, task in _iter_sources(job):
            if not has_archive(task):
                yield ExpectedSkip(
                    job.project_id, job.id, task_id, ExpectedKind.ARCHIVE, Reason.NOT_AVAILABLE
                )


def _iter_sources(job: SimulatedJob) -> Iterator[tuple[str | None, SimulatedTask]]:
    """Yield the levels that have outputs, each with the task that provides them."""
    if job.status == "SUCCEEDED":
        yield None, job.tasks[-1]
    for task in job.tasks:
        if task.status == "SUCCEEDED":
            yield task.id, task
