"""
Discover jobs: list the jobs of projects, or request jobs by ID, and select the jobs to compare.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from bulkdl.errors import ApiError
from bulkdl.graph.enumeration_results import EnumerationHandler
from bulkdl.graph.ledger_view import LedgerView
from bulkdl.ledger.rows import ContainerRecord
from bulkdl.listings import UnreadableContainer
from bulkdl.log import get_logger
from bulkdl.models import Container, Reason
from bulkdl.selection import JobRef, Selection
from bulkdl.sources.interfaces import Source
from bulkdl.sources.up42_jobs.models import SOURCE, job_ref

log = get_logger(__name__)

PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class ContainerPage:
    """Containers of one scope that are compared with the ledger together."""

    scope: str
    containers: tuple[Container, ...]


class JobDiscovery:
    """Discovers the selected jobs. Several workers share one instance; each project is listed once."""

    def __init__(
        self,
        selection: Selection,
        source: Source,
        ledger_view: LedgerView,
        handler: EnumerationHandler,
    ) -> None:
        self._selection = selection
        self._source = source
        self._ledger_view = ledger_view
        self._handler = handler
        self._projects = iter(() if selection.jobs else self._project_ids)
        self._refs = iter(selection.jobs)

    @property
    def _project_ids(self) -> tuple[str, ...]:
        """The selected projects, or all projects of the configuration."""
        return self._selection.project_ids or self._source.scopes

    async def discover_jobs(self) -> AsyncGenerator[ContainerPage, None]:
        """
        Yield pages of jobs until no project and no job ID is left.

        The project ID is bound to log events, also of the caller while it handles a page. Close the
        iterator (``contextlib.aclosing``).
        """
        for project_id in self._projects:
            with structlog.contextvars.bound_contextvars(project_id=project_id):
                async with aclosing(self._list_project(project_id)) as pages:
                    async for page in pages:
                        yield page
        for ref in self._refs:
            job = await self._find_job(ref)
            if job is None:
                continue
            self._handler.job_counts.seen += 1
            if self._is_candidate(job):
                yield ContainerPage(job.ref.scope, (job,))

    async def _list_project(self, project_id: str) -> AsyncGenerator[ContainerPage, None]:
        jobs: list[Container] = []
        seen = 0
        try:
            async with aclosing(self._source.list_containers(project_id)) as entries:
                async for entry in entries:
                    seen += 1
                    self._handler.job_counts.seen += 1
                    if isinstance(entry, UnreadableContainer):
                        subject = f"job {entry.id or '(unreadable)'} of project {project_id}"
                        self._handler.report_problem(Reason.INVALID_RESPONSE, subject, entry.problem)
                    elif self._is_candidate(entry):
                        jobs.append(entry)
                    if len(jobs) >= PAGE_SIZE:
                        yield ContainerPage(project_id, tuple(jobs))
                        jobs = []
        except ApiError as failure:
            subject = f"project {project_id}"
            self._handler.report_problem(failure.reason, subject, failure.detail, project_id=project_id)
        else:
            log.info("project.enumerated", jobs=seen)
        if jobs:
            yield ContainerPage(project_id, tuple(jobs))

    def _is_candidate(self, job: Container) -> bool:
        """Return whether *job* must be compared with the ledger; count it if it is selected."""
        selection = self._selection
        if (
            selection.is_before_watermark(job)
            or selection.may_match_when_finished(job)
            or selection.has_unwanted_final_status(job)
        ):
            return True
        if not selection.matches(job):
            return False
        self._handler.job_counts.selected += 1
        return True

    async def _find_job(self, ref: JobRef) -> Container | None:
        """
        Return the job of *ref*; None after reporting that it does not exist.

        A job is requested even if the ledger has it as finished, because it can have been run again. Only a
        retry, which concerns recorded failures, takes a finished job from the ledger.
        """
        record = await self._find_record(ref)
        is_retry = self._selection.reasons is not None
        if is_retry and record is not None and record.container.is_final and record.listed_kinds:
            return record.container
        return await self._request_job(ref, record)

    async def _find_record(self, ref: JobRef) -> ContainerRecord | None:
        allowed = (ref.project_id,) if ref.project_id else self._project_ids
        for project_id in await self._ledger_view.scopes_of(SOURCE, ref.job_id):
            if project_id in allowed:
                records = await self._ledger_view.known_containers(SOURCE, project_id, [ref.job_id])
                return records.get(ref.job_id)
        return None

    async def _request_job(self, ref: JobRef, record: ContainerRecord | None) -> Container | None:
        """Request the job from each possible project, beginning with the project of *record*."""
        project_ids = (ref.project_id,) if ref.project_id else self._project_ids
        if record is not None:
            project_ids = tuple(
                sorted(project_ids, key=lambda project: project != record.container.ref.scope)
            )
        failures: list[tuple[str, ApiError]] = []
        for project_id in project_ids:
            try:
                return await self._source.get_container(job_ref(project_id, ref.job_id))
            except ApiError as failure:
                failures.append((project_id, failure))
        self._report_not_found(ref, failures)
        return None

    def _report_not_found(self, ref: JobRef, failures: Sequence[tuple[str, ApiError]]) -> None:
        other = [pair for pair in failures if pair[1].reason is not Reason.NOT_FOUND]
        project_id, failure = (other or failures)[0]
        self._handler.report_problem(failure.reason, f"job {ref}", failure.detail, project_id=project_id)
