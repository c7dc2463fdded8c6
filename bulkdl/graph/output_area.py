"""The area where a processor writes its derived files."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Protocol, Self, TypeVar

from bulkdl.concurrency import Executors, check_stop, open_stoppable, run_in, run_stoppable, shield_until_done
from bulkdl.destinations.interfaces import STATE_FOLDER, CompletedFile
from bulkdl.disk import atomic_files
from bulkdl.errors import DestinationError, ProcessingError
from bulkdl.graph.scratch import PreparedOutput, ScratchFolder
from bulkdl.ledger import derived_queries, maintenance_queries
from bulkdl.ledger.database import Ledger
from bulkdl.models import CommittedFile, Digest, Durability, Reason, Validator
from bulkdl.os_errors import map_os_errors, map_path_errors
from bulkdl.processors.interfaces import DerivedFile
from bulkdl.sources.path_matcher import PathMatcher
from bulkdl.state.storage import Storage
from bulkdl.transfer.checksums import Digester

P = ParamSpec("P")
T = TypeVar("T")

_MAX_PART_BYTES = 255
_BLOCK_BYTES = 1 << 20


def check_key(key: str) -> str:
    """
    Return *key* if a derived file can have it.

    Raises:
        ProcessingError: It is not a relative path below the destination, is inside the state directory, or
            contains a name that cannot be stored.
    """
    parts = key.split("/")
    is_valid = (
        key.isprintable()  # also rejects surrogates, which the ledger cannot store
        and not any(part in ("", ".", "..") or "\\" in part for part in parts)
        and all(len(part.encode()) <= _MAX_PART_BYTES for part in parts)
        and parts[0].casefold() != STATE_FOLDER
    )
    if not is_valid:
        raise ProcessingError(
            Reason.PROCESSOR_FAILED,
            f"invalid key: {key[:200]!r} is not a path below the output directory; the processor must use "
            "relative paths with forward slashes and printable names",
        )
    return key


class AreaContext(Protocol):
    """What all areas of a run share."""

    @property
    def storage(self) -> Storage:
        """The destination and the state directory."""

    @property
    def executors(self) -> Executors:
        """Threads for blocking calls."""

    @property
    def ledger(self) -> Ledger:
        """The ledger of the state directory."""

    @property
    def documents(self) -> PathMatcher:
        """Finds the documents of the sources by their keys."""


class StorageArea:
    """
    The area of one call of a processor; see ``processors.interfaces.OutputArea``.

    Use it as an async context manager. Leaving the block removes the scratch paths and the reservation.

    Args:
        processor: The name of the processor.
        output_id: The ledger row of the output; None for the step at the end of a run.
        take_prepared: Returns what the processor prepared from the content. The area removes it at the end.
    """

    def __init__(
        self,
        context: AreaContext,
        processor: str,
        output_id: int | None,
        take_prepared: Callable[[], PreparedOutput | None] = lambda: None,
    ) -> None:
        storage = context.storage
        self._destination = storage.destination
        self._folders = storage.destination.folders
        self._state = storage.state
        self._executors = context.executors
        self._ledger = context.ledger
        self._documents = context.documents
        self._processor = processor
        self._output_id = output_id
        self._scratch = ScratchFolder(storage)
        self._take_prepared = take_prepared
        self._prepared: PreparedOutput | None = None
        self._keys: set[str] = set()
        self._own_keys: set[str] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await shield_until_done(run_in(self._executors.processing, self._clean_up))

    def _clean_up(self) -> None:
        self._scratch.remove()
        if self._prepared is not None:
            self._prepared.scratch.remove()

    @property
    def prepared(self) -> object:
        if self._prepared is None:
            self._prepared = self._take_prepared()
        return self._prepared.result if self._prepared is not None else None

    @property
    def state_folder(self) -> Path:
        folder = self._state.path / "processors" / self._processor
        with map_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def new_path(self) -> Path:
        return self._scratch.new_path()

    async def write(self, key: str, data: bytes) -> DerivedFile:
        path = self.new_path()
        await self.run(partial(_write_file, path, data))
        return await self.publish(path, key)

    async def publish(self, path: Path, key: str) -> DerivedFile:
        await self._check_target(key, replace=True)
        size_bytes, digest = await self.run(self._seal, path)
        file = CommittedFile(key, size_bytes, digest, Validator(), None)
        await self._destination.publish(CompletedFile(path, owner_id=self._scratch.owner_id), file)
        self._keys.add(key)
        return DerivedFile(key, size_bytes, digest)

    async def publish_folder(self, path: Path, key: str, *, replace: bool = False) -> DerivedFile:
        check_key(key)
        if self._folders is None:
            raise ProcessingError(
                Reason.PROCESSOR_FAILED,
                f"{self._destination.location}: the destination has no folders; the processor must declare "
                "that it requires them",
            )
        await self._check_target(key, replace=replace)
        size_bytes = await self._folders.publish_folder(path, key)
        self._keys.add(key)
        return DerivedFile(key, size_bytes)

    def reserve(self, size_bytes: int) -> None:
        self._scratch.reserve(size_bytes)

    def consume(self, size_bytes: int) -> None:
        self._scratch.consume(size_bytes)

    async def run(
        self, call: Callable[Concatenate[threading.Event, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await run_stoppable(self._executors.processing, partial(call, **kwargs), *args)

    async def sync(self) -> None:
        """Make the names of the published files durable, as the durability requires."""
        if self._keys:
            await self._destination.flush(self._keys)

    async def _check_target(self, key: str, *, replace: bool) -> None:
        """
        Check that this call may publish *key*.

        The ledger is searched only if the key exists and is not recorded as derived from the same output:
        the search reads the rows of all outputs.
        """
        check_key(key)
        await self._check_documents([key])
        if not await self._exists(key) or key in await self._find_own_keys():
            return
        if not replace:
            raise DestinationError(Reason.PATH_BLOCKED, f"{key}: exists and is not a derived folder")
        if await self._ledger.read(partial(derived_queries.has_output_at, key=key)):
            raise DestinationError(
                Reason.PATH_BLOCKED, f"{key}: a derived file must not replace the file of an output"
            )
        if self._folders is not None:
            await self._check_documents(await self.run(_list_keys_below, self._folders.locate(key), key))

    async def _find_own_keys(self) -> set[str]:
        """Return the keys that the ledger records as derived from the same output."""
        if self._own_keys is None:
            self._own_keys = await self._ledger.read(
                partial(
                    derived_queries.find_derived_keys, output_id=self._output_id, processor=self._processor
                )
            )
        return self._own_keys

    async def _check_documents(self, keys: Iterable[str]) -> None:
        """Check that none of *keys* is the key of a document of a recorded container."""
        parsed_keys = [parsed for key in keys for parsed in self._documents.match_documents(key)]
        if not parsed_keys:
            return
        ids = list({parsed.container.container_id for parsed in parsed_keys})
        containers = await self._ledger.read(partial(maintenance_queries.find_recorded_containers, ids=ids))
        for parsed in parsed_keys:
            if any(map(parsed.belongs_to, containers)):
                raise DestinationError(
                    Reason.PATH_BLOCKED,
                    f"{parsed.key}: a derived file must not replace a document of the source",
                )

    async def _exists(self, key: str) -> bool:
        if self._folders is None:
            return key in await self._destination.stat([key])
        return await self._folders.has_entry(key)

    def _seal(self, stop: threading.Event, path: Path) -> tuple[int, Digest]:
        """Return size and digest of the file at *path*, which is durable if the durability requires it."""
        with map_path_errors(path):
            size_bytes, digest = _measure(stop, path)
            if self._state.durability is Durability.FULL:
                atomic_files.sync_file(path)
        check_stop(stop)
        return size_bytes, digest


def _list_keys_below(stop: threading.Event, folder: Path, key: str) -> list[str]:
    """Return the keys of the files in *folder*, whose key is *key*. Links are not followed."""
    keys = []
    for parent, _, names in os.walk(folder):
        check_stop(stop)
        prefix = f"{key}/{Path(parent).relative_to(folder).as_posix()}/".replace("/./", "/")
        keys += [prefix + name for name in names]
    return keys


def _write_file(path: Path, data: bytes, _stop: threading.Event) -> None:
    with map_os_errors(path):
        atomic_files.write_file(path, data, sync=False)


def _measure(stop: threading.Event, path: Path) -> tuple[int, Digest]:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise DestinationError(Reason.PATH_BLOCKED, f"{path}: is not a regular file")
    size_bytes, digester = 0, Digester()
    with open_stoppable(path, stop) as stream:
        while block := stream.read(_BLOCK_BYTES):
            size_bytes += len(block)
            digester.update(block)
    return size_bytes, digester.crc32c
