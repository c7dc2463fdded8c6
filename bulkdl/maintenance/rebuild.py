"""
A lost ledger made again from the tree. ``job_files.py`` reads one job, here they are written down.

``job.json`` says which job there is, ``job_tasks.json`` which tasks it had, ``task_quicklook.json``
which quicklooks: from these follow the outputs, and from the templates their names. A file counts only
after its structure has been checked, as if it had just come without a digest from the server. What
cannot be known again: validators and the object's address (a twin is not found by it), and why an
output that is not there is not. So such outputs are planned, and the next run asks for them.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from itertools import islice
from sqlite3 import Connection

from bulkdl.concurrency import Channel
from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.errors import ApiError, ConfigError
from bulkdl.ledger import maintenance_queries, queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.locked import open_locked_ledger
from bulkdl.log import get_logger
from bulkdl.maintenance.damaged_ledger import rename_if_damaged
from bulkdl.maintenance.job_directory import JobDirectoryReader, RebuiltJob
from bulkdl.maintenance.path_matcher import ParsedKey, PathMatcher, iter_files
from bulkdl.maintenance.verify import VerifyOptions, find_untracked_files
from bulkdl.report.verification import FileState, Finding, Verification

log = get_logger(__name__)

_FILES_AT_ONCE = 500


async def rebuild(check: VerifyOptions) -> Verification:
    """
    Write a new ledger from what is in the tree.

    Raises:
        ConfigError: There is a ledger that knows jobs.
        OutputLockedError: A run is at work there.
        LedgerVersionError: A newer bulkdl wrote the existing ledger.
        DestinationError: The existing ledger cannot be read; it is not changed.
    """
    verification = Verification(str(check.output), "rebuild")
    where = f"--output {check.output}"
    sink = LocalDestination(check.output)
    if not await asyncio.to_thread(check.output.is_dir):
        raise ConfigError(where, "is no directory; name the one that holds the outputs")
    verification.damaged_ledger = await rename_if_damaged(sink)
    run_id = f"rebuild-{secrets.token_hex(3)}"
    async with open_locked_ledger(sink, run_id) as ledger:
        if not await ledger.write(partial(maintenance_queries.begin_rebuild, run_id=run_id)):
            raise ConfigError(where, "has a ledger that knows jobs; bulkdl verify holds the files against it")
        try:
            await Rebuilder(check, sink, ledger, verification, run_id).work()
        finally:
            check.stop.set()
        if not verification.jobs and not verification.findings_total:
            problem = f"has no {check.names.job}; the names in the settings must be those it was filled with"
            raise ConfigError(where, problem)
        await find_untracked_files(check, ledger, verification)
        await ledger.write(maintenance_queries.end_rebuild)
    log.info("ledger.rebuilt", jobs=verification.jobs, rejected=verification.findings_total)
    return verification


class Rebuilder:
    """Writes down one job after another, each in one transaction."""

    def __init__(
        self,
        check: VerifyOptions,
        sink: LocalDestination,
        ledger: Ledger,
        verification: Verification,
        run_id: str,
    ) -> None:
        self._check = check
        self._ledger = ledger
        self._verification = verification
        self._run_id = run_id
        self._reader = JobDirectoryReader(check, sink)
        self._places: Channel[tuple[str, ParsedKey]] = Channel(4 * check.workers)

    async def work(self) -> None:
        """All of the tree."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed(), name="rebuild-tree")
            for number in range(self._check.workers):
                group.create_task(self._work(), name=f"rebuild-{number}")

    async def _feed(self) -> None:
        places = PathMatcher(self._check.names)
        files = iter_files(self._check.output, places)
        while keys := await asyncio.to_thread(lambda: list(islice(files, _FILES_AT_ONCE))):
            for key in keys:
                place = places.match(key)
                if place is not None and place.template == "job":
                    await self._places.put((key, place))
        self._places.close()

    async def _work(self) -> None:
        async for key, place in self._places:
            if await self._ledger.read(partial(_is_known, place=place)):
                continue
            try:
                found = await asyncio.to_thread(self._reader.read, key, place)
            except ApiError as failure:
                self._reject(Finding(key, FileState.DAMAGED, failure.detail))
            except OSError as error:
                self._reject(Finding(key, FileState.UNREADABLE, error.strerror or str(error)))
            else:
                await self._ledger.write(partial(_write, found=found, run_id=self._run_id))
                self._record_job(found)

    def _record_job(self, found: RebuiltJob) -> None:
        self._verification.jobs += 1
        for result in found.results:
            size_bytes = result.file.size_bytes if result.file else 0
            self._verification.count(result.output.kind, FileState.OK, size_bytes)
            self._check.advance(1, size_bytes)
        for finding in found.findings:
            if finding.output is not None:
                self._verification.count(finding.output.kind, finding.state, 0)
            self._reject(finding)

    def _reject(self, finding: Finding) -> None:
        self._verification.add_finding(finding)
        log.warning("file.rejected", key=finding.key, state=finding.state.value, detail=finding.detail)


def _is_known(connection: Connection, place: ParsedKey) -> bool:
    """Whether a rebuild that was interrupted has written this job down already."""
    jobs = maintenance_queries.jobs_among(connection, [place.job_id])
    return any(place.project_id in (None, project_id) for project_id, _ in jobs)


def _write(connection: Connection, found: RebuiltJob, run_id: str) -> None:
    queries.plan_job(connection, found.listing)
    queries.record(connection, found.results, run_id)
