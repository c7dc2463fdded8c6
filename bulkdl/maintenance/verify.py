"""
Compare the files of an output directory with its ledger.

Without ``repair``, nothing is written and no lease is acquired, so the command can be used during a run. Rows
are read in pages and distributed to a fixed number of workers, which read the files in threads. The rows of a
container form one batch, so that hard-linked files of a container are read once.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from sqlite3 import Connection
from typing import Protocol

from bulkdl.concurrency import Channel
from bulkdl.destinations.interfaces import ObjectInfo
from bulkdl.destinations.network import UploadOptions
from bulkdl.errors import LedgerMissingError
from bulkdl.ledger import derived_queries, maintenance_queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.locked import open_locked_ledger
from bulkdl.ledger.maintenance_queries import FileRow
from bulkdl.log import get_logger
from bulkdl.maintenance.file_checks import ReadableObjects, add_finding, check_file, find_objects
from bulkdl.maintenance.listed_objects import open_objects
from bulkdl.maintenance.verify_derived import find_replaced_keys, verify_derived_files
from bulkdl.models import CommittedFile, Digest
from bulkdl.processors.catalog.publishing import has_catalogue, is_part_of_catalogue
from bulkdl.report.verification import FileState, Finding, Verification
from bulkdl.settings.parsers import Shard
from bulkdl.sources.interfaces import SourceLayout
from bulkdl.sources.path_matcher import PathMatcher, is_utf8
from bulkdl.state.readable_ledger import open_readable_ledger, require_ledger
from bulkdl.state.shared_state import SharedStateOptions
from bulkdl.state.storage import Storage, create_storage

log = get_logger(__name__)

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """
    Options of a verification or of a rebuild.

    Attributes:
        output: The path or the URL of the destination.
        layouts: The sources whose files the directory can contain.
        state: The state directory; by default that of *output*.
        deep: Compare checksums, not only sizes.
        repair: Mark missing and invalid files for download.
        workers: Number of files that are read concurrently.
        uploads: For a destination that is reached over the network.
        shared: For the state in such a destination.
        shard: The shard whose state it is.
    """

    output: Path | str
    layouts: tuple[SourceLayout, ...]
    state: Path | None = None
    deep: bool = False
    repair: bool = False
    workers: int = 4
    uploads: UploadOptions | None = None
    shared: SharedStateOptions | None = None
    shard: Shard | None = None

    def create_storage(self) -> Storage:
        """Return the storage of *output*; see ``state.storage.create_storage``."""
        return create_storage(
            self.output, self.state, shard=self.shard, uploads=self.uploads, shared=self.shared
        )


class VerifyProgress(Protocol):
    """Receives the progress of a verification as numbers of files and bytes."""

    def start(self, files: int, size_bytes: int) -> None:
        """Report the total before the first file is checked."""

    def advance(self, files: int, size_bytes: int) -> None:
        """Report that *files* more files are checked."""


class NullProgress:
    """Ignores the progress."""

    def start(self, files: int, size_bytes: int) -> None:
        """Ignore the total."""

    def advance(self, files: int, size_bytes: int) -> None:
        """Ignore the files."""


async def verify(
    options: VerifyOptions, progress: VerifyProgress | None = None, *, stop: threading.Event | None = None
) -> Verification:
    """
    Compare the files of an output directory with its ledger.

    Args:
        stop: Set when the verification ends or is cancelled. The threads then end after the current block.

    Raises:
        LedgerMissingError: The directory does not contain a ledger.
        OutputLockedError: *options* contain ``repair`` and a run has locked the directory.
    """
    verification = Verification(str(options.output), "deep" if options.deep else "quick")
    stop = stop or threading.Event()
    async with (
        options.create_storage() as storage,
        _open_ledger(storage, repair=options.repair) as ledger,
    ):
        try:
            async with open_objects(storage.destination) as objects:
                verifier = Verifier(
                    options, storage, objects, ledger, verification, progress or NullProgress(), stop
                )
                await verifier.verify_all()
                await verify_derived_files(
                    objects, ledger, verification, stop, deep=options.deep, repair=options.repair
                )
                await find_untracked_files(options, objects, ledger, verification)
        finally:
            stop.set()
    return verification


@asynccontextmanager
async def _open_ledger(storage: Storage, *, repair: bool) -> AsyncIterator[Ledger]:
    if repair:
        await require_ledger(storage)
        run_id = f"verify-{secrets.token_hex(3)}"
        async with open_locked_ledger(storage, run_id) as ledger:
            yield ledger
        return
    async with open_readable_ledger(storage) as found:
        if found is None:
            raise LedgerMissingError(storage.state.setting)
        yield found


@dataclass(frozen=True, slots=True)
class CheckResult:
    """State of the file of one ledger row."""

    row: FileRow
    file: CommittedFile
    state: FileState
    detail: str = ""

    @property
    def is_repairable(self) -> bool:
        """Whether a new download can help. An unreadable file may be complete."""
        return self.state not in (FileState.OK, FileState.UNREADABLE)


class Verifier:
    """Checks all completed outputs of one ledger."""

    def __init__(
        self,
        options: VerifyOptions,
        storage: Storage,
        objects: ReadableObjects,
        ledger: Ledger,
        verification: Verification,
        progress: VerifyProgress,
        stop: threading.Event,
    ) -> None:
        self._options = options
        self._storage = storage
        self._objects = objects
        self._ledger = ledger
        self._verification = verification
        self._progress = progress
        self._stop = stop
        self._batches: Channel[Sequence[FileRow]] = Channel(4 * options.workers)

    async def verify_all(self) -> None:
        """Check all completed outputs, and repair them if *options* contain ``repair``."""
        self._progress.start(*await self._ledger.read(maintenance_queries.count_completed))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_rows(), name="verify-rows")
            for number in range(self._options.workers):
                group.create_task(self._check_batches(), name=f"verify-{number}")

    async def _read_rows(self) -> None:
        last_id = 0
        while rows := await self._ledger.read(
            partial(maintenance_queries.list_completed_after, row_id=last_id)
        ):
            last_id = rows[-1].row_id
            for _, rows_of_job in groupby(rows, key=lambda row: row.record.output.container.id):
                await self._batches.put(list(rows_of_job))
        self._batches.close()

    async def _check_batches(self) -> None:
        async for rows in self._batches:
            results = await self._check(self._objects, rows)
            if self._objects.is_remote:  # an object can have been replaced after the list was read
                results = await self._check_again(results)
            results = await self._accept_replaced(results)
            for result in results:
                self._record_result(result)
            if self._options.repair:
                await self._repair([result for result in results if result.is_repairable])

    async def _check(self, objects: ReadableObjects, rows: Sequence[FileRow]) -> list[CheckResult]:
        infos = await find_objects(objects, [row.record.file.key for row in rows if row.record.file])
        return await asyncio.to_thread(check_files, objects, rows, infos, self._stop, deep=self._options.deep)

    async def _check_again(self, results: list[CheckResult]) -> list[CheckResult]:
        """Return *results*, with those that are not OK replaced by a check without the list."""
        rows = [result.row for result in results if result.state is not FileState.OK]
        checked = await self._check(self._storage.destination, rows) if rows else []
        by_row = {result.row.row_id: result for result in checked}
        return [by_row.get(result.row.row_id, result) for result in results]

    async def _accept_replaced(self, results: list[CheckResult]) -> list[CheckResult]:
        """Return *results*, with OK for missing archives that their unpacked members replace."""
        missing = {
            result.row.record.output.container for result in results if result.state is FileState.MISSING
        }
        if not missing:
            return results
        replaced = await find_replaced_keys(self._objects, self._ledger, missing)
        return [
            replace(result, state=FileState.OK, detail="")
            if result.state is FileState.MISSING and result.file.key in replaced
            else result
            for result in results
        ]

    def _record_result(self, result: CheckResult) -> None:
        output, file = result.row.record.output, result.file
        self._verification.count(output.kind, result.state, file.size_bytes)
        self._progress.advance(1, file.size_bytes)
        if result.state is not FileState.OK:
            add_finding(self._verification, Finding(file.key, result.state, result.detail, output))

    async def _repair(self, results: Sequence[CheckResult]) -> None:
        if not results:
            return
        rejected = [(result.row.row_id, f"verify: {result.state}: {result.detail}") for result in results]
        await self._ledger.write(partial(maintenance_queries.mark_for_redownload, rejected=rejected))
        # A partial file whose sidecar records a committed file would cause the damaged file to be adopted.
        for result in results:
            await self._storage.partial_file(result.row.record.output).discard()
        self._verification.repaired += len(results)


def check_files(
    destination: ReadableObjects,
    rows: Sequence[FileRow],
    infos: Mapping[str, ObjectInfo],
    stop: threading.Event,
    *,
    deep: bool,
) -> list[CheckResult]:
    """Check the files of *rows*, one after another; blocks."""
    digests: dict[str, Digest] = {}
    results = []
    for row in rows:
        if (file := row.record.file) is not None:
            state, detail = check_file(
                destination, file, infos.get(file.key), digests if deep else None, stop
            )
            results.append(CheckResult(row, file, state, detail))
    return results


async def find_untracked_files(
    options: VerifyOptions, destination: ReadableObjects, ledger: Ledger, verification: Verification
) -> None:
    """Add the objects of *destination* that are not in *ledger* to *verification*."""
    matcher = PathMatcher(options.layouts)
    has_catalog = await asyncio.to_thread(has_catalogue, options.output)
    async for infos in destination.list_objects(matcher.can_be_folder):
        keys = [info.key for info in infos if not (has_catalog and is_part_of_catalogue(info.key))]
        untracked = await ledger.read(partial(_select_untracked, keys=keys, matcher=matcher))
        verification.add_untracked(untracked)


def _select_untracked(connection: Connection, keys: Sequence[str], matcher: PathMatcher) -> list[str]:
    parsed_keys = {key: parsed for key in keys if (parsed := matcher.match(key)) is not None}
    ids = list({parsed.container.container_id for parsed in parsed_keys.values()})
    containers = maintenance_queries.find_recorded_containers(connection, ids)
    tracked = set(maintenance_queries.list_keys_of_containers(connection, ids))
    tracked |= {
        key
        for key, parsed in parsed_keys.items()
        if parsed.is_document and any(map(parsed.belongs_to, containers))
    }
    candidates = [key for key in keys if key not in tracked]
    # Files that were written with other path templates are found by their key.
    storable = [key for key in candidates if is_utf8(key)]
    tracked_by_key = maintenance_queries.find_recorded_keys(connection, storable) if storable else set()
    tracked_by_key |= derived_queries.find_derived_among(connection, storable)
    return [key for key in candidates if key not in tracked_by_key]
