"""
Paths of UP42's API below its base URL. Every segment is percent-encoded whole.

The names of quicklooks are the server's and may hold anything, slashes and ``..`` included.
"""

from __future__ import annotations

from urllib.parse import quote

from yarl import URL

from bulkdl.models import Kind, Output


def address(api_url: str, path: str) -> URL:
    """Return the URL of *path*, which goes out exactly as it is written."""
    return URL(api_url.rstrip("/") + path, encoded=True)


def segment(text: str) -> str:
    """Return *text* as one path segment that no server takes for several, or for a step upwards."""
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


def output(wanted: Output) -> str:
    """
    Return where *wanted* is had: the file itself, or for an archive the signed URL of it.

    Raises:
        ValueError: UP42 has no such kind of output (a quicklook of a whole job, or without a name).
    """
    if wanted.task_id is None:
        owner = job(wanted.project_id, wanted.job_id)
    else:
        owner = task(wanted.project_id, wanted.job_id, wanted.task_id)
    match wanted.kind:
        case Kind.ARCHIVE:
            return f"{owner}/downloads/results"
        case Kind.GEOJSON:
            return f"{owner}/outputs/data-json"
        case Kind.QUICKLOOK:
            if wanted.task_id is None or not wanted.name:
                raise ValueError("a quicklook belongs to a task and has a name")
            return f"{owner}/outputs/quicklooks/{segment(wanted.name)}"
