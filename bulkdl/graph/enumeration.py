"""
The first stages: projects → jobs → tasks → outputs, and which of these are missing.

Jobs are held against the ledger a page at a time, so that those which are settled cost no request
and hardly any time. The others go on to the enumerators, each of which lists one job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain

import structlog

from bulkdl.concurrency import Channel
from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.errors import ApiError, DestinationError, DownloadError
from bulkdl.failure_policy import FAILURE_POLICIES, RetryAction
from bulkdl.graph import planning
from bulkdl.graph.api_clients import ApiClients
from bulkdl.graph.discovery import PAGE, JobDiscovery
from bulkdl.graph.ledger_view import LedgerView
from bulkdl.graph.listing import JobLister, JobListingResult
from bulkdl.graph.outlets import EnumerationHandler
from bulkdl.ledger import queries
from bulkdl.ledger.rows import NEW, JobRecord, OutputRecord
from bulkdl.log import get_logger
from bulkdl.models import Job, Reason
from bulkdl.report.models import JobCounts
from bulkdl.selection import Selection
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.sources.up42_jobs.planning import group_same_objects, is_listing_placeholder
from bulkdl.telemetry.events import JobEnumerated, JobUnfinished, Reporter

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JobToList:
    """A job to be listed, and what is known of it."""

    job: Job
    known: JobRecord | None


class Enumeration:
    """Finds what is to be fetched."""

    def __init__(
        self,
        *,
        selection: Selection,
        names: PathTemplates,
        accounts: ApiClients,
        sink: LocalDestination,
        notes: LedgerView,
        counts: JobCounts,
        outlets: EnumerationHandler,
        reporter: Reporter,
        recheck_absent_s: float = 0.0,
    ) -> None:
        self.pending: Channel[JobToList] = Channel(2 * PAGE)
        self._finder = JobDiscovery(selection, accounts, notes, counts, outlets, self._compare_with_ledger)
        self._lister = JobLister(selection, accounts, names)
        self._selection = selection
        self._sink = sink
        self._notes = notes
        self._counts = counts
        self._outlets = outlets
        self._reporter = reporter
        self._recheck_absent_s = recheck_absent_s

    async def find_jobs(self) -> None:
        """Worker: list projects, or look up the jobs that were asked for by id."""
        await self._finder.work()

    async def list_jobs(self) -> None:
        """Worker: list the tasks and quicklooks of pending jobs."""
        async for pending in self.pending:
            job = pending.job
            try:
                with structlog.contextvars.bound_contextvars(project_id=job.project_id, job_id=job.id):
                    await self._list_job(pending)
            finally:
                self._outlets.end_comparison([job])

    async def _compare_with_ledger(self, project_id: str, jobs: Sequence[Job]) -> None:
        """Compare *jobs* with the ledger and the files."""
        self._outlets.begin_comparison(jobs)
        try:
            await self._compare_jobs(project_id, jobs)
        finally:
            self._outlets.end_comparison(jobs)

    async def _compare_jobs(self, project_id: str, jobs: Sequence[Job]) -> None:
        known = await self._notes.known(project_id, [job.id for job in jobs])
        await self._record_unfinished_jobs([job for job in jobs if not job.finished], known)
        await self._record_excluded_jobs(
            [job for job in jobs if self._selection.has_unwanted_final_status(job)], known
        )
        finished = [
            job for job in jobs if job.finished and not self._selection.has_unwanted_final_status(job)
        ]
        sizes = await self._sizes([each for one in known.values() for each in one.outputs])
        for job in finished:
            of_job = await self._forget_if_rerun(job, known.get(job.id))
            if self._selection.is_before_watermark(job) and job.id not in known:
                continue
            if planning.must_be_listed(of_job, self._selection, recheck_absent=self._rechecks(job)):
                self._outlets.begin_comparison([job])  # it ends when the job has been listed
                await self.pending.put(JobToList(job, of_job))
            elif of_job is not None:
                await self._enqueue_missing(of_job.outputs, of_job.last_task_id, job, sizes)

    async def _sizes(self, outputs: Sequence[OutputRecord]) -> dict[str, int]:
        """Sizes of their files that are there, by key; no trip to a thread for a job that has none yet."""
        keys = [known.file.key for known in outputs if known.file]
        return await self._sink.find_sizes(keys) if keys else {}

    async def _record_unfinished_jobs(self, jobs: Sequence[Job], known: Mapping[str, JobRecord]) -> None:
        """Skip jobs that UP42 has not finished; a later run takes them up."""
        chosen = self._selection
        for job in jobs:
            if chosen.may_match_when_finished(job):
                continue
            if not chosen.is_before_watermark(job):
                self._counts.unfinished += 1
            self._reporter.report(JobUnfinished(job.project_id, job.id))
            log.debug("job.skipped", job_id=job.id, reason=Reason.JOB_UNFINISHED.value, status=job.status)
        new = [
            job
            for job in jobs
            if job.id not in known and (chosen.matches(job) or chosen.may_match_when_finished(job))
        ]
        if new:
            await self._notes.write(partial(queries.record_unfinished_jobs, jobs=new))

    async def _record_excluded_jobs(self, jobs: Sequence[Job], known: Mapping[str, JobRecord]) -> None:
        """Note how jobs ended that an earlier run saw unfinished: it waits for them no more."""
        seen = {each.job.id for each in known.values() if each.listing_failure is Reason.JOB_UNFINISHED}
        ended = [job for job in jobs if job.id in seen]
        if ended:
            await self._notes.write(partial(queries.record_excluded_jobs, jobs=ended))

    async def _forget_if_rerun(self, job: Job, known: JobRecord | None) -> JobRecord | None:
        if known is None or planning.is_same_run(job, known):
            return known
        if known.job.finished:  # otherwise the known run of the job has just finished
            log.info("job.changed", job_id=job.id, status=job.status)
        if self._notes.written:
            await self._forget(known)
        return None

    async def _forget(self, known: JobRecord) -> None:
        """
        Drop what there is of an earlier run of the job: its objects may stand at the same paths.

        The rows go last, for they name the parts.
        """
        for each in known.outputs:
            await self._sink.partial_file(each.output).discard()
        job = known.job
        await self._notes.write(partial(queries.forget_job, project_id=job.project_id, job_id=job.id))

    async def _list_job(self, pending: JobToList) -> None:
        job = pending.job
        try:
            listed = await self._lister.list_outputs(job)
        except ApiError as failure:
            await self._record_listing_failure(job, failure)
            return
        if not listed.listing.tasks_final:
            self._counts.unfinished += 1
            log.info("job.tasks_unfinished", status=job.status)
        try:
            known = await self._persist_listing(listed, pending.known)
        except DestinationError as failure:
            if FAILURE_POLICIES[failure.reason].action is RetryAction.STOP_RUN:
                raise
            await self._record_listing_failure(job, failure, "its documents")
            return
        for failed in listed.failures:
            await self._outlets.failed(failed)
        sizes = await self._sizes(known)
        await self._enqueue_missing(known, listed.listing.last_task_id, job, sizes, fresh=True)

    async def _record_listing_failure(
        self, job: Job, failure: DownloadError, part: str = "its tasks"
    ) -> None:
        self._outlets.problem(
            failure.reason, f"job {job.id} of project {job.project_id}", f"{part}: {failure.detail}"
        )
        await self._notes.write(
            partial(queries.record_listing_failure, job=job, reason=failure.reason, detail=failure.detail)
        )

    async def _persist_listing(
        self, listed: JobListingResult, known: JobRecord | None
    ) -> tuple[OutputRecord, ...]:
        """Write down the listing, and return its outputs with what was known of them before."""
        if self._notes.written:
            await self._sink.publish(listed.documents)
            await self._notes.write(partial(queries.plan_job, listing=listed.listing))
        before = {each.output: each for each in known.outputs} if known else {}
        return tuple(
            before.get(planned.output) or OutputRecord(planned.output, NEW, None, planned.filename, None)
            for planned in listed.listing.outputs
            if not is_listing_placeholder(planned.output)
        )

    async def _enqueue_missing(
        self,
        outputs: Sequence[OutputRecord],
        last_task: str | None,
        job: Job,
        sizes: dict[str, int],
        *,
        fresh: bool = False,
    ) -> None:
        recheck = self._rechecks(job)
        verdict = planning.split_missing(outputs, self._selection, sizes, recheck_absent=recheck)
        if not verdict.missing and self._selection.is_before_watermark(job):
            return
        ended = {known.output for known in outputs if self._ended_in_this_run(known)}
        missing = self._outlets.reserve([each for each in verdict.missing if each.output not in ended])
        settled = tuple(known for known in verdict.up_to_date if not self._ended_in_this_run(known))
        if (outputs and not missing and not settled) and (verdict.missing or verdict.up_to_date):
            return  # the job was listed twice in this run, and is counted already
        if not verdict.missing and not fresh:
            self._counts.up_to_date += 1
        self._outlets.skipped(settled)
        kinds = Counter(wanted.output.kind for wanted in missing)
        self._reporter.report(JobEnumerated(job.project_id, job.id, len(missing), len(settled), kinds))
        log.debug("job.enumerated", job_id=job.id, missing=len(missing), up_to_date=len(settled))
        groups = group_same_objects(missing, last_task)
        for number, group in enumerate(groups, start=1):
            try:
                await self._outlets.missing(group)
            except BaseException:  # the run is being stopped: every output that was counted must end
                for wanted in chain.from_iterable(groups[number:]):
                    self._outlets.cancelled(wanted.output)
                raise

    def _rechecks(self, job: Job) -> bool:
        return planning.is_recent(job, datetime.now(UTC), self._recheck_absent_s)

    def _ended_in_this_run(self, known: OutputRecord) -> bool:
        """Return whether this run has recorded and counted *known*: its job is listed twice."""
        return known.run_id is not None and known.run_id == self._notes.run_id
