"""
Rules of UP42 jobs: the outputs that a job can have, their keys, and which outputs can be one object.

The functions are pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bulkdl.models import Job, Kind, Level, Output, Task
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.sources.up42_jobs.models import job_output


@dataclass(frozen=True, slots=True)
class MissingOutput:
    """An output to download; *filename* is the file name of a quicklook."""

    output: Output
    filename: str = ""


# One worker downloads the outputs of a group one after another, because they can be the same storage object.
SameObjectGroup = tuple[MissingOutput, ...]


def expected_outputs(job: Job, tasks: Sequence[Task]) -> list[Output]:
    """
    Return the archives and GeoJSON files that a finished job can have.

    The job itself has outputs only if it succeeded. Every task that succeeded has outputs, also if the
    job failed later. UP42 can still respond with 404 to a request for an expected output.
    """
    task_ids: list[str | None] = [task.id for task in tasks if task.succeeded]
    if job.succeeded:
        task_ids.insert(0, None)
    return [
        job_output(job.project_id, job.id, task_id, kind)
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


def has_open_task(job: Job, tasks: Sequence[Task]) -> bool:
    """
    Return whether a task of a finished job can still get outputs.

    A task of a failed job that has not started will not start.
    """
    never_run = frozenset() if job.succeeded else frozenset({"NOT_STARTED", "PENDING"})
    return any(not task.finished and task.status not in never_run for task in tasks)


def is_listing_placeholder(output: Output) -> bool:
    """Return whether *output* represents a list of quicklooks that was not available, not a quicklook."""
    return output.kind is Kind.QUICKLOOK and not output.name


def group_same_objects(missing: Iterable[MissingOutput], last_task: str | None) -> list[SameObjectGroup]:
    """
    Group outputs that can be the same object: the archives of the last task and of the job, in this order.

    Every other output is a group of its own.
    """
    missing = list(missing)
    same_object = [
        candidate
        for candidate in missing
        if candidate.output.kind is Kind.ARCHIVE and candidate.output.parent in ("", last_task)
    ]
    if len(same_object) < 2:
        return [(candidate,) for candidate in missing]
    same_object.sort(key=lambda candidate: candidate.output.level is Level.JOB)
    single = [(candidate,) for candidate in missing if candidate not in same_object]
    return [*single, tuple(same_object)]


def target_key(missing: MissingOutput, templates: PathTemplates) -> Callable[[str], str]:
    """Return a function from the suffix, which depends on the content, to the key of *missing*."""
    output = missing.output
    template = {
        (Kind.ARCHIVE, Level.JOB): templates.job_archive,
        (Kind.ARCHIVE, Level.TASK): templates.task_archive,
        (Kind.GEOJSON, Level.JOB): templates.job_geojson,
        (Kind.GEOJSON, Level.TASK): templates.task_geojson,
        (Kind.QUICKLOOK, Level.TASK): templates.quicklook,
    }[output.kind, output.level]

    def key(suffix: str) -> str:
        return template.format(
            project_id=output.container.scope,
            job_id=output.container.id,
            task_id=output.parent,
            filename=missing.filename,
            suffix=suffix,
        )

    return key
