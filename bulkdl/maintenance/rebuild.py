"""
Recreate a lost ledger from the files. ``container_directory.py`` reads them; this module records them.

The documents of a container determine its outputs, and the path templates determine the paths. A file is
recorded only after its structure was verified, in the same way as a download without a server checksum.

A rebuild cannot restore validators, object addresses and the reason why an output does not exist. These
outputs are recorded as planned, and the next run requests them.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from contextlib import aclosing
from functools import partial
from sqlite3 import Connection

from bulkdl.concurrency import Channel
from bulkdl.destinations.interfaces import Destination
from bulkdl.errors import ApiError, ConfigError
from bulkdl.ledger import maintenance_queries, queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.locked import open_locked_ledger
from bulkdl.log import get_logger
from bulkdl.maintenance.container_directory import ContainerDirectoryReader, RebuiltContainer
from bulkdl.maintenance.damaged_ledger import rename_if_damaged
from bulkdl.maintenance.file_checks import add_finding
from bulkdl.maintenance.unpacked_archives import record_archives
from bulkdl.maintenance.verify import (
    NullProgress,
    VerifyOptions,
    VerifyProgress,
    find_untracked_files,
)
from bulkdl.report.verification import FileState, Finding, Verification
from bulkdl.sources.path_matcher import ParsedKey, PathMatcher
from bulkdl.state.storage import Storage

log = get_logger(__name__)


async def rebuild(
    options: VerifyOptions, progress: VerifyProgress | None = None, *, stop: threading.Event | None = None
) -> Verification:
    """
    Write a new ledger from the files of an output directory.

    Args:
        stop: Set when the rebuild ends or is cancelled. The threads then end after the current block.

    Raises:
        ConfigError: The ledger contains containers, or the directory contains no document of a container.
        OutputLockedError: A run has locked the directory.
        LedgerVersionError: A newer version of bulkdl wrote the existing ledger.
        DestinationError: The existing ledger cannot be read; it is not changed.
    """
    verification = Verification(str(options.output), "rebuild")
    stop = stop or threading.Event()
    async with options.create_storage() as storage:
        has_state = await asyncio.to_thread(storage.state.path.is_dir)
        if not has_state and not await _has_objects(storage.destination):
            raise ConfigError(
                f"--output {options.output}",
                "is not a directory with files; name the directory that contains the outputs",
            )
        verification.damaged_ledger = await rename_if_damaged(storage)
        run_id = f"rebuild-{secrets.token_hex(3)}"
        async with open_locked_ledger(storage, run_id, ignore_snapshot=True) as ledger:
            rebuilder = Rebuilder(
                options, storage, ledger, verification, run_id, progress or NullProgress(), stop
            )
            try:
                await rebuilder.rebuild_all()
            finally:
                stop.set()
    log.info("ledger.rebuilt", containers=verification.containers, rejected=verification.findings_total)
    return verification


async def _has_objects(destination: Destination) -> bool:
    async with aclosing(destination.list_objects(lambda _key: True)) as pages:
        async for _ in pages:
            return True
    return False


class Rebuilder:
    """Records the containers of a directory in the ledger, each container in one transaction."""

    def __init__(
        self,
        options: VerifyOptions,
        storage: Storage,
        ledger: Ledger,
        verification: Verification,
        run_id: str,
        progress: VerifyProgress,
        stop: threading.Event,
    ) -> None:
        self._options = options
        self._destination = storage.destination
        self._reader = ContainerDirectoryReader(storage.destination, storage.state.path, stop)
        self._ledger = ledger
        self._verification = verification
        self._run_id = run_id
        self._progress = progress
        self._documents: Channel[ParsedKey] = Channel(4 * options.workers)

    async def rebuild_all(self) -> None:
        """
        Record all containers of the destination, and add the files of no container to the verification.

        Raises:
            ConfigError: The ledger contains containers, or the destination contains none.
        """
        option = f"--output {self._options.output}"
        if not await self._ledger.write(partial(maintenance_queries.start_rebuild, run_id=self._run_id)):
            raise ConfigError(
                option, "has a ledger that is not empty; use bulkdl verify to check the files against it"
            )
        await self._record_containers()
        if not self._verification.containers and not self._verification.findings_total:
            layouts = self._options.layouts
            paths = " or ".join(
                each.templates[name] for each in layouts for name in each.source_type.container_templates
            )
            raise ConfigError(
                option, f"contains no {paths}; use the same path_templates as the run that wrote the files"
            )
        await find_untracked_files(self._options, self._destination, self._ledger, self._verification)
        await self._ledger.write(maintenance_queries.finish_rebuild)

    async def _record_containers(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._find_documents(), name="rebuild-tree")
            for number in range(self._options.workers):
                group.create_task(self._rebuild_containers(), name=f"rebuild-{number}")

    async def _find_documents(self) -> None:
        matcher = PathMatcher(self._options.layouts)
        async for infos in self._destination.list_objects(matcher.can_be_folder):
            for info in infos:
                parsed = matcher.match(info.key)
                if parsed is not None and parsed.is_container:
                    await self._documents.put(parsed)
        self._documents.close()

    async def _rebuild_containers(self) -> None:
        async for parsed in self._documents:
            key = parsed.container.key
            if await self._ledger.read(partial(_is_recorded, parsed=parsed)):
                continue
            try:
                rebuilt = await self._reader.read(parsed.layout, parsed.container)
            except ApiError as failure:
                add_finding(self._verification, Finding(key, FileState.DAMAGED, failure.detail))
            except OSError as error:
                detail = error.strerror or str(error)
                add_finding(self._verification, Finding(key, FileState.UNREADABLE, detail))
            else:
                await self._ledger.write(partial(_write, rebuilt=rebuilt, run_id=self._run_id))
                self._count(rebuilt)

    def _count(self, rebuilt: RebuiltContainer) -> None:
        self._verification.count_container(rebuilt.listing.container.ref.source)
        for result in rebuilt.results:
            size_bytes = result.file.size_bytes if result.file else 0
            self._verification.count(result.output.kind, FileState.OK, size_bytes)
            self._progress.advance(1, size_bytes)
        for finding in rebuilt.findings:
            if finding.output is not None:
                self._verification.count(finding.output.kind, finding.state, 0)
            add_finding(self._verification, finding)


def _is_recorded(connection: Connection, parsed: ParsedKey) -> bool:
    """Return whether an interrupted rebuild has already recorded this container."""
    containers = maintenance_queries.find_recorded_containers(connection, [parsed.container.container_id])
    return any(map(parsed.belongs_to, containers))


def _write(connection: Connection, rebuilt: RebuiltContainer, run_id: str) -> None:
    queries.plan_container(connection, rebuilt.listing)
    queries.record_results(connection, rebuilt.results, run_id)
    record_archives(connection, rebuilt.archives)
