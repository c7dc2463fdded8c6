"""
Store a job in a document, and read a job and its outputs from stored documents.

``job.json`` contains the job, ``job_tasks.json`` its tasks and ``task_quicklook.json`` the quicklooks of one
task. What the paths of a job do not reveal is next to the job in ``job.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field, ValidationError

from bulkdl.disk.filenames import safe_filenames
from bulkdl.errors import ApiError
from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.models import Container, Reason
from bulkdl.sources.interfaces import ContainerKey, DocumentMissingError, ReadDocument
from bulkdl.sources.up42_common.fields import Document, Identity
from bulkdl.sources.up42_common.json_documents import parse_json
from bulkdl.sources.up42_jobs import decode
from bulkdl.sources.up42_jobs.models import Kind, Task, job_output
from bulkdl.sources.up42_jobs.path_values import add_path_values, document_key, job_values
from bulkdl.sources.up42_jobs.planning import ALL_KINDS, LISTED_WITH_TASKS, expected_outputs


class StoredValues(Document):
    """What bulkdl adds to ``job.json``."""

    project_id: Identity | None = None
    path_values: dict[str, str] = Field({})


def encode_job(job: Container, template: str) -> bytes:
    """
    Return the content of ``job.json``: the response to a request for *job*.

    Args:
        template: The path template of the document. The ID of the project is added if it is not in the path.
    """
    document: dict[str, Any] = {"data": job.document, "error": None}
    stored: dict[str, Any] = {"path_values": dict(job.path_values)} if job.path_values else {}
    if "{project_id}" not in template:
        stored["project_id"] = job.ref.scope
    if stored:
        document["bulkdl"] = stored
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


def read_listing(
    container: ContainerKey, templates: Mapping[str, str], read: ReadDocument
) -> ContainerListing:
    """
    Return the job with the document *container*, and its outputs.

    Raises:
        ApiError: A document is missing or invalid.
    """
    job = _read_job(container, read)
    job = replace(job, path_values=job_values(templates.values(), job, ()))
    tasks_key = document_key(templates["job_tasks"], job.ref, job.path_values)
    tasks = decode.tasks(parse_json(read(tasks_key), tasks_key), tasks_key)
    job = replace(job, path_values=job_values(templates.values(), job, tasks))
    quicklooks, are_all_listed = _read_quicklook_lists(job, tasks, templates["task_quicklooks"], read)
    return ContainerListing(
        job,
        outputs=add_path_values(job.path_values, (*expected_outputs(job, tasks), *quicklooks)),
        listed_kinds=ALL_KINDS if are_all_listed else LISTED_WITH_TASKS,
        documents={},
    )


def _read_job(container: ContainerKey, read: ReadDocument) -> Container:
    key = container.key
    document = parse_json(read(key), key)
    data = decode.get_data(document, key)
    stored = _read_stored(document)
    project_id = container.scope or stored.project_id or _read_project_id(data)
    if project_id is None:
        detail = f"{key}: cannot determine the project ID (not in the path, not in the document)"
        raise ApiError(Reason.INVALID_RESPONSE, detail)
    job = decode.job(document, project_id, container.container_id, key)
    return replace(job, path_values={**stored.path_values, **container.path_values})


def _read_project_id(data: object) -> str | None:
    project_id = data.get("projectId") if isinstance(data, dict) else None
    return project_id if isinstance(project_id, str) else None


def _read_stored(document: object) -> StoredValues:
    """Return what bulkdl added to the job; nothing if another program changed it."""
    stored = document.get("bulkdl") if isinstance(document, dict) else None
    try:
        return StoredValues.model_validate(stored or {})
    except ValidationError:
        return StoredValues()


def _read_quicklook_lists(
    job: Container, tasks: Sequence[Task], template: str, read: ReadDocument
) -> tuple[list[PlannedOutput], bool]:
    """Return the quicklooks of all lists that exist, and whether each task has a list."""
    quicklooks: list[PlannedOutput] = []
    are_all_listed = True
    project_id, job_id = job.ref.scope, job.ref.id
    for task in tasks:
        key = document_key(template, job.ref, job.path_values, task.id)
        try:
            body = read(key)
        except DocumentMissingError:
            are_all_listed = False
            continue
        names = decode.quicklooks(parse_json(body, key), key)
        quicklooks += [
            PlannedOutput(job_output(project_id, job_id, task.id, Kind.QUICKLOOK, name), filename)
            for name, filename in safe_filenames(names).items()
        ]
    return quicklooks, are_all_listed
