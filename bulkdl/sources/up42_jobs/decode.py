"""
UP42's JSON made into values. Pure: documents in, values out, and a path into the document when it is wrong.

Unknown fields are ignored. Identities become names of folders, so only those that are safe as
one are accepted. One unreadable job does not hide its neighbours: it is told beside them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.models import Job, Reason, Task
from bulkdl.redaction import sanitize
from bulkdl.sources.up42_jobs.schemas import JobDocument, TaskDocument, is_identity

_Document = TypeVar("_Document", bound=BaseModel)
# A URL goes out as it came, so it must be one that can: visible ASCII only.
_URL = re.compile(r"https?://[!-~]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class UnreadableJob:
    """A job in a list that this bulkdl cannot read; *job_id* if at least that is clear."""

    project_id: str
    job_id: str | None
    problem: str


def parse_json(body: bytes, where: str) -> object:
    """
    Return the JSON document in *body*.

    Raises:
        ApiError: INVALID_RESPONSE; it is cut off, or no JSON.
    """
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError):
        raise _bad(where, "", f"no JSON in {len(body)} bytes that begin {_beginning(body)}") from None
    return document


def data_of(document: object, where: str) -> object:
    """Return what is in UP42's envelope."""
    if not isinstance(document, dict):
        raise _bad(where, "", f"an object expected, {_kind(document)} found")
    if "data" not in document:
        raise _bad(where, "data", "missing")
    return document["data"]


def job(document: object, project_id: str, job_id: str, where: str) -> Job:
    """Read the answer to a question for one job."""
    found = _job(data_of(document, where), project_id, where, "data")
    if found.id != job_id:
        raise _bad(where, "data.id", f"{found.id} found where {sanitize(job_id)} was asked for")
    return found


def jobs_page(document: object, project_id: str, where: str) -> list[Job | UnreadableJob]:
    """Read one page of a list of jobs."""
    return list(_page_entries(_list_of(document, where), project_id, where))


def _page_entries(entries: list[Any], project_id: str, where: str) -> Iterator[Job | UnreadableJob]:
    for number, entry in enumerate(entries):
        try:
            yield _job(entry, project_id, where, f"data[{number}]")
        except ApiError as failure:
            job_id = entry.get("id") if isinstance(entry, dict) else None
            yield UnreadableJob(project_id, job_id if is_identity(job_id) else None, failure.detail)


def _job(entry: object, project_id: str, where: str, path: str) -> Job:
    read = _read(JobDocument, entry, where, path)
    return Job(
        project_id=project_id,
        id=read.id,
        status=read.status,
        mode=read.mode,
        name=read.name,
        created_at=read.created_at,
        finished_at=read.finished_at,
        workflow_id=read.workflow_id,
        document=entry if isinstance(entry, dict) else {},
    )


def tasks(document: object, where: str) -> list[Task]:
    """Read a job's tasks, in UP42's order."""
    read = [
        _read(TaskDocument, entry, where, f"data[{number}]")
        for number, entry in enumerate(_list_of(document, where))
    ]
    by_id = {one.id: Task(one.id, one.name, one.status, tuple(one.parent_ids)) for one in read}
    return list(by_id.values())


def quicklooks(document: object, where: str) -> list[str]:
    """Read the names of a task's quicklooks. They are the server's: anything but empty, each once."""
    names = _list_of(document, where)
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise _bad(where, f"data[{number}]", f"a name expected, {_kind(name)} found")
        if not _encodable(name):
            raise _bad(where, f"data[{number}]", "a name that is no Unicode text")
    return list(dict.fromkeys(names))


def signed_url(document: object, where: str) -> str:
    """Read a signed URL: absolute, http or https, otherwise opaque."""
    data = data_of(document, where)
    url = data.get("url") if isinstance(data, dict) else None
    if not isinstance(url, str):
        raise _bad(where, "data.url", f"a URL expected, {_kind(url)} found")
    if not _URL.fullmatch(url) or not _has_host(url):
        raise _bad(where, "data.url", "no absolute http or https URL")
    return url


def _has_host(url: str) -> bool:
    try:
        split = URL(url, encoded=True)
        return bool(split.raw_host) and split.user is None and split.port is not None
    except (ValueError, LookupError):  # yarl raises IndexError for http://a[x]@
        return False


def _list_of(document: object, where: str) -> list[Any]:
    data = data_of(document, where)
    if not isinstance(data, list):
        raise _bad(where, "data", f"a list expected, {_kind(data)} found")
    return data


def _read(model: type[_Document], entry: object, where: str, path: str) -> _Document:
    if not isinstance(entry, dict):
        raise _bad(where, path, f"an object expected, {_kind(entry)} found")
    try:
        return model.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
        raise _bad(where, path + steps, sanitize(first["msg"])) from None


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _beginning(body: bytes) -> str:
    return repr(sanitize(body[:400].decode(errors="replace"))[:60])


_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a number")


def _bad(where: str, path: str, problem: str) -> ApiError:
    place = f"{where}: {path}" if path else where
    return ApiError(Reason.INVALID_RESPONSE, f"{place}: {problem}")
