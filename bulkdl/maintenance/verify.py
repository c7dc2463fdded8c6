"""
Files against ledger: is everything there that the ledger says is there, and is it still the same?

Without repair nothing is written and no lease is taken: a look is allowed while a run is at work. Rows
are read a page at a time and divided among fixed workers, each of which blocks in a thread; the rows of
one job stay together, so that a job's archive that is linked to its last task's is read once.
"""

from __future__ import annotations

import asyncio
import secrets
import stat
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from sqlite3 import Connection

from bulkdl.concurrency import Channel
from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.errors import LedgerMissingError
from bulkdl.ledger import maintenance_queries
from bulkdl.ledger.database import LEDGER_NAME, Ledger
from bulkdl.ledger.locked import open_locked_ledger
from bulkdl.ledger.maintenance_queries import FileRow
from bulkdl.log import get_logger
from bulkdl.maintenance.path_matcher import DOCUMENTS, PathMatcher, is_utf8, iter_files, open_regular
from bulkdl.models import CommittedFile, Digest
from bulkdl.report.verification import FileState, Finding, Verification
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.transfer.checksums import Digester

log = get_logger(__name__)

_BLOCK_BYTES = 1 << 20
_FILES_AT_ONCE = 500

Advance = Callable[[int, int], None]
"""Called with (files, bytes) that have just been checked."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """
    What is to be verified, and how.

    Attributes:
        started: Told how many files and bytes there are to check, before the first.
        advance: Told how many of them have just been checked.
        stop: Set when the work was cancelled: threads end at the next block.
    """

    output: Path
    names: PathTemplates
    deep: bool = False
    repair: bool = False
    workers: int = 4
    started: Advance = lambda _files, _bytes: None
    advance: Advance = lambda _files, _bytes: None
    stop: threading.Event = field(default_factory=threading.Event)


async def verify(check: VerifyOptions) -> Verification:
    """
    Hold the files of an output directory against its ledger.

    Raises:
        LedgerMissingError: There is no ledger.
        OutputLockedError: A run is at work there, and *check* wants to repair.
    """
    verification = Verification(str(check.output), "deep" if check.deep else "quick")
    sink = LocalDestination(check.output)
    async with _opened(check, sink) as ledger:
        try:
            await Verifier(check, sink, ledger, verification).work()
            await find_untracked_files(check, ledger, verification)
        finally:
            check.stop.set()
    return verification


@asynccontextmanager
async def _opened(check: VerifyOptions, sink: LocalDestination) -> AsyncIterator[Ledger]:
    path = sink.state / LEDGER_NAME
    if not await asyncio.to_thread(path.is_file):
        raise LedgerMissingError(check.output)
    if check.repair:
        async with open_locked_ledger(sink, f"verify-{secrets.token_hex(3)}") as ledger:
            yield ledger
        return
    ledger = await Ledger.open(path, read_only=True)
    try:
        yield ledger
    finally:
        await ledger.close()


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one row's file was found to be."""

    row: FileRow
    file: CommittedFile
    state: FileState
    detail: str = ""


class Verifier:
    """Checks all completed outputs of one ledger."""

    def __init__(
        self, check: VerifyOptions, sink: LocalDestination, ledger: Ledger, verification: Verification
    ) -> None:
        self._check = check
        self._sink = sink
        self._ledger = ledger
        self._verification = verification
        self._batches: Channel[Sequence[FileRow]] = Channel(4 * check.workers)

    async def work(self) -> None:
        """All of it."""
        self._check.started(*await self._ledger.read(maintenance_queries.count_completed))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed(), name="verify-rows")
            for number in range(self._check.workers):
                group.create_task(self._work(), name=f"verify-{number}")

    async def _feed(self) -> None:
        last = 0
        while rows := await self._ledger.read(partial(maintenance_queries.completed_after, row_id=last)):
            last = rows[-1].row_id
            for _, of_job in groupby(rows, key=lambda row: row.record.output.job_id):
                await self._batches.put(list(of_job))
        self._batches.close()

    async def _work(self) -> None:
        async for rows in self._batches:
            found = await asyncio.to_thread(check_files, self._sink, rows, self._check)
            for checked in found:
                self._record_result(checked)
            await self._repair([each for each in found if _is_repairable(each)])

    def _record_result(self, checked: CheckResult) -> None:
        output, receipt = checked.row.record.output, checked.file
        self._verification.count(output.kind, checked.state, receipt.size_bytes)
        self._check.advance(1, receipt.size_bytes)
        if checked.state is not FileState.OK:
            finding = Finding(receipt.key, checked.state, checked.detail, output)
            self._verification.add_finding(finding)
            log.warning("file.rejected", key=finding.key, state=finding.state.value, detail=finding.detail)

    async def _repair(self, bad: Sequence[CheckResult]) -> None:
        if not bad or not self._check.repair:
            return
        marks = [(each.row.row_id, f"verify: {each.state}: {each.detail}") for each in bad]
        await self._ledger.write(partial(maintenance_queries.mark_for_redownload, rejected=marks))
        for each in bad:  # a receipt that is still in a part would have the file adopted, not fetched
            await self._sink.partial_file(each.row.record.output).discard()
        self._verification.repaired += len(bad)


def _is_repairable(checked: CheckResult) -> bool:
    """A file that only could not be read may be whole: fetching it again is no cure for that."""
    return checked.state not in (FileState.OK, FileState.UNREADABLE)


def check_files(sink: LocalDestination, rows: Sequence[FileRow], check: VerifyOptions) -> list[CheckResult]:
    """Check the files of *rows*, one after another; blocks."""
    digests: dict[tuple[int, int], Digest] = {}
    return [
        _check_file(sink.locate(row.record.file.key), row, row.record.file, check, digests)
        for row in rows
        if row.record.file is not None
    ]


def _check_file(
    path: Path,
    row: FileRow,
    receipt: CommittedFile,
    check: VerifyOptions,
    digests: dict[tuple[int, int], Digest],
) -> CheckResult:
    try:
        entry = path.lstat()
        if not stat.S_ISREG(entry.st_mode):
            return CheckResult(row, receipt, FileState.MISSING, "not a regular file")
        if entry.st_size != receipt.size_bytes:
            detail = f"{entry.st_size} bytes instead of {receipt.size_bytes}"
            return CheckResult(row, receipt, FileState.WRONG_SIZE, detail)
        if not check.deep:
            return CheckResult(row, receipt, FileState.OK)
        inode = entry.st_dev, entry.st_ino
        if inode not in digests:
            digests[inode] = digest_of(path, receipt.digest, check.stop)
    except (FileNotFoundError, NotADirectoryError):
        return CheckResult(row, receipt, FileState.MISSING, "there is no file")
    except OSError as error:
        return CheckResult(row, receipt, FileState.UNREADABLE, error.strerror or str(error))
    if digests[inode] != receipt.digest:
        detail = f"{digests[inode]} instead of {receipt.digest}"
        return CheckResult(row, receipt, FileState.WRONG_DIGEST, detail)
    return CheckResult(row, receipt, FileState.OK)


def digest_of(path: Path, like: Digest, stop: threading.Event) -> Digest:
    """The digest of a file, by the algorithm of *like*; ends early, with no use, after *stop*."""
    digester = Digester((like,))
    with open_regular(path) as stream:
        while not stop.is_set() and (block := stream.read(_BLOCK_BYTES)):
            digester.update(block)
    return like if digester.find_mismatch((like,)) is None else digester.crc32c


async def find_untracked_files(check: VerifyOptions, ledger: Ledger, verification: Verification) -> None:
    """Find the files of the tree that no row of the ledger knows."""
    places = PathMatcher(check.names)
    files = iter_files(check.output, places)
    while keys := await asyncio.to_thread(lambda: list(islice(files, _FILES_AT_ONCE))):
        unknown = await ledger.read(partial(_unknown, keys=keys, places=places))
        verification.add_untracked(unknown)


def _unknown(connection: Connection, keys: Sequence[str], places: PathMatcher) -> list[str]:
    placed = {key: place for key in keys if (place := places.match(key)) is not None}
    job_ids = list({place.job_id for place in placed.values()})
    jobs = maintenance_queries.jobs_among(connection, job_ids)
    known = set(maintenance_queries.keys_of_jobs(connection, job_ids))
    known |= {
        key
        for key, place in placed.items()
        if place.template in DOCUMENTS
        and any(place.job_id == job and place.project_id in (None, project) for project, job in jobs)
    }
    rest = [key for key in keys if key not in known]
    # Names that today's templates do not make may be of another time.
    storable = [key for key in rest if is_utf8(key)]
    of_old = maintenance_queries.keys_among(connection, storable) if storable else set()
    return [key for key in rest if key not in of_old]
