"""
Projects → jobs: which jobs the selection is about, from UP42's lists or by their ids.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing

import structlog

from bulkdl.errors import ApiError
from bulkdl.graph.api_clients import ApiClients
from bulkdl.graph.ledger_view import LedgerView
from bulkdl.graph.outlets import EnumerationHandler
from bulkdl.ledger.rows import JobRecord
from bulkdl.log import get_logger
from bulkdl.models import Job, Reason
from bulkdl.report.models import JobCounts
from bulkdl.selection import JobRef, Selection

log = get_logger(__name__)

PAGE = 100

Sift = Callable[[str, Sequence[Job]], Awaitable[None]]
"""Takes jobs of one project, a page at a time."""


class JobDiscovery:
    """
    Finds jobs; several workers share one.

    Args:
        sift: Takes what is found.
    """

    def __init__(
        self,
        selection: Selection,
        accounts: ApiClients,
        notes: LedgerView,
        counts: JobCounts,
        outlets: EnumerationHandler,
        sift: Sift,
    ) -> None:
        self._selection = selection
        self._accounts = accounts
        self._notes = notes
        self._counts = counts
        self._outlets = outlets
        self._sift = sift
        self._projects = iter(() if selection.jobs else self.project_ids)
        self._refs: Iterator[JobRef] = iter(selection.jobs)

    @property
    def project_ids(self) -> tuple[str, ...]:
        """The projects that this selection is about."""
        return self._selection.project_ids or self._accounts.project_ids

    async def work(self) -> None:
        """Worker: list projects, or look up the jobs that were asked for by id."""
        for project_id in self._projects:
            with structlog.contextvars.bound_contextvars(project_id=project_id):
                await self._list_project(project_id)
        for ref in self._refs:
            await self._look_up(ref)

    async def _list_project(self, project_id: str) -> None:
        jobs: list[Job] = []
        seen = 0
        try:
            async with aclosing(self._accounts.client(project_id).jobs(project_id)) as entries:
                async for entry in entries:
                    seen += 1
                    self._counts.seen += 1
                    if not isinstance(entry, Job):
                        what = f"job {entry.job_id or '(unreadable)'} of project {project_id}"
                        self._outlets.problem(Reason.INVALID_RESPONSE, what, entry.problem)
                    elif self._is_selected(entry):
                        jobs.append(entry)
                    if len(jobs) >= PAGE:
                        await self._sift(project_id, jobs)
                        jobs = []
        except ApiError as failure:
            what = f"project {project_id}"
            self._outlets.problem(failure.reason, what, failure.detail, project_id=project_id)
        else:
            log.info("project.enumerated", jobs=seen)
        await self._sift(project_id, jobs)

    def _is_selected(self, job: Job) -> bool:
        """Whether *job* is to be held against the ledger."""
        chosen = self._selection
        if (
            chosen.is_before_watermark(job)
            or chosen.may_match_when_finished(job)
            or chosen.has_unwanted_final_status(job)
        ):
            return True
        if not chosen.matches(job):
            return False
        self._counts.selected += 1
        return True

    async def _look_up(self, ref: JobRef) -> None:
        """
        Find the job of *ref*. UP42 is asked for it, one request, also if the ledger has it as finished:
        it may have run again. A retry is about what failed and takes a finished job from the ledger.
        """
        known = await self._known_ref(ref)
        is_retry = self._selection.reasons is not None
        if is_retry and known is not None and known.job.finished and known.tasks_listed:
            job: Job | None = known.job
        else:
            job = await self._request_job(ref, known)
        if job is None:
            return
        self._counts.seen += 1
        if self._is_selected(job):
            await self._sift(job.project_id, [job])

    async def _known_ref(self, ref: JobRef) -> JobRecord | None:
        allowed = (ref.project_id,) if ref.project_id else self.project_ids
        for project_id in await self._notes.projects_of(ref.job_id):
            if project_id in allowed:
                return (await self._notes.known(project_id, [ref.job_id])).get(ref.job_id)
        return None

    async def _request_job(self, ref: JobRef, known: JobRecord | None) -> Job | None:
        """Find the job in whichever project has it; the project in which it is *known* is asked first."""
        projects = (ref.project_id,) if ref.project_id else self.project_ids
        if known is not None:
            projects = tuple(sorted(projects, key=lambda each: each != known.job.project_id))
        failures: list[tuple[str, ApiError]] = []
        for project_id in projects:
            try:
                job, _ = await self._accounts.client(project_id).job(project_id, ref.job_id)
            except ApiError as failure:
                failures.append((project_id, failure))
            else:
                return job
        self._report_missing(ref, failures)
        return None

    def _report_missing(self, ref: JobRef, failures: Sequence[tuple[str, ApiError]]) -> None:
        others = [pair for pair in failures if pair[1].reason is not Reason.NOT_FOUND]
        project_id, failure = (others or failures)[0]
        self._outlets.problem(failure.reason, f"job {ref}", failure.detail, project_id=project_id)
