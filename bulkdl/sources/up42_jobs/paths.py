"""
Paths of the UP42 API below its base URL. Every path segment is percent-encoded completely.

The server chooses the names of quicklooks. They can contain any character, including slashes and ``..``.
"""

from __future__ import annotations

from urllib.parse import quote

from yarl import URL

from bulkdl.models import Output
from bulkdl.sources.up42_jobs.models import Kind


def address(api_url: str, path: str) -> URL:
    """Return the URL of *path*. It is sent without any further encoding."""
    return URL(api_url.rstrip("/") + path, encoded=True)


def segment(text: str) -> str:
    """Encode *text* as one path segment. A server cannot read it as several segments or as ``..``."""
    encoded = quote(text, safe="")
    return encoded.replace(".", "%2E") if text in (".", "..") else encoded


def project(project_id: str) -> str:
    return f"/projects/{segment(project_id)}"


def jobs(project_id: str, page: int) -> str:
    """Return one page of a project's jobs (from 0), oldest first, so that new jobs do not shift the pages."""
    return f"{project(project_id)}/jobs?page={page}&sort=createdAt,asc"


def job(project_id: str, job_id: str) -> str:
    return f"{project(project_id)}/jobs/{segment(job_id)}"


def tasks(project_id: str, job_id: str) -> str:
    return f"{job(project_id, job_id)}/tasks"


def task(project_id: str, job_id: str, task_id: str) -> str:
    return f"{tasks(project_id, job_id)}/{segment(task_id)}"


def quicklooks(project_id: str, job_id: str, task_id: str) -> str:
    return f"{task(project_id, job_id, task_id)}/outputs/quicklooks"


def output(ref: Output) -> str:
    """
    Return the path of the output *ref*, or for an archive the path of the request for its signed URL.

    Raises:
        ValueError: *ref* is a quicklook without a task or without a name.
    """
    project_id, job_id = ref.container.scope, ref.container.id
    owner = task(project_id, job_id, ref.parent) if ref.parent else job(project_id, job_id)
    match Kind(ref.kind):
        case Kind.ARCHIVE:
            return f"{owner}/downloads/results"
        case Kind.GEOJSON:
            return f"{owner}/outputs/data-json"
        case Kind.QUICKLOOK:
            if not ref.parent or not ref.name:
                raise ValueError("a quicklook belongs to a task and has a name")
            return f"{owner}/outputs/quicklooks/{segment(ref.name)}"
