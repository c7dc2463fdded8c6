"""The values of UP42 jobs in the terms that all sources share."""

from __future__ import annotations

from bulkdl.models import ContainerRef, Kind, Output

SOURCE = "jobs"
"""The name of the source in the ledger, in reports and in the settings."""


def job_ref(project_id: str, job_id: str) -> ContainerRef:
    """Return the container of a job."""
    return ContainerRef(SOURCE, project_id, job_id)


def job_output(project_id: str, job_id: str, task_id: str | None, kind: Kind, name: str = "") -> Output:
    """Return an output of a task of a job, or of the job itself if *task_id* is None."""
    return Output(job_ref(project_id, job_id), task_id or "", kind, name)
