"""
The first stages: projects → jobs → tasks → outputs, and which of these are missing.

Jobs are held against the ledger a page at a time, so that those which are settled cost no request
and hardly any time. The others go on to the enumerators, each of which lists one job.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from bulkdl.errors import ApiFailure
from bulkdl.graph import planning
from bulkdl.graph.accounts import Accounts
from bulkdl.graph.channel import Channel
from bulkdl.graph.planning import Bundle
from bulkdl.ledger import queries
from bulkdl.ledger.ledger import Ledger
from bulkdl.ledger.queries import Listing, PlannedOutput
from bulkdl.ledger.rows import NEW, KnownJob, KnownOutput
from bulkdl.model import Job, Kind, Level, Outcome, Output, Reason, Result, Task
from bulkdl.report.rows import JobCounts
from bulkdl.selection import JobRef, Selection
from bulkdl.settings.names import Names
from bulkdl.sink.keys import safe_filenames
from bulkdl.sink.local import LocalSink
from bulkdl.telemetry.events import JobEnumerated, JobUnfinished, Reporter

log = structlog.get_logger(__name__)

PAGE = 100


@dataclass(frozen=True, slots=True)
class Pending:
    """A job to be listed, and what is known of it."""

    job: Job
    known: KnownJob | None


@dataclass(frozen=True, slots=True)
class Outlets:
    """
    Where the enumeration puts what it finds.

    Attributes:
        bundle: Takes what is to be fetched.
        settled: Takes what is there already.
        ended: Takes what failed while it was being enumerated.
        problem: Takes what is wrong with a whole project or job.
    """

    bundle: Callable[[Bundle], Awaitable[None]]
    settled: Callable[[tuple[KnownOutput, ...]], None]
    ended: Callable[[Result], Awaitable[None]]
    problem: Callable[..., None]


class Enumeration:
    """
    Finds what is to be fetched.

    Args:
        ledger: None where there is none yet and none is to be made (a plan).
        dry: Write neither documents nor ledger.
    """

    def __init__(
        self,
        *,
        selection: Selection,
        names: Names,
        accounts: Accounts,
        sink: LocalSink,
        ledger: Ledger | None,
        counts: JobCounts,
        outlets: Outlets,
        reporter: Reporter,
        dry: bool = False,
    ) -> None:
        self.pending: Channel[Pending] = Channel(2 * PAGE)
        self._selection = selection
        self._names = names
        self._accounts = accounts
        self._sink = sink
        self._ledger = ledger
        self._counts = counts
        self._outlets = outlets
        self._reporter = reporter
        self._dry = dry
        self._projects = iter(self.project_ids) if not selection.jobs else iter(())
        self._refs: Iterator[JobRef] = iter(selection.jobs)

    @property
    def project_ids(self) -> tuple[str, ...]:
        """The projects that this selection is about."""
        return self._selection.project_ids or self._accounts.project_ids

    async def find_jobs(self) -> None:
        """Worker: list projects, or look up the jobs that were asked for by id."""
        for project_id in self._projects:
            with structlog.contextvars.bound_contextvars(project_id=project_id):
                await self._list_project(project_id)
        for ref in self._refs:
            await self._look_up(ref)

    async def list_jobs(self) -> None:
        """Worker: list the tasks and quicklooks of pending jobs."""
        async for pending in self.pending:
            job = pending.job
            with structlog.contextvars.bound_contextvars(project_id=job.project_id, job_id=job.id):
                await self._list_job(pending)

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
                        self._outlets.problem(Reason.BAD_ANSWER, what, entry.problem)
                    elif self._takes(entry):
                        jobs.append(entry)
                    if len(jobs) >= PAGE:
                        await self._sift(project_id, jobs)
                        jobs = []
        except ApiFailure as failure:
            what = f"project {project_id}"
            self._outlets.problem(failure.reason, what, failure.detail, project_id=project_id)
        else:
            log.info("project.enumerated", jobs=seen)
        await self._sift(project_id, jobs)

    def _takes(self, job: Job) -> bool:
        """Whether *job* is to be held against the ledger."""
        if self._selection.is_overdue(job):
            return True
        if not self._selection.matches(job):
            return False
        self._counts.selected += 1
        return True

    async def _look_up(self, ref: JobRef) -> None:
        known = await self._known_ref(ref)
        if known is not None and known.job.finished and known.tasks_listed:
            job: Job | None = known.job
        else:
            job = await self._ask_for(ref)
        if job is None:
            return
        self._counts.seen += 1
        if self._takes(job):
            await self._sift(job.project_id, [job])

    async def _known_ref(self, ref: JobRef) -> KnownJob | None:
        if self._ledger is None:
            return None
        projects = await self._ledger.read(partial(queries.projects_of, job_id=ref.job_id))
        allowed = (ref.project_id,) if ref.project_id else self.project_ids
        for project_id in projects:
            if project_id in allowed:
                return (await self._known(project_id, [ref.job_id])).get(ref.job_id)
        return None

    async def _ask_for(self, ref: JobRef) -> Job | None:
        """Find the job in whichever project has it."""
        projects = (ref.project_id,) if ref.project_id else self.project_ids
        failures: list[tuple[str, ApiFailure]] = []
        for project_id in projects:
            try:
                job, _ = await self._accounts.client(project_id).job(project_id, ref.job_id)
            except ApiFailure as failure:
                failures.append((project_id, failure))
            else:
                return job
        self._report_missing(ref, failures)
        return None

    def _report_missing(self, ref: JobRef, failures: Sequence[tuple[str, ApiFailure]]) -> None:
        others = [pair for pair in failures if pair[1].reason is not Reason.NOT_FOUND]
        project_id, failure = (others or failures)[0]
        self._outlets.problem(failure.reason, f"job {ref}", failure.detail, project_id=project_id)

    async def _known(self, project_id: str, job_ids: Sequence[str]) -> dict[str, KnownJob]:
        if self._ledger is None:
            return {}
        return await self._ledger.read(
            partial(queries.known_jobs, project_id=project_id, job_ids=list(job_ids))
        )

    async def _sift(self, project_id: str, jobs: Sequence[Job]) -> None:
        """Hold jobs against the ledger and the files."""
        known = await self._known(project_id, [job.id for job in jobs])
        finished = [job for job in jobs if job.finished]
        await self._put_off([job for job in jobs if not job.finished], known)
        keys = [each.receipt.key for one in known.values() for each in one.outputs if each.receipt]
        sizes = await asyncio.to_thread(self._sink.sizes, keys)
        for job in finished:
            of_job = await self._current(job, known.get(job.id))
            if self._selection.is_overdue(job) and job.id not in known:
                continue
            if planning.must_be_listed(of_job, self._selection):
                await self.pending.put(Pending(job, of_job))
            elif of_job is not None:
                await self._hand_over(of_job.outputs, of_job.last_task_id, job, sizes)

    async def _put_off(self, jobs: Sequence[Job], known: Mapping[str, KnownJob]) -> None:
        """Skip jobs that UP42 has not finished; a later run takes them up."""
        for job in jobs:
            if not self._selection.is_overdue(job):
                self._counts.unfinished += 1
            self._reporter.report(JobUnfinished(job.project_id, job.id))
            log.debug("job.skipped", job_id=job.id, reason=Reason.JOB_UNFINISHED.value, status=job.status)
        new = [job for job in jobs if job.id not in known and self._selection.matches(job)]
        if new and self._ledger is not None and not self._dry:
            await self._ledger.write(partial(queries.note_unfinished, jobs=new))

    async def _current(self, job: Job, known: KnownJob | None) -> KnownJob | None:
        if known is None or planning.same_run(job, known):
            return known
        log.info("job.changed", job_id=job.id, status=job.status)
        if self._ledger is not None and not self._dry:
            await self._ledger.write(partial(queries.forget_job, project_id=job.project_id, job_id=job.id))
        return None

    async def _list_job(self, pending: Pending) -> None:
        job = pending.job
        try:
            tasks, document = await self._accounts.client(job.project_id).tasks(job.project_id, job.id)
        except ApiFailure as failure:
            await self._note_unlisted(job, failure)
            return
        lists = await self._quicklook_lists(job, tasks)
        outputs = [PlannedOutput(output) for output in planning.files_of(job, tasks)]
        outputs += [planned for each in lists for planned in each.outputs]
        listing = Listing(
            job,
            last_task_id=planning.last_task_id(tasks),
            outputs=tuple(outputs),
            quicklooks=self._wants_quicklooks and all(each.failure is None for each in lists),
        )
        documents = self._documents(job, document)
        documents |= {each.key: each.document for each in lists if each.document is not None}
        known = await self._keep(listing, documents, pending.known)
        for each in lists:
            if each.failure is not None:
                await self._outlets.ended(each.failure)
        sizes = await asyncio.to_thread(self._sink.sizes, [k.receipt.key for k in known if k.receipt])
        await self._hand_over(known, listing.last_task_id, job, sizes, fresh=True)

    async def _note_unlisted(self, job: Job, failure: ApiFailure) -> None:
        self._outlets.problem(
            failure.reason, f"job {job.id} of project {job.project_id}", f"its tasks: {failure.detail}"
        )
        if self._ledger is not None and not self._dry:
            await self._ledger.write(
                partial(queries.unlisted_job, job=job, reason=failure.reason, detail=failure.detail)
            )

    @property
    def _wants_quicklooks(self) -> bool:
        return Kind.QUICKLOOK in self._selection.kinds and Level.TASK in self._selection.levels

    async def _quicklook_lists(self, job: Job, tasks: Sequence[Task]) -> list[QuicklookList]:
        if not self._wants_quicklooks:
            return []
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(self._quicklook_list(job, task), name=f"quicklooks-{task.id}")
                for task in tasks
            ]
        return [each.result() for each in asked]

    async def _quicklook_list(self, job: Job, task: Task) -> QuicklookList:
        key = self._names.task_quicklooks.format(project_id=job.project_id, job_id=job.id, task_id=task.id)
        whole = Output(job.project_id, job.id, task.id, Kind.QUICKLOOK)
        try:
            names, document = await self._accounts.client(job.project_id).quicklooks(
                job.project_id, job.id, task.id
            )
        except ApiFailure as failure:
            if failure.reason is Reason.NOT_FOUND:
                return QuicklookList(key, (), None, None)
            ended = Result(whole, Outcome.FAILED, failure.reason, attempts=1, detail=failure.detail)
            return QuicklookList(key, (PlannedOutput(whole),), None, ended)
        outputs = tuple(
            PlannedOutput(Output(job.project_id, job.id, task.id, Kind.QUICKLOOK, name), filename)
            for name, filename in safe_filenames(dict.fromkeys(filter(None, names))).items()
        )
        return QuicklookList(key, outputs, document, None)

    def _documents(self, job: Job, tasks: bytes) -> dict[str, bytes]:
        place = {"project_id": job.project_id, "job_id": job.id}
        documents = {self._names.job_tasks.format(**place): tasks}
        if job.document:  # a job that comes from the ledger has none: what is there stays
            documents[self._names.job.format(**place)] = _enveloped(job.document)
        return documents

    async def _keep(
        self, listing: Listing, documents: dict[str, bytes], known: KnownJob | None
    ) -> tuple[KnownOutput, ...]:
        """Write down the listing, and return its outputs with what was known of them before."""
        if not self._dry and self._ledger is not None:
            await self._sink.publish(documents)
            await self._ledger.write(partial(queries.plan_job, listing=listing))
        before = {each.output: each for each in known.outputs} if known else {}
        return tuple(
            before.get(planned.output) or KnownOutput(planned.output, NEW, None, planned.filename, None)
            for planned in listing.outputs
        )

    async def _hand_over(
        self,
        outputs: Sequence[KnownOutput],
        last_task: str | None,
        job: Job,
        sizes: dict[str, int],
        *,
        fresh: bool = False,
    ) -> None:
        verdict = planning.judge(outputs, self._selection, sizes)
        if not verdict.missing and self._selection.is_overdue(job):
            return
        if not verdict.missing and not fresh:
            self._counts.settled += 1
        self._outlets.settled(verdict.settled)
        kinds = Counter(wanted.output.kind for wanted in verdict.missing)
        self._reporter.report(
            JobEnumerated(job.project_id, job.id, len(verdict.missing), len(verdict.settled), kinds)
        )
        log.debug("job.enumerated", job_id=job.id, missing=len(verdict.missing), settled=len(verdict.settled))
        for bundle in planning.bundles(verdict.missing, last_task):
            await self._outlets.bundle(bundle)


def _enveloped(document: dict[str, Any]) -> bytes:
    """The answer to a request for one job; a list holds the same object without its envelope."""
    return json.dumps({"data": document, "error": None}, ensure_ascii=False).encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class QuicklookList:
    """The quicklooks of one task: what is planned, UP42's answer, or how asking failed."""

    key: str
    outputs: tuple[PlannedOutput, ...]
    document: bytes | None
    failure: Result | None
