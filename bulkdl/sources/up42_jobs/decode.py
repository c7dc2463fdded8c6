"""
Convert JSON documents of UP42 to values. Errors name the path of the invalid value in the document.

The functions are pure. Unknown fields are ignored. IDs become names of directories, so only IDs that are
safe file names are accepted. An unreadable job in a list does not affect the other jobs of the list.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bulkdl.errors import ApiError
from bulkdl.listings import UnreadableContainer
from bulkdl.models import Container
from bulkdl.redaction import sanitize
from bulkdl.sources.up42_common.fields import is_identity
from bulkdl.sources.up42_common.json_documents import (
    invalid_document,
    is_encodable,
    json_type,
    parse_signed_url,
    read_document,
)
from bulkdl.sources.up42_jobs.models import Task, job_container
from bulkdl.sources.up42_jobs.schemas import JobDocument, ProjectDocument, TaskDocument


def get_data(document: object, label: str) -> object:
    """Return the content of the response envelope."""
    if not isinstance(document, dict):
        raise invalid_document(label, "", f"expected an object, got {json_type(document)}")
    if "data" not in document:
        raise invalid_document(label, "data", "missing")
    return document["data"]


def project_name(document: object, label: str) -> str:
    """Read the name of a project (untrusted); empty if it has none."""
    return read_document(ProjectDocument, get_data(document, label), label, "data").name or ""


def job(document: object, project_id: str, job_id: str, label: str) -> Container:
    """Read the response to a request for one job."""
    result = _job(get_data(document, label), project_id, label, "data")
    if result.ref.id != job_id:
        raise invalid_document(label, "data.id", f"expected {sanitize(job_id)}, got {result.ref.id}")
    return result


def jobs_page(document: object, project_id: str, label: str) -> list[Container | UnreadableContainer]:
    """Read one page of a list of jobs."""
    return list(_page_entries(_list_of(document, label), project_id, label))


def _page_entries(
    entries: list[Any], project_id: str, label: str
) -> Iterator[Container | UnreadableContainer]:
    for number, entry in enumerate(entries):
        try:
            yield _job(entry, project_id, label, f"data[{number}]")
        except ApiError as failure:
            job_id = entry.get("id") if isinstance(entry, dict) else None
            yield UnreadableContainer(job_id if is_identity(job_id) else None, failure.detail)


def _job(entry: object, project_id: str, label: str, path: str) -> Container:
    fields = read_document(JobDocument, entry, label, path)
    return job_container(
        project_id,
        fields.id,
        status=fields.status,
        mode=fields.mode,
        name=fields.name,
        created_at=fields.created_at,
        finished_at=fields.finished_at,
        workflow_id=fields.workflow_id,
        document=entry if isinstance(entry, dict) else {},
    )


def tasks(document: object, label: str) -> list[Task]:
    """Read the tasks of a job, in the order of the response."""
    documents = [
        read_document(TaskDocument, entry, label, f"data[{number}]")
        for number, entry in enumerate(_list_of(document, label))
    ]
    by_id = {
        task.id: Task(task.id, task.name, task.status, tuple(task.parent_ids), _block_name(task))
        for task in documents
    }
    return list(by_id.values())


def _block_name(task: TaskDocument) -> str:
    """Return the name of the block of *task*. The name of a task is that of its block and a number."""
    return (task.block.name if task.block else None) or task.name.partition(":")[0]


def quicklooks(document: object, label: str) -> list[str]:
    """Read the names of the quicklooks of a task, without duplicates. The server can choose any text."""
    names = _list_of(document, label)
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise invalid_document(label, f"data[{number}]", f"expected a name, got {json_type(name)}")
        if not is_encodable(name):
            raise invalid_document(label, f"data[{number}]", "the name is not valid Unicode")
    return list(dict.fromkeys(names))


def signed_url(document: object, label: str) -> str:
    """Read a signed URL. It is absolute (http or https) and not interpreted further."""
    data = get_data(document, label)
    return parse_signed_url(data.get("url") if isinstance(data, dict) else None, label, "data.url")


def _list_of(document: object, label: str) -> list[Any]:
    data = get_data(document, label)
    if not isinstance(data, list):
        raise invalid_document(label, "data", f"expected a list, got {json_type(data)}")
    return data
