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
from bulkdl.errors import SinkFailure
from bulkdl.model import Extent, Kind, Output, PartState, Receipt, StoredObject
from bulkdl.sink import durable, extents, sidecars
from bulkdl.sink.errors import translated, translated_name, with_open_files
from bulkdl.sink.room import Room

T = TypeVar("T")

_HINT_BYTES = 8 << 20

# What a half-written or foreign sidecar looks like, or one whose bytes are gone.
_UNUSABLE = (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError)


class LocalPart:
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
        room: Room,
        executors: Executors,
        *,
        sync: bool = True,
    ) -> None:
        self._output = output
        self._folder = folder
        self._locate = locate
        self._room = room
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

    async def look(self) -> PartState | Receipt | None:
        found = await self._on_disk(self._look)
        if isinstance(found, PartState) and found.extents:
            return await run_stoppable(self._executors.archives, self._check_extents, found)
        return found

    def _check_extents(self, stop: threading.Event, state: PartState) -> PartState:
        """Keep the extents whose bytes still have their checksum."""
        with translated(self._folder), open_stoppable(self._data_file, stop) as stream:
            kept = extents.holding(stream, state.extents or ())
        return PartState(state.object, sum(extent.size_bytes for extent in kept), kept)

    def _look(self) -> PartState | Receipt | None:
        with translated(self._sidecar):
            try:
                text = self._sidecar.read_bytes()
            except FileNotFoundError:
                return None
            try:
                found = self._told(json.loads(text))
            except _UNUSABLE:
                found = None
            if found is None:
                self._remove()
        return found

    def _told(self, sidecar: dict[str, Any]) -> PartState | Receipt | None:
        data = self._folder / Path(sidecar["data"]).name
        if not data.name.startswith(f"{self._stem}-"):
            raise ValueError("the bytes of another part")
        if "committed" in sidecar and not data.exists():
            return self._committed(sidecar)
        state = self._state(sidecar, data)
        if state is not None:
            self._data = data
        return state

    def _state(self, sidecar: dict[str, Any], data: Path) -> PartState | None:
        stored = sidecars.object_in(sidecar)
        if sidecar.get("divided"):
            return self._divided(stored, data)
        at_bytes = data.stat().st_size
        is_too_long = stored.total_bytes is not None and at_bytes > stored.total_bytes
        return None if is_too_long else PartState(stored, at_bytes)

    def _divided(self, stored: StoredObject, data: Path) -> PartState:
        told = tuple(extents.parse(_map_of(data).read_bytes(), stored.total_bytes or 0))
        data.stat()
        return PartState(stored, sum(extent.size_bytes for extent in told), told)

    def _committed(self, sidecar: dict[str, Any]) -> Receipt | None:
        receipt = sidecars.receipt_in(sidecar)
        final = self._locate(receipt.key)
        with translated_name(final):
            try:
                is_there = final.stat().st_size == receipt.size_bytes
            except (FileNotFoundError, NotADirectoryError):
                is_there = False
        return receipt if is_there else None

    async def begin(self, stored: StoredObject, *, divided: bool = False) -> None:
        await self.pause()
        await self._on_disk(self._begin, stored, divided)

    def _begin(self, stored: StoredObject, divided: bool) -> None:
        with translated(self._folder):
            self._remove()
            self._promise(stored.total_bytes, 0)
            data = self._folder / f"{self._stem}-{secrets.token_hex(4)}.part"
            self._write_sidecar(sidecars.of_object(self._output, stored, data.name, divided=divided))
            data.touch()
            self._data = data
            if divided:
                durable.allocate(data, stored.total_bytes or 0)  # a full disk is noticed now
                _map_of(data).touch()
                self._room.written(self._stem, _allocated_bytes(data))

    def _write_sidecar(self, document: dict[str, Any]) -> None:
        aside = self._sidecar.with_suffix(".tmp")
        text = json.dumps(document, indent=1)
        durable.write_aside(aside, text.encode("utf-8", "surrogatepass"))
        durable.publish(aside, self._sidecar)

    async def resume(self, state: PartState) -> None:
        await run_in(self._executors.disk, self._resume, state)

    def _resume(self, state: PartState) -> None:
        with translated(self._folder):
            is_divided = state.extents is not None
            held_bytes = max(state.at_bytes, _allocated_bytes(self._data_file) if is_divided else 0)
            self._promise(state.object.total_bytes, held_bytes)

    def _promise(self, total_bytes: int | None, held_bytes: int) -> None:
        """Have room for what is missing; of a body of unknown length for each block as it comes."""
        self._is_open_ended = total_bytes is None
        self._room.promise(self._stem, max(0, (total_bytes or 0) - held_bytes))

    async def write(self, block: bytes) -> None:
        await self._settle()
        with translated(self._folder):
            if self._is_open_ended:
                await run_in(self._executors.disk, self._room.promise, self._stem, len(block))
        if self._stream is None:
            self._writing = asyncio.ensure_future(self._open())
            await self._settle()
        self._writing = asyncio.ensure_future(self._append(block))

    async def _open(self) -> None:
        self._stream = await with_open_files(self._open_data)

    async def _open_data(self) -> AsyncFileIO:
        with translated(self._folder):
            return await aiofiles.open(self._data_file, "ab", buffering=0, executor=self._executors.disk)

    async def _append(self, block: bytes) -> None:
        stream = self._stream
        if stream is None:
            raise RuntimeError("the part is not open for writing")
        await _write_all(stream, block)
        self._room.written(self._stem, len(block))
        self._unsynced_bytes += len(block)
        if self._sync and self._unsynced_bytes >= _HINT_BYTES:
            self._unsynced_bytes = 0
            await run_in(self._executors.disk, durable.begin_to_sync, stream.fileno())

    async def _settle(self) -> None:
        """
        Wait for the write under way: two writers would mix.

        Who is cancelled meanwhile leaves it, and how it ends, to whoever comes next.
        """
        if self._writing is not None:
            with translated(self._folder):
                try:
                    await asyncio.shield(self._writing)
                except (OSError, SinkFailure):
                    self._writing = None
                    raise
            self._writing = None

    async def write_at(self, start: int, chunks: Sequence[bytes]) -> Extent:
        write = asyncio.ensure_future(self._on_disk(self._write_at, self._data_file, start, chunks))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        return await asyncio.shield(write)

    def _write_at(self, data: Path, start: int, chunks: Sequence[bytes]) -> Extent:
        extent = extents.extent_of(start, chunks)
        with translated(self._folder):
            durable.write_into(data, start, chunks, hint=self._sync)
            durable.append_line(_map_of(data), extents.line(extent))
        self._room.written(self._stem, extent.size_bytes)
        return extent

    async def pause(self) -> None:
        while self._writes:  # a cancelled worker leaves its write to the thread
            await asyncio.wait(self._writes)
        try:
            await self._settle()
        finally:
            if self._stream is not None and self._writing is None:
                stream, self._stream = self._stream, None
                await stream.close()

    async def read_head(self, size_bytes: int) -> bytes:
        await self.pause()
        return await self._on_disk(self._read_head, size_bytes)

    def _read_head(self, size_bytes: int) -> bytes:
        with translated(self._folder), self._data_file.open("rb", buffering=0) as stream:
            return stream.read(size_bytes)

    async def read(self, reader: Callable[[BinaryIO], T], body: bytes = b"") -> T:
        await self.pause()
        is_archive = self._output.kind is Kind.ARCHIVE
        executor = self._executors.archives if is_archive else self._executors.files
        return await run_stoppable(executor, self._read, reader, body)

    def _read(self, stop: threading.Event, reader: Callable[[BinaryIO], T], body: bytes) -> T:
        with translated(self._folder), open_stoppable(self._data or body, stop) as stream:
            return reader(stream)

    async def commit(self, receipt: Receipt, body: bytes = b"") -> None:
        await self.pause()
        await self._on_disk(self._commit, receipt, body)

    def _commit(self, receipt: Receipt, body: bytes) -> None:
        final = self._locate(receipt.key)
        if self._data is None:
            self._commit_small(final, body)
            return
        with translated(self._folder):
            if self._sync:
                durable.sync_file(self._data)
            self._write_sidecar(sidecars.of_receipt(self._output, receipt, self._data.name))
        with translated_name(final):
            durable.place(self._data, final)
        self._data = None
        self._room.withdraw(self._stem)

    def _commit_small(self, final: Path, data: bytes) -> None:
        """All of it is in memory: no part, no sidecar, one step."""
        aside = self._folder / f"{self._stem}.tmp"
        with translated(self._folder):
            durable.write_aside(aside, data, sync=self._sync)
        with translated_name(final):
            try:
                durable.place(aside, final)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise

    async def release(self) -> None:
        await self._on_disk(self._release)

    def _release(self) -> None:
        with translated(self._sidecar):
            self._remove()

    async def discard(self) -> None:
        await self.pause()
        await self._on_disk(self._discard)

    def _discard(self) -> None:
        with translated(self._folder):
            self._remove()

    def close(self) -> None:
        self._room.withdraw(self._stem)

    def _remove(self) -> None:
        """The sidecar goes first, then every data file, also one that a crash has left without."""
        self._data = None
        self._room.withdraw(self._stem)
        self._sidecar.unlink(missing_ok=True)
        for data in self._folder.glob(f"{self._stem}-*"):  # data and map
            data.unlink(missing_ok=True)


def left_over(names: set[str]) -> set[str]:
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
