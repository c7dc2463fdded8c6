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

from bulkdl.errors import ApiFailure, Failure, SinkFailure
from bulkdl.graph import planning
from bulkdl.graph.accounts import Accounts
from bulkdl.graph.channel import Channel
from bulkdl.graph.finding import PAGE, JobFinder
from bulkdl.graph.listing import JobLister, Listed
from bulkdl.graph.notes import Notes
from bulkdl.graph.outlets import Outlets
from bulkdl.ledger import queries
from bulkdl.ledger.rows import NEW, KnownJob, KnownOutput
from bulkdl.log import get_logger
from bulkdl.model import Job, Reason
from bulkdl.reactions import REACTIONS, Step
from bulkdl.report.rows import JobCounts
from bulkdl.selection import Selection
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.sink.local import LocalSink
from bulkdl.telemetry.events import JobEnumerated, JobUnfinished, Reporter

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pending:
    """A job to be listed, and what is known of it."""

    job: Job
    known: KnownJob | None


class Enumeration:
    """Finds what is to be fetched."""

    def __init__(
        self,
        *,
        selection: Selection,
        names: PathTemplates,
        accounts: Accounts,
        sink: LocalSink,
        notes: Notes,
        counts: JobCounts,
        outlets: Outlets,
        reporter: Reporter,
        recheck_absent_s: float = 0.0,
    ) -> None:
        self.pending: Channel[Pending] = Channel(2 * PAGE)
        self._finder = JobFinder(selection, accounts, notes, counts, outlets, self._sift)
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
            with structlog.contextvars.bound_contextvars(project_id=job.project_id, job_id=job.id):
                await self._list_job(pending)

    async def _sift(self, project_id: str, jobs: Sequence[Job]) -> None:
        """Hold jobs against the ledger and the files."""
        known = await self._notes.known(project_id, [job.id for job in jobs])
        await self._put_off([job for job in jobs if not job.finished], known)
        await self._leave_out([job for job in jobs if self._selection.has_ended_otherwise(job)], known)
        finished = [job for job in jobs if job.finished and not self._selection.has_ended_otherwise(job)]
        sizes = await self._sizes([each for one in known.values() for each in one.outputs])
        for job in finished:
            of_job = await self._current(job, known.get(job.id))
            if self._selection.is_overdue(job) and job.id not in known:
                continue
            if planning.must_be_listed(of_job, self._selection, recheck_absent=self._rechecks(job)):
                await self.pending.put(Pending(job, of_job))
            elif of_job is not None:
                await self._hand_over(of_job.outputs, of_job.last_task_id, job, sizes)

    async def _sizes(self, outputs: Sequence[KnownOutput]) -> dict[str, int]:
        """Sizes of their files that are there, by key; no trip to a thread for a job that has none yet."""
        keys = [known.receipt.key for known in outputs if known.receipt]
        return await self._sink.find_sizes(keys) if keys else {}

    async def _put_off(self, jobs: Sequence[Job], known: Mapping[str, KnownJob]) -> None:
        """Skip jobs that UP42 has not finished; a later run takes them up."""
        chosen = self._selection
        for job in jobs:
            if chosen.is_awaited(job):
                continue
            if not chosen.is_overdue(job):
                self._counts.unfinished += 1
            self._reporter.report(JobUnfinished(job.project_id, job.id))
            log.debug("job.skipped", job_id=job.id, reason=Reason.JOB_UNFINISHED.value, status=job.status)
        new = [job for job in jobs if job.id not in known and (chosen.matches(job) or chosen.is_awaited(job))]
        if new:
            await self._notes.write(partial(queries.note_unfinished, jobs=new))

    async def _leave_out(self, jobs: Sequence[Job], known: Mapping[str, KnownJob]) -> None:
        """Note how jobs ended that an earlier run saw unfinished: it waits for them no more."""
        seen = {each.job.id for each in known.values() if each.unlisted_for is Reason.JOB_UNFINISHED}
        ended = [job for job in jobs if job.id in seen]
        if ended:
            await self._notes.write(partial(queries.note_left_out, jobs=ended))

    async def _current(self, job: Job, known: KnownJob | None) -> KnownJob | None:
        if known is None or planning.same_run(job, known):
            return known
        if known.job.finished:  # otherwise the known run of the job has just finished
            log.info("job.changed", job_id=job.id, status=job.status)
        if self._notes.written:
            await self._forget(known)
        return None

    async def _forget(self, known: KnownJob) -> None:
        """
        Drop what there is of an earlier run of the job: its objects may stand at the same paths.

        The rows go last, for they name the parts.
        """
        for each in known.outputs:
            await self._sink.part(each.output).discard()
        job = known.job
        await self._notes.write(partial(queries.forget_job, project_id=job.project_id, job_id=job.id))

    async def _list_job(self, pending: Pending) -> None:
        job = pending.job
        try:
            listed = await self._lister.ask(job)
        except ApiFailure as failure:
            await self._note_unlisted(job, failure)
            return
        if not listed.listing.tasks_final:
            self._counts.unfinished += 1
            log.info("job.tasks_unfinished", status=job.status)
        try:
            known = await self._keep(listed, pending.known)
        except SinkFailure as failure:
            if REACTIONS[failure.reason].step is Step.STOP_RUN:
                raise
            await self._note_unlisted(job, failure, "its documents")
            return
        for failed in listed.failures:
            await self._outlets.ended(failed)
        sizes = await self._sizes(known)
        await self._hand_over(known, listed.listing.last_task_id, job, sizes, fresh=True)

    async def _note_unlisted(self, job: Job, failure: Failure, part: str = "its tasks") -> None:
        self._outlets.problem(
            failure.reason, f"job {job.id} of project {job.project_id}", f"{part}: {failure.detail}"
        )
        await self._notes.write(
            partial(queries.unlisted_job, job=job, reason=failure.reason, detail=failure.detail)
        )

    async def _keep(self, listed: Listed, known: KnownJob | None) -> tuple[KnownOutput, ...]:
        """Write down the listing, and return its outputs with what was known of them before."""
        if self._notes.written:
            await self._sink.publish(listed.documents)
            await self._notes.write(partial(queries.plan_job, listing=listed.listing))
        before = {each.output: each for each in known.outputs} if known else {}
        return tuple(
            before.get(planned.output) or KnownOutput(planned.output, NEW, None, planned.filename, None)
            for planned in listed.listing.outputs
            if not planning.is_list(planned.output)
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
        recheck = self._rechecks(job)
        verdict = planning.judge(outputs, self._selection, sizes, recheck_absent=recheck)
        if not verdict.missing and self._selection.is_overdue(job):
            return
        missing, settled = self._outlets.reserve(verdict.missing), self._uncounted(verdict.settled)
        if (outputs and not missing and not settled) and (verdict.missing or verdict.settled):
            return  # the job was listed twice in this run, and is counted already
        if not verdict.missing and not fresh:
            self._counts.settled += 1
        self._outlets.settled(settled)
        kinds = Counter(wanted.output.kind for wanted in missing)
        self._reporter.report(JobEnumerated(job.project_id, job.id, len(missing), len(settled), kinds))
        log.debug("job.enumerated", job_id=job.id, missing=len(missing), settled=len(settled))
        bundles = planning.bundles(missing, last_task)
        for number, bundle in enumerate(bundles, start=1):
            try:
                await self._outlets.bundle(bundle)
            except BaseException:  # the run is being stopped: every output that was counted must end
                for wanted in chain.from_iterable(bundles[number:]):
                    self._outlets.cancelled(wanted.output)
                raise

    def _rechecks(self, job: Job) -> bool:
        return planning.is_recent(job, datetime.now(UTC), self._recheck_absent_s)

    def _uncounted(self, settled: Sequence[KnownOutput]) -> tuple[KnownOutput, ...]:
        """Return *settled* without the outputs that this very run has recorded and counted."""
        run_id = self._notes.run_id
        return tuple(known for known in settled if run_id is None or known.run_id != run_id)
