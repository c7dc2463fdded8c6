"""
Rules of UP42 jobs: the outputs that a job can have, and which outputs can be one object.

The functions are pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from bulkdl.listings import PlannedOutput
from bulkdl.models import Container
from bulkdl.sources.up42_jobs.models import Kind, Task, has_succeeded, job_output

RESULT = "result"
"""The identity of the archive of a job and of the archive of its last task, which can be one object."""


ALL_KINDS = frozenset(kind.value for kind in Kind)
# The list of the tasks contains all outputs except the quicklooks.
LISTED_WITH_TASKS = ALL_KINDS - {Kind.QUICKLOOK.value}


def expected_outputs(job: Container, tasks: Sequence[Task]) -> list[PlannedOutput]:
    """
    Return the archives and GeoJSON files that a finished job can have.

    The job itself has outputs only if it succeeded. Every task that succeeded has outputs, even if the
    job failed later. UP42 can still respond with 404 to a request for an expected output.
    """
    task_ids: list[str | None] = [task.id for task in tasks if task.succeeded]
    if has_succeeded(job):
        task_ids.insert(0, None)
    results = (None, last_task_id(tasks))
    project_id, job_id = job.ref.scope, job.ref.id
    return [
        PlannedOutput(
            job_output(project_id, job_id, task_id, kind),
            identity=RESULT if kind is Kind.ARCHIVE and task_id in results else "",
        )
        for task_id in task_ids
        for kind in (Kind.GEOJSON, Kind.ARCHIVE)
    ]


def last_task_id(tasks: Sequence[Task]) -> str | None:
    """
    Return the ID of the last task, whose result is the result of the job.

    It is the task that is not the parent of another task. Of several such tasks it is the last in the list.
    """
    parents = {parent for task in tasks for parent in task.parent_ids}
    last = [task.id for task in tasks if task.id not in parents]
    return last[-1] if last else None


def has_open_task(job: Container, tasks: Sequence[Task]) -> bool:
    """
    Return whether a task of a finished job can still get outputs.

    A task of a failed job that has not started will not start.
    """
    never_run = frozenset() if has_succeeded(job) else frozenset({"NOT_STARTED", "PENDING"})
    return any(not task.finished and task.status not in never_run for task in tasks)
