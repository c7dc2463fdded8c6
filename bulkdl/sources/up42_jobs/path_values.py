"""The values of path templates for jobs: names of the job, of its project and of the blocks of its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from bulkdl.listings import PlannedOutput
from bulkdl.models import Container, ContainerRef
from bulkdl.sources.path_values import create_name, create_values, fill_template, find_value_keys
from bulkdl.sources.up42_jobs.models import Task

_PROJECT, _BLOCK = "project_name", "block"


def job_values(templates: Iterable[str], job: Container, tasks: Sequence[Task]) -> dict[str, str]:
    """
    Return the values of *job* and *tasks*, without the name of the project.

    Values of *job* that are known already are not changed.
    """
    templates = tuple(templates)
    values = create_values(templates, {"job_name": job.name, "created_at": job.created_at})
    if _BLOCK in find_value_keys(templates):
        values |= {_block_key(task.id): create_name(task.block) for task in tasks}
    return {**values, **job.path_values}


def find_values(ref: ContainerRef, path_values: Mapping[str, str], task_id: str) -> dict[str, str]:
    """Return the values of all placeholders for an output or a document of the job *ref*."""
    values = {**path_values, "project_id": ref.scope, "job_id": ref.id, "task_id": task_id}
    if path_values and (block := path_values.get(_block_key(task_id))) is not None:
        values[_BLOCK] = block
    return values


def add_path_values(
    path_values: Mapping[str, str], outputs: Iterable[PlannedOutput]
) -> tuple[PlannedOutput, ...]:
    """Return *outputs* with the values of their job."""
    return tuple(replace(each, path_values=path_values) if path_values else each for each in outputs)


def document_key(template: str, ref: ContainerRef, path_values: Mapping[str, str], task_id: str = "") -> str:
    """Return the key of a document of the job *ref*."""
    return fill_template(template, find_values(ref, path_values, task_id))


def _block_key(task_id: str) -> str:
    return f"{_BLOCK}/{task_id}"


class JobPathValues:
    """
    Adds the values to listed jobs. All workers share an instance.

    Args:
        request_project_name: Requests the name of a project. It is called once for each project, and only if
            a template contains the name.
    """

    def __init__(
        self, templates: Iterable[str], request_project_name: Callable[[str], Awaitable[str]]
    ) -> None:
        self._templates = tuple(templates)
        self._keys = find_value_keys(self._templates)
        self._request_project_name = request_project_name
        self._project_names: dict[str, str] = {}
        self._lock = asyncio.Lock()

    async def add_to(self, job: Container, tasks: Sequence[Task]) -> Container:
        """
        Return *job* with the values that the templates need. Values that were recorded are not changed.

        Raises:
            ApiError: The request for the name of the project failed.
        """
        if not self._keys:
            return job
        values = job_values(self._templates, job, tasks)
        if _PROJECT in self._keys and _PROJECT not in values:
            values[_PROJECT] = create_name(await self._find_project_name(job.ref.scope))
        return replace(job, path_values=values)

    async def _find_project_name(self, project_id: str) -> str:
        async with self._lock:
            if project_id not in self._project_names:
                self._project_names[project_id] = await self._request_project_name(project_id)
            return self._project_names[project_id]
