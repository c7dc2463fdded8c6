"""
Jobs → tasks → outputs: what UP42 lists of one job, and the documents that tell of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bulkdl.destinations.local.filenames import safe_filenames
from bulkdl.errors import ApiError
from bulkdl.graph.api_clients import ApiClients
from bulkdl.ledger.queries import JobListing, PlannedOutput
from bulkdl.models import Job, Kind, Level, Output, Result, Task
from bulkdl.selection import Selection
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.sources.up42_jobs import planning
from bulkdl.transfer.download import ended_by


@dataclass(frozen=True, slots=True)
class JobListingResult:
    """
    One job as UP42 lists it.

    Attributes:
        documents: Answers to be kept, by key.
        failures: Lists of quicklooks that could not be read or are not available.
    """

    listing: JobListing
    documents: dict[str, bytes]
    failures: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class _Quicklooks:
    """The quicklooks of one task: what is planned, UP42's answer, or how asking failed."""

    key: str
    outputs: tuple[PlannedOutput, ...]
    document: bytes | None
    failure: Result | None


class JobLister:
    """Lists jobs; several workers share one."""

    def __init__(self, selection: Selection, accounts: ApiClients, names: PathTemplates) -> None:
        self._selection = selection
        self._accounts = accounts
        self._names = names

    async def list_outputs(self, job: Job) -> JobListingResult:
        """
        Ask for the tasks of *job* and, if they are wanted, for the quicklooks of each.

        Raises:
            ApiError: The tasks could not be had.
        """
        tasks, document = await self._accounts.client(job.project_id).tasks(job.project_id, job.id)
        lists = await self._quicklook_lists(job, tasks)
        failures = tuple(each.failure for each in lists if each.failure is not None)
        outputs = [PlannedOutput(output) for output in planning.expected_outputs(job, tasks)]
        outputs += [planned for each in lists for planned in each.outputs]
        listing = JobListing(
            job,
            last_task_id=planning.last_task_id(tasks),
            outputs=tuple(outputs),
            quicklooks=self._wants_quicklooks and not failures,
            tasks_final=not planning.has_open_task(job, tasks),
        )
        documents = self._documents(job, document)
        documents |= {each.key: each.document for each in lists if each.document is not None}
        return JobListingResult(listing, documents, failures)

    @property
    def _wants_quicklooks(self) -> bool:
        return Kind.QUICKLOOK in self._selection.kinds and Level.TASK in self._selection.levels

    async def _quicklook_lists(self, job: Job, tasks: Sequence[Task]) -> list[_Quicklooks]:
        if not self._wants_quicklooks:
            return []
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(self._quicklook_list(job, task), name=f"quicklooks-{task.id}")
                for task in tasks
            ]
        return [each.result() for each in asked]

    async def _quicklook_list(self, job: Job, task: Task) -> _Quicklooks:
        key = self._names.task_quicklooks.format(project_id=job.project_id, job_id=job.id, task_id=task.id)
        whole = Output(job.project_id, job.id, task.id, Kind.QUICKLOOK)
        try:
            names, document = await self._accounts.client(job.project_id).quicklooks(
                job.project_id, job.id, task.id
            )
        except ApiError as failure:
            return _Quicklooks(key, (PlannedOutput(whole),), None, ended_by(whole, failure))
        outputs = tuple(
            PlannedOutput(Output(job.project_id, job.id, task.id, Kind.QUICKLOOK, name), filename)
            for name, filename in safe_filenames(dict.fromkeys(filter(None, names))).items()
        )
        return _Quicklooks(key, outputs, document, None)

    def _documents(self, job: Job, tasks: bytes) -> dict[str, bytes]:
        place = {"project_id": job.project_id, "job_id": job.id}
        documents = {self._names.job_tasks.format(**place): tasks}
        if job.document:  # a job that comes from the ledger has none: what is there stays
            documents[self._names.job.format(**place)] = _enveloped(job.document)
        return documents


def _enveloped(document: dict[str, Any]) -> bytes:
    """The answer to a request for one job; a list holds the same object without its envelope."""
    return json.dumps({"data": document, "error": None}, ensure_ascii=False).encode("utf-8", "surrogatepass")
