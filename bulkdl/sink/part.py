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
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO

from bulkdl.model import Extent, Output, PartState, Receipt, StoredObject
from bulkdl.sink import durable, extents, sidecars
from bulkdl.sink.errors import translated
from bulkdl.sink.room import Room
from bulkdl.sink.tail import WithTail

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
        sync: Make a file durable as it is committed; without it somebody else does, before it counts.
    """

    def __init__(
        self,
        output: Output,
        folder: Path,
        locate: Callable[[str], Path],
        room: Room,
        *,
        sync: bool = True,
    ) -> None:
        self._output = output
        self._folder = folder
        self._locate = locate
        self._room = room
        self._sync = sync
        self._stem = hashlib.sha256(str(output).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._data: Path | None = None
        self._is_open_ended = False
        self._stream: AsyncFileIO | None = None
        self._unsynced_bytes = 0
        self._writing: asyncio.Future[None] | None = None
        self._writes: set[asyncio.Future[Extent]] = set()

    @property
    def _sidecar(self) -> Path:
        return self._folder / f"{self._stem}.json"

    async def look(self) -> PartState | Receipt | None:
        return await asyncio.to_thread(self._look)

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
        told = extents.parse(_map_of(data).read_bytes(), stored.total_bytes or 0)
        with data.open("rb") as stream:
            kept = extents.holding(stream, told)
        return PartState(stored, sum(extent.size_bytes for extent in kept), kept)

    def _committed(self, sidecar: dict[str, Any]) -> Receipt | None:
        receipt = sidecars.receipt_in(sidecar)
        is_there = self._locate(receipt.key).stat().st_size == receipt.size_bytes
        return receipt if is_there else None

    async def begin(self, stored: StoredObject, *, divided: bool = False) -> None:
        await self.pause()
        await asyncio.to_thread(self._begin, stored, divided)

    def _begin(self, stored: StoredObject, divided: bool) -> None:
        with translated(self._folder):
            self._remove()
            self._promise(stored.total_bytes, 0)
            data = self._folder / f"{self._stem}-{secrets.token_hex(4)}.part"
            self._write_sidecar(sidecars.of_object(self._output, stored, data.name, divided=divided))
            data.touch()
            self._data = data
            if divided:
                _preallocate(data, stored.total_bytes or 0)
                self._room.written(self._stem, _allocated_bytes(data))

    def _write_sidecar(self, document: dict[str, Any]) -> None:
        aside = self._sidecar.with_suffix(".tmp")
        text = json.dumps(document, indent=1)
        durable.write_aside(aside, text.encode("utf-8", "surrogatepass"))
        durable.publish(aside, self._sidecar)

    async def resume(self, state: PartState) -> None:
        await asyncio.to_thread(self._resume, state)

    def _resume(self, state: PartState) -> None:
        assert self._data is not None, "begin() or look() comes first"  # noqa: S101
        with translated(self._folder):
            is_divided = state.extents is not None
            held_bytes = max(state.at_bytes, _allocated_bytes(self._data) if is_divided else 0)
            self._promise(state.object.total_bytes, held_bytes)

    def _promise(self, total_bytes: int | None, held_bytes: int) -> None:
        """Have room for what is missing; of a body of unknown length for each block as it comes."""
        self._is_open_ended = total_bytes is None
        self._room.promise(self._stem, max(0, (total_bytes or 0) - held_bytes))

    async def write(self, block: bytes) -> None:
        await self._settle()
        with translated(self._folder):
            if self._is_open_ended:
                await asyncio.to_thread(self._room.promise, self._stem, len(block))
        if self._stream is None:
            self._writing = asyncio.ensure_future(self._open())
            await self._settle()
        self._writing = asyncio.ensure_future(self._append(block))

    async def _open(self) -> None:
        assert self._data is not None, "begin() or look() comes first"  # noqa: S101
        self._stream = await aiofiles.open(self._data, "ab", buffering=0)

    async def _append(self, block: bytes) -> None:
        assert self._stream is not None, "it has just been opened"  # noqa: S101
        await _write_all(self._stream, block)
        self._room.written(self._stem, len(block))
        self._unsynced_bytes += len(block)
        if self._sync and self._unsynced_bytes >= _HINT_BYTES:
            self._unsynced_bytes = 0
            await asyncio.to_thread(durable.begin_to_sync, self._stream.fileno())

    async def _settle(self) -> None:
        """
        Wait for the write under way: two writers would mix.

        Who is cancelled meanwhile leaves it, and how it ends, to whoever comes next.
        """
        if self._writing is not None:
            with translated(self._folder):
                try:
                    await asyncio.shield(self._writing)
                except OSError:
                    self._writing = None
                    raise
            self._writing = None

    async def write_at(self, start: int, chunks: Sequence[bytes]) -> Extent:
        assert self._data is not None, "begin() or look() comes first"  # noqa: S101
        write = asyncio.ensure_future(asyncio.to_thread(self._write_at, self._data, start, chunks))
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

    async def read(self, reader: Callable[[BinaryIO], T], tail: bytes = b"") -> T:
        await self.pause()
        return await asyncio.to_thread(self._read, reader, tail)

    def _read(self, reader: Callable[[BinaryIO], T], tail: bytes) -> T:
        with translated(self._folder), WithTail(self._data, tail) as stream:
            return reader(stream)

    async def commit(self, receipt: Receipt, tail: bytes = b"") -> None:
        await self.pause()
        await asyncio.to_thread(self._commit, receipt, tail)

    def _commit(self, receipt: Receipt, tail: bytes) -> None:
        final = self._locate(receipt.key)
        with translated(final):
            if self._data is None:
                self._commit_small(final, tail)
                return
            durable.write_aside(self._data, tail, append=True, sync=self._sync)
            self._write_sidecar(sidecars.of_receipt(self._output, receipt, self._data.name))
            durable.place(self._data, final)
            self._data = None
            self._room.withdraw(self._stem)

    def _commit_small(self, final: Path, data: bytes) -> None:
        """All of it is in memory: no part, no sidecar, one step."""
        aside = self._folder / f"{self._stem}.tmp"
        durable.write_aside(aside, data, sync=self._sync)
        durable.place(aside, final)

    async def release(self) -> None:
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        with translated(self._sidecar):
            self._remove()

    async def discard(self) -> None:
        await self.pause()
        await asyncio.to_thread(self._discard)

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


def _preallocate(data: Path, total_bytes: int) -> None:
    """Have the room, so that a full disk is found out now, and no file grows in pieces."""
    with data.open("r+b") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, total_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            stream.truncate(total_bytes)
    _map_of(data).touch()


def _allocated_bytes(data: Path) -> int:
    """What *data* takes up on disk: all of it once it is preallocated, less where that is not possible."""
    return data.stat().st_blocks * 512
