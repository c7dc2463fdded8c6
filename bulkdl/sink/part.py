"""
A part on local disk: a data file, and beside it a JSON sidecar that says of which object it is.

The sidecar names the data file, and a new object always gets a new data file. So replacing the
sidecar, one atomic rename, is the moment at which the old bytes stop counting: at no point in time
can bytes of one object stand beside the validator of another, whatever is killed when.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO

from bulkdl.errors import SinkFailure
from bulkdl.model import Digest, Output, PartState, Reason, StoredObject, Validator
from bulkdl.sink import durable
from bulkdl.sink.errors import translated
from bulkdl.sink.tail import WithTail

T = TypeVar("T")

# What must stay free for the ledger, logs and other programs when a large body is about to come.
HEADROOM_BYTES = 16 << 20


class LocalPart:
    """
    The part of one output. Not for use by two workers at once.

    Args:
        folder: Where parts live; on the same file system as *locate*'s answers.
        locate: Gives the path of a key.
    """

    def __init__(self, output: Output, folder: Path, locate: Callable[[str], Path]) -> None:
        self._output = output
        self._folder = folder
        self._locate = locate
        self._stem = hashlib.sha256(str(output).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._sidecar = folder / f"{self._stem}.json"
        self._data: Path | None = None
        self._stream: AsyncFileIO | None = None
        self._writing: asyncio.Future[int] | None = None

    async def look(self) -> PartState | None:
        return await asyncio.to_thread(self._look)

    def _look(self) -> PartState | None:
        with translated(self._sidecar):
            try:
                sidecar = json.loads(self._sidecar.read_bytes())
                data = self._folder / Path(sidecar["data"]).name
                state = PartState(_stored_object(sidecar), data.stat().st_size)
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                return None
        total = state.object.total_bytes
        if total is not None and state.at_bytes > total:
            return None
        self._data = data
        return state

    async def begin(self, stored: StoredObject) -> None:
        await asyncio.to_thread(self._begin, stored)

    def _begin(self, stored: StoredObject) -> None:
        with translated(self._folder):
            durable.make_folder(self._folder)
            self._remove()
            self._refuse_without_room(stored.total_bytes)
            data = self._folder / f"{self._stem}-{secrets.token_hex(4)}.part"
            aside = self._sidecar.with_suffix(".tmp")
            durable.write_aside(aside, _sidecar(self._output, stored, data.name))
            durable.publish(aside, self._sidecar)
            data.touch()
            self._data = data

    def _refuse_without_room(self, total_bytes: int | None) -> None:
        free_bytes = shutil.disk_usage(self._folder).free
        if total_bytes is not None and total_bytes + HEADROOM_BYTES > free_bytes:
            raise SinkFailure(
                Reason.DISK_FULL, f"{self._folder}: {total_bytes} bytes are to come, {free_bytes} are free"
            )

    async def write(self, block: bytes) -> None:
        await self._settle()
        with translated(self._folder):
            if self._stream is None:
                assert self._data is not None, "begin() or look() comes first"  # noqa: S101
                self._stream = await aiofiles.open(self._data, "ab", buffering=0)
            self._writing = asyncio.ensure_future(_write_all(self._stream, block))

    async def _settle(self) -> None:
        """Wait for the write under way, even when this worker is cancelled: two writers would mix."""
        if self._writing is not None:
            with translated(self._folder):
                try:
                    await asyncio.shield(self._writing)
                finally:
                    if self._writing.done():
                        self._writing = None

    async def pause(self) -> None:
        try:
            await self._settle()
        finally:
            if self._stream is not None:
                stream, self._stream = self._stream, None
                await stream.close()

    async def read(self, reader: Callable[[BinaryIO], T], tail: bytes = b"") -> T:
        await self.pause()
        return await asyncio.to_thread(self._read, reader, tail)

    def _read(self, reader: Callable[[BinaryIO], T], tail: bytes) -> T:
        with translated(self._folder), WithTail(self._data, tail) as stream:
            return reader(stream)

    async def commit(self, key: str, tail: bytes = b"") -> None:
        await self.pause()
        await asyncio.to_thread(self._commit, self._locate(key), tail)

    def _commit(self, final: Path, tail: bytes) -> None:
        with translated(final):
            data = self._data
            if data is None:
                durable.make_folder(self._folder)
                data = self._folder / f"{self._stem}.part"
                data.unlink(missing_ok=True)
            durable.write_aside(data, tail, append=True)
            durable.publish(data, final)
            if self._data is not None:
                self._sidecar.unlink(missing_ok=True)
            self._data = None

    async def discard(self) -> None:
        await self.pause()
        await asyncio.to_thread(self._discard)

    def _discard(self) -> None:
        with translated(self._folder):
            self._look()
            self._remove()

    def _remove(self) -> None:
        self._sidecar.unlink(missing_ok=True)
        if self._data is not None:
            self._data.unlink(missing_ok=True)
        self._data = None


async def _write_all(stream: AsyncFileIO, block: bytes) -> int:
    view = memoryview(block)
    while view:
        view = view[await stream.write(view) :]
    return len(block)


def _sidecar(output: Output, stored: StoredObject, data_name: str) -> bytes:
    document: dict[str, Any] = {"version": 1, "output": str(output), "data": data_name, **asdict(stored)}
    return json.dumps(document, indent=1, default=os.fspath).encode("utf-8", "surrogatepass")


def _stored_object(sidecar: dict[str, Any]) -> StoredObject:
    return StoredObject(
        source=sidecar["source"],
        validator=Validator(**sidecar["validator"]),
        total_bytes=sidecar["total_bytes"],
        digests=tuple(Digest(**digest) for digest in sidecar["digests"]),
    )
