"""
Read a job and its outputs from stored documents.

``job.json`` contains the job, ``job_tasks.json`` its tasks and ``task_quicklook.json`` the quicklooks of one
task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bulkdl.disk.filenames import safe_filenames
from bulkdl.errors import ApiError
from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.models import Container, Reason
from bulkdl.sources.interfaces import ContainerKey, DocumentMissingError, ReadDocument
from bulkdl.sources.up42_common.json_documents import parse_json
from bulkdl.sources.up42_jobs import decode
from bulkdl.sources.up42_jobs.models import Kind, Task, job_output
from bulkdl.sources.up42_jobs.planning import ALL_KINDS, LISTED_WITH_TASKS, expected_outputs


def read_listing(
    container: ContainerKey, templates: Mapping[str, str], read: ReadDocument
) -> ContainerListing:
    """
    Return the job with the document *container*, and its outputs.

    Raises:
        ApiError: A document is missing or invalid.
    """
    job = _read_job(container, read)
    tasks_key = templates["job_tasks"].format(project_id=job.ref.scope, job_id=job.ref.id)
    tasks = decode.tasks(parse_json(read(tasks_key), tasks_key), tasks_key)
    quicklooks, are_all_listed = _read_quicklook_lists(job, tasks, templates["task_quicklooks"], read)
    return ContainerListing(
        job,
        outputs=(*expected_outputs(job, tasks), *quicklooks),
        listed_kinds=ALL_KINDS if are_all_listed else LISTED_WITH_TASKS,
        documents={},
    )


def _read_job(container: ContainerKey, read: ReadDocument) -> Container:
    key = container.key
    document = parse_json(read(key), key)
    data = decode.get_data(document, key)
    project_id = container.scope or (data.get("projectId") if isinstance(data, dict) else None)
    if not isinstance(project_id, str):
        detail = f"{key}: cannot determine the project ID (not in the path, not in the document)"
        raise ApiError(Reason.INVALID_RESPONSE, detail)
    return decode.job(document, project_id, container.container_id, key)


def _read_quicklook_lists(
    job: Container, tasks: Sequence[Task], template: str, read: ReadDocument
) -> tuple[list[PlannedOutput], bool]:
    """Return the quicklooks of all lists that exist, and whether each task has a list."""
    quicklooks: list[PlannedOutput] = []
    are_all_listed = True
    project_id, job_id = job.ref.scope, job.ref.id
    for task in tasks:
        key = template.format(project_id=project_id, job_id=job_id, task_id=task.id)
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
