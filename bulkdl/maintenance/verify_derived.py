"""
Compare the files that processors derived with the ledger, such as the members of unpacked archives.

The files are read in pages. A repair lets the processor derive all files of the output again: the next run,
or ``bulkdl unpack``, does so from the downloaded file.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from functools import partial

from bulkdl.destinations.interfaces import ObjectInfo
from bulkdl.ledger import derived_queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.derived_queries import DerivedFileRow
from bulkdl.maintenance.file_checks import ReadableObjects, add_finding, check_file, find_objects
from bulkdl.models import CommittedFile, ContainerRef, Digest, Validator
from bulkdl.report.verification import FileState, Finding, Verification

_CONCURRENT_FILES = 4


async def verify_derived_files(
    destination: ReadableObjects,
    ledger: Ledger,
    verification: Verification,
    stop: threading.Event,
    *,
    deep: bool,
    repair: bool,
) -> None:
    """Check all derived files that have a checksum, and add the differences to *verification*."""
    async for rows in _iter_pages(ledger):
        infos = await find_objects(destination, [row.file.key for row in rows])
        parts = [rows[number::_CONCURRENT_FILES] for number in range(_CONCURRENT_FILES)]
        results = await asyncio.gather(
            *(asyncio.to_thread(_check, destination, part, infos, stop, deep=deep) for part in parts)
        )
        damaged = set()
        for row, state, detail in (result for part in results for result in part):
            verification.count(row.processor, state, row.file.size_bytes)
            if state is not FileState.OK:
                add_finding(verification, Finding(row.file.key, state, detail, row.output, row.processor))
            if state not in (FileState.OK, FileState.UNREADABLE):
                damaged.add((row.output_id, row.processor))
        if repair and damaged:
            await ledger.write(partial(derived_queries.mark_for_processing, outputs=damaged))
            verification.repaired += len(damaged)


async def find_replaced_keys(
    destination: ReadableObjects, ledger: Ledger, containers: Collection[ContainerRef]
) -> set[str]:
    """Return the keys of the archives in *containers* whose unpacked members exist with their sizes."""
    found = set()
    for container in containers:
        for archive in await ledger.read(partial(derived_queries.read_unpacked, container=container)):
            infos = await find_objects(destination, list(archive.members))
            sizes = {key: info.size_bytes for key, info in infos.items()}
            if sizes == archive.members:
                found.add(archive.key)
    return found


async def _iter_pages(ledger: Ledger) -> AsyncIterator[list[DerivedFileRow]]:
    last_id = 0
    while rows := await ledger.read(partial(derived_queries.list_derived_files_after, row_id=last_id)):
        yield rows
        last_id = rows[-1].row_id


def _check(
    destination: ReadableObjects,
    rows: Sequence[DerivedFileRow],
    infos: Mapping[str, ObjectInfo],
    stop: threading.Event,
    *,
    deep: bool,
) -> list[tuple[DerivedFileRow, FileState, str]]:
    """Check files, one after another; blocks."""
    results = []
    for row in rows:
        assert row.file.digest is not None  # noqa: S101 - the query selects rows with a digest
        file = CommittedFile(row.file.key, row.file.size_bytes, row.file.digest, Validator(), None)
        digests: dict[str, Digest] | None = {} if deep else None
        results.append((row, *check_file(destination, file, infos.get(file.key), digests, stop)))
    return results
