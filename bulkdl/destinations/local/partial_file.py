"""
A part on local disk: a data file, and beside it a JSON sidecar that says of which object it is.

The sidecar names the data file, and a new object always gets a new data file. So replacing the
sidecar, one atomic rename, is the moment at which the old bytes stop counting: at no point in time
can bytes of one object stand beside the validator of another, whatever is killed when.

Before the data file gets its final name, the receipt goes into the sidecar, and there it stays until
the ledger has it (``release``): whoever dies in between has not to fetch a whole archive again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO

from bulkdl.concurrency import Executors, open_stoppable, run_in, run_stoppable
from bulkdl.destinations.local import atomic_files, extent_map, sidecar_format
from bulkdl.destinations.local.disk_space import DiskReservations
from bulkdl.destinations.local.errors import map_os_errors, translated_name, with_open_files
from bulkdl.errors import DestinationError
from bulkdl.models import CommittedFile, Extent, Kind, Output, RemoteObject, ResumeState

T = TypeVar("T")

_HINT_BYTES = 8 << 20

# What a half-written or foreign sidecar looks like, or one whose bytes are gone.
_UNUSABLE = (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError)


class PartialFile:
    """
    The part of one output. Not for use by two workers at once.

    Args:
        folder: Where parts live; on the same file system as *locate*'s answers.
        locate: Gives the path of a key.
        room: The account of who is promised how much of the file system.
        executors: Where blocking work is done.
        sync: Make a file durable as it is committed; without it somebody else does, before it counts.
    """

    def __init__(
        self,
        output: Output,
        folder: Path,
        locate: Callable[[str], Path],
        room: DiskReservations,
        executors: Executors,
        *,
        sync: bool = True,
    ) -> None:
        self._output = output
        self._folder = folder
        self._locate = locate
        self._reservations = room
        self._executors = executors
        self._sync = sync
        self._stem = hashlib.sha256(output.identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._data: Path | None = None
        self._is_open_ended = False
        self._stream: AsyncFileIO | None = None
        self._unsynced_bytes = 0
        self._writing: asyncio.Future[None] | None = None
        self._writes: set[asyncio.Future[Extent]] = set()

    @property
    def _sidecar(self) -> Path:
        return self._folder / f"{self._stem}.json"

    @property
    def _data_file(self) -> Path:
        if self._data is None:
            raise RuntimeError("the part has no data file: call begin() or look() first")
        return self._data

    async def _on_disk(self, call: Callable[..., T], *args: object) -> T:
        """Run *call*, which is repeatable, in a thread."""
        return await with_open_files(partial(run_in, self._executors.disk, call, *args))

    async def load(self) -> ResumeState | CommittedFile | None:
        found = await self._on_disk(self._load)
        if isinstance(found, ResumeState) and found.extents:
            return await run_stoppable(self._executors.archives, self._check_extents, found)
        return found

    def _check_extents(self, stop: threading.Event, state: ResumeState) -> ResumeState:
        """Keep the extents whose bytes still have their checksum."""
        with map_os_errors(self._folder), open_stoppable(self._data_file, stop) as stream:
            kept = extent_map.verify_extents(stream, state.extents or ())
        return ResumeState(state.object, sum(extent.size_bytes for extent in kept), kept)

    def _load(self) -> ResumeState | CommittedFile | None:
        with map_os_errors(self._sidecar):
            try:
                text = self._sidecar.read_bytes()
            except FileNotFoundError:
                return None
            try:
                found = self._parse_sidecar(json.loads(text))
            except _UNUSABLE:
                found = None
            if found is None:
                self._remove()
        return found

    def _parse_sidecar(self, sidecar: dict[str, Any]) -> ResumeState | CommittedFile | None:
        data = self._folder / Path(sidecar["data"]).name
        if not data.name.startswith(f"{self._stem}-"):
            raise ValueError("the bytes of another part")
        if "committed" in sidecar and not data.exists():
            return self._committed_file(sidecar)
        state = self._state(sidecar, data)
        if state is not None:
            self._data = data
        return state

    def _state(self, sidecar: dict[str, Any], data: Path) -> ResumeState | None:
        stored = sidecar_format.object_in(sidecar)
        if sidecar.get("divided"):
            return self._segmented_state(stored, data)
        at_bytes = data.stat().st_size
        is_too_long = stored.total_bytes is not None and at_bytes > stored.total_bytes
        return None if is_too_long else ResumeState(stored, at_bytes)

    def _segmented_state(self, stored: RemoteObject, data: Path) -> ResumeState:
        told = tuple(extent_map.parse_extents(_map_of(data).read_bytes(), stored.total_bytes or 0))
        data.stat()
        return ResumeState(stored, sum(extent.size_bytes for extent in told), told)

    def _committed_file(self, sidecar: dict[str, Any]) -> CommittedFile | None:
        receipt = sidecar_format.receipt_in(sidecar)
        final = self._locate(receipt.key)
        with translated_name(final):
            try:
                is_there = final.stat().st_size == receipt.size_bytes
            except (FileNotFoundError, NotADirectoryError):
                is_there = False
        return receipt if is_there else None

    async def create(self, stored: RemoteObject, *, divided: bool = False) -> None:
        await self.flush_and_close()
        await self._on_disk(self._create, stored, divided)

    def _create(self, stored: RemoteObject, divided: bool) -> None:
        with map_os_errors(self._folder):
            self._remove()
            self._reserve(stored.total_bytes, 0)
            data = self._folder / f"{self._stem}-{secrets.token_hex(4)}.part"
            self._write_sidecar(sidecar_format.of_object(self._output, stored, data.name, divided=divided))
            data.touch()
            self._data = data
            if divided:
                atomic_files.allocate(data, stored.total_bytes or 0)  # a full disk is noticed now
                _map_of(data).touch()
                self._reservations.consume(self._stem, _allocated_bytes(data))

    def _write_sidecar(self, document: dict[str, Any]) -> None:
        aside = self._sidecar.with_suffix(".tmp")
        text = json.dumps(document, indent=1)
        atomic_files.write_file(aside, text.encode("utf-8", "surrogatepass"))
        atomic_files.publish(aside, self._sidecar)

    async def resume(self, state: ResumeState) -> None:
        await run_in(self._executors.disk, self._resume, state)

    def _resume(self, state: ResumeState) -> None:
        with map_os_errors(self._folder):
            is_divided = state.extents is not None
            held_bytes = max(state.offset, _allocated_bytes(self._data_file) if is_divided else 0)
            self._reserve(state.object.total_bytes, held_bytes)

    def _reserve(self, total_bytes: int | None, held_bytes: int) -> None:
        """Have room for what is missing; of a body of unknown length for each block as it comes."""
        self._is_open_ended = total_bytes is None
        self._reservations.reserve(self._stem, max(0, (total_bytes or 0) - held_bytes))

    async def write(self, block: bytes) -> None:
        await self._await_pending_write()
        with map_os_errors(self._folder):
            if self._is_open_ended:
                await run_in(self._executors.disk, self._reservations.reserve, self._stem, len(block))
        if self._stream is None:
            self._writing = asyncio.ensure_future(self._open())
            await self._await_pending_write()
        self._writing = asyncio.ensure_future(self._append(block))

    async def _open(self) -> None:
        self._stream = await with_open_files(self._open_data)

    async def _open_data(self) -> AsyncFileIO:
        with map_os_errors(self._folder):
            return await aiofiles.open(self._data_file, "ab", buffering=0, executor=self._executors.disk)

    async def _append(self, block: bytes) -> None:
        stream = self._stream
        if stream is None:
            raise RuntimeError("the part is not open for writing")
        await _write_all(stream, block)
        self._reservations.consume(self._stem, len(block))
        self._unsynced_bytes += len(block)
        if self._sync and self._unsynced_bytes >= _HINT_BYTES:
            self._unsynced_bytes = 0
            await run_in(self._executors.disk, atomic_files.start_writeback, stream.fileno())

    async def _await_pending_write(self) -> None:
        """
        Wait for the write under way: two writers would mix.

        Who is cancelled meanwhile leaves it, and how it ends, to whoever comes next.
        """
        if self._writing is not None:
            with map_os_errors(self._folder):
                try:
                    await asyncio.shield(self._writing)
                except (OSError, DestinationError):
                    self._writing = None
                    raise
            self._writing = None

    async def write_at(self, start: int, chunks: Sequence[bytes]) -> Extent:
        write = asyncio.ensure_future(self._on_disk(self._write_at, self._data_file, start, chunks))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        return await asyncio.shield(write)

    def _write_at(self, data: Path, start: int, chunks: Sequence[bytes]) -> Extent:
        extent = extent_map.extent_of(start, chunks)
        with map_os_errors(self._folder):
            atomic_files.pwrite_chunks(data, start, chunks, hint=self._sync)
            atomic_files.append_line(_map_of(data), extent_map.format_extent(extent))
        self._reservations.consume(self._stem, extent.size_bytes)
        return extent

    async def flush_and_close(self) -> None:
        while self._writes:  # a cancelled worker leaves its write to the thread
            await asyncio.wait(self._writes)
        try:
            await self._await_pending_write()
        finally:
            if self._stream is not None and self._writing is None:
                stream, self._stream = self._stream, None
                await stream.close()

    async def read_head(self, size_bytes: int) -> bytes:
        await self.flush_and_close()
        return await self._on_disk(self._read_head, size_bytes)

    def _read_head(self, size_bytes: int) -> bytes:
        with map_os_errors(self._folder), self._data_file.open("rb", buffering=0) as stream:
            return stream.read(size_bytes)

    async def read(self, reader: Callable[[BinaryIO], T], body: bytes = b"") -> T:
        await self.flush_and_close()
        is_archive = self._output.kind is Kind.ARCHIVE
        executor = self._executors.archives if is_archive else self._executors.files
        return await run_stoppable(executor, self._read, reader, body)

    def _read(self, stop: threading.Event, reader: Callable[[BinaryIO], T], body: bytes) -> T:
        with map_os_errors(self._folder), open_stoppable(self._data or body, stop) as stream:
            return reader(stream)

    async def commit(self, receipt: CommittedFile, body: bytes = b"") -> None:
        await self.flush_and_close()
        await self._on_disk(self._commit, receipt, body)

    def _commit(self, receipt: CommittedFile, body: bytes) -> None:
        final = self._locate(receipt.key)
        if self._data is None:
            self._commit_small(final, body)
            return
        with map_os_errors(self._folder):
            if self._sync:
                atomic_files.sync_file(self._data)
            self._write_sidecar(sidecar_format.of_receipt(self._output, receipt, self._data.name))
        with translated_name(final):
            atomic_files.rename_into_place(self._data, final)
        self._data = None
        self._reservations.release(self._stem)

    def _commit_small(self, final: Path, data: bytes) -> None:
        """All of it is in memory: no part, no sidecar, one step."""
        aside = self._folder / f"{self._stem}.tmp"
        with map_os_errors(self._folder):
            atomic_files.write_file(aside, data, sync=self._sync)
        with translated_name(final):
            try:
                atomic_files.rename_into_place(aside, final)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise

    async def forget(self) -> None:
        await self._on_disk(self._forget)

    def _forget(self) -> None:
        with map_os_errors(self._sidecar):
            self._remove()

    async def discard(self) -> None:
        await self.flush_and_close()
        await self._on_disk(self._discard)

    def _discard(self) -> None:
        with map_os_errors(self._folder):
            self._remove()

    def close(self) -> None:
        self._reservations.release(self._stem)

    def _remove(self) -> None:
        """The sidecar goes first, then every data file, also one that a crash has left without."""
        self._data = None
        self._reservations.release(self._stem)
        self._sidecar.unlink(missing_ok=True)
        for data in self._folder.glob(f"{self._stem}-*"):  # data and map
            data.unlink(missing_ok=True)


def find_orphans(names: set[str]) -> set[str]:
    """Those of the *names* in the folder of parts that no run will come back for."""
    return {name for name in names if name.endswith(".tmp") or _is_orphan(name, names)}


def _is_orphan(name: str, names: set[str]) -> bool:
    stem, _, rest = name.partition("-")
    return rest.endswith((".part", ".map")) and f"{stem}.json" not in names


async def _write_all(stream: AsyncFileIO, block: bytes) -> int:
    view = memoryview(block)
    while view:
        view = view[await stream.write(view) :]
    return len(block)


def _map_of(data: Path) -> Path:
    return data.with_suffix(".map")


def _allocated_bytes(data: Path) -> int:
    """What *data* takes up on disk: all of it once it is preallocated, less where that is not possible."""
    return data.stat().st_blocks * 512
