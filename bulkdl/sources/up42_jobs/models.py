"""The values of UP42 jobs in the terms that all sources share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from bulkdl.models import TERMINAL_STATUSES, Container, ContainerRef, Output

SOURCE = "jobs"
"""The name of the source in the ledger, in reports and in the settings."""


class Kind(StrEnum):
    """The kinds of the outputs of jobs."""

    ARCHIVE = "archive"
    QUICKLOOK = "quicklook"
    GEOJSON = "geojson"


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a job. *parent_ids* are the tasks whose results are its input, *block* is untrusted."""

    id: str
    name: str
    status: str
    parent_ids: tuple[str, ...]
    block: str = ""

    @property
    def succeeded(self) -> bool:
        return self.status == "SUCCEEDED"

    @property
    def finished(self) -> bool:
        """Return whether the status of the task is final."""
        return self.status in TERMINAL_STATUSES


def job_ref(project_id: str, job_id: str) -> ContainerRef:
    """Return the container of a job."""
    return ContainerRef(SOURCE, project_id, job_id)


def job_container(
    project_id: str,
    job_id: str,
    status: str,
    mode: str,
    name: str | None,
    created_at: datetime,
    finished_at: datetime | None,
    workflow_id: str | None,
    document: Mapping[str, Any] | None = None,
) -> Container:
    """
    Return a job as a container.

    Args:
        document: The job object as UP42 returned it.
    """
    attributes = {"mode": mode} if workflow_id is None else {"mode": mode, "workflow": workflow_id}
    return Container(
        job_ref(project_id, job_id),
        status=status,
        is_final=status in TERMINAL_STATUSES,
        revision=job_revision(status, finished_at),
        created_at=created_at,
        finished_at=finished_at,
        name=name,
        attributes=attributes,
        document=document or {},
    )


def job_revision(status: str, finished_at: datetime | None) -> str:
    """Return the revision of a job: a job that runs again under its ID gets another status or end."""
    return f"{status} {finished_at.astimezone(UTC).isoformat() if finished_at else ''}".rstrip()


def has_succeeded(job: Container) -> bool:
    """Return whether *job* succeeded. Only then it has outputs of its own."""
    return job.status == "SUCCEEDED"


def job_output(project_id: str, job_id: str, task_id: str | None, kind: str, name: str = "") -> Output:
    """Return an output of a task of a job, or of the job itself if *task_id* is None."""
    return Output(job_ref(project_id, job_id), task_id or "", str(kind), name)
