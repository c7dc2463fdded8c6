"""
Implement a partial file on local disk: a data file, and a JSON sidecar that describes the object.

The sidecar contains the name of the data file, and a new object always gets a new data file. The atomic
rename of the sidecar therefore invalidates the old bytes. Bytes of one object never occur together with
the validator of another object, even after a crash between any two steps.

Before the destination publishes the data file, the committed file is written to the sidecar. The sidecar
remains until the ledger contains the file (``forget``). The data file is moved or removed only after the
object is published. A sidecar of a committed file without a data file therefore proves that the object was
published. A crash before the ledger transaction does not cause another download.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO

from bulkdl import syscalls
from bulkdl.concurrency import Executors, open_stoppable, run_in, run_stoppable, shield_until_done
from bulkdl.destinations.interfaces import CompletedFile, Destination, NotAnObjectError, ObjectInfo
from bulkdl.disk import atomic_files
from bulkdl.disk.atomic_files import retry_on_open_file_limit
from bulkdl.disk.disk_space import DiskReservations
from bulkdl.disk.scratch_limit import ScratchLimit
from bulkdl.errors import DestinationError
from bulkdl.models import CommittedFile, Extent, Output, Reason, RemoteObject, ResumeState
from bulkdl.os_errors import map_os_errors
from bulkdl.source_spec import kind_spec
from bulkdl.state import extent_map, sidecar_format
from bulkdl.state.published_digest import has_published_digest

T = TypeVar("T")

_WRITEBACK_BYTES = 8 << 20

# Raised for an incomplete or invalid sidecar, and if the data file is missing.
_INVALID_SIDECAR = (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError)


class PartialFile:
    """
    The partial file of one output. Two workers must not use it at the same time.

    Args:
        folder: The folder of all partial files.
        destination: Publishes the complete file.
        reservations: Reserves disk space on the file system of *folder*.
        scratch_limit: Limits the disk usage of all partial files.
        executors: Threads for blocking operations.
        sync: Whether ``commit`` makes the file durable before it is published.
    """

    def __init__(
        self,
        output: Output,
        *,
        folder: Path,
        destination: Destination,
        reservations: DiskReservations,
        scratch_limit: ScratchLimit,
        executors: Executors,
        sync: bool = True,
    ) -> None:
        self._identity = output.identity
        self._folder = folder
        self._destination = destination
        self._reservations = reservations
        self._scratch_limit = scratch_limit
        self._executors = executors
        self._sync = sync
        self._is_large = kind_spec(output.kind).is_large
        self._stem = hashlib.sha256(self._identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._data_path: Path | None = None
        self._has_unknown_length = False
        self._stream: AsyncFileIO | None = None
        self._unsynced_bytes = 0
        self._has_map = False
        self._is_durable = False
        self._writing: asyncio.Future[None] | None = None
        self._writes: set[asyncio.Future[Extent]] = set()

    @property
    def _sidecar(self) -> Path:
        return self._folder / f"{self._stem}.json"

    @property
    def _data_file(self) -> Path:
        if self._data_path is None:
            raise RuntimeError("the partial file has no data file: call create() or load() first")
        return self._data_path

    async def _run_in_thread(self, call: Callable[..., T], *args: object) -> T:
        """Run *call* in a thread. It must be repeatable."""
        return await retry_on_open_file_limit(partial(run_in, self._executors.disk, call, *args))

    async def load(self) -> ResumeState | CommittedFile | None:
        state, file = await self._run_in_thread(self._load)
        if file is not None:
            info = await self._find_published(file, has_data=state is not None)
            if info is not None:
                await self._run_in_thread(self._remove_data)
                return replace(file, version=info.version)
            if state is None:
                await self._run_in_thread(self._discard)
        if state is not None and self._has_map and state.offset:
            return await run_stoppable(self._executors.archives, self._check_extents, state)
        return state

    async def _find_published(self, file: CommittedFile, *, has_data: bool) -> ObjectInfo | None:
        """
        Return the object of *file* if the destination has it.

        With the data file, the object may be older than the data. Only its digest can prove the opposite.
        Without it, the object is the data, which a power cut can have changed if it was not synced.
        """
        try:
            info = (await self._destination.stat([file.key])).get(file.key)
        except ValueError:  # the sidecar is damaged
            return None
        if info is None and not has_data:
            await self._run_in_thread(self._check_access, file.key)
        if info is None or info.size_bytes != file.size_bytes:
            return None
        if info.digest is None or info.digest.algorithm != file.digest.algorithm:
            if has_data:
                return None
            if self._is_durable or self._destination.is_remote:
                return info
            has_digest = partial(has_published_digest, destination=self._destination, file=file)
            return info if await run_stoppable(self._executors.archives, has_digest) else None
        return info if info.digest == file.digest else None

    def _check_extents(self, stop: threading.Event, state: ResumeState) -> ResumeState:
        """Return *state* with the bytes that have their checksum; a power cut can have lost others."""
        with map_os_errors(self._folder), open_stoppable(self._data_file, stop) as stream:
            if state.extents is None:
                return ResumeState(state.object, self._truncate_to_valid(stream, state.offset))
            valid = extent_map.verify_extents(stream, state.extents)
        return ResumeState(state.object, sum(extent.size_bytes for extent in valid), valid)

    def _truncate_to_valid(self, stream: BinaryIO, size_bytes: int) -> int:
        """Truncate the data file before the first invalid extent, and remove later lines from its map."""
        map_path = extent_map.map_path(self._data_file)
        text = map_path.read_bytes() if map_path.exists() else b""
        valid = extent_map.verify_prefix(stream, extent_map.parse_extents(text, size_bytes))
        end = valid[-1].end if valid else 0
        if end < size_bytes:
            atomic_files.write_file(map_path, b"".join(map(extent_map.format_extent, valid)), sync=False)
            os.truncate(self._data_file, end)
        return end

    def _check_access(self, key: str) -> None:
        """Raise PATH_BLOCKED if the object may exist and cannot be examined: a download would be in vain."""
        try:
            with self._destination.open_reader(key):
                pass
        except (FileNotFoundError, NotADirectoryError, NotAnObjectError):
            pass
        except OSError as error:
            raise DestinationError(Reason.PATH_BLOCKED, f"{key}: {error.strerror or error}") from None

    def _load(self) -> tuple[ResumeState | None, CommittedFile | None]:
        """Return the state of the data file and the committed file, as far as they exist."""
        with map_os_errors(self._sidecar):
            try:
                text = self._sidecar.read_bytes()
            except FileNotFoundError:
                return None, None
            try:
                state, file = self._parse_sidecar(json.loads(text))
            except _INVALID_SIDECAR:
                state, file = None, None
            if state is None and file is None:
                self._remove()
        return state, file

    def _parse_sidecar(self, sidecar: dict[str, Any]) -> tuple[ResumeState | None, CommittedFile | None]:
        data_path = self._folder / Path(sidecar["data"]).name
        if not data_path.name.startswith(f"{self._stem}-"):
            raise ValueError("the data file belongs to another partial file")
        file = sidecar_format.parse_committed_file(sidecar) if "committed" in sidecar else None
        self._is_durable = sidecar_format.is_durable(sidecar)
        if file is not None and not data_path.exists():
            return None, file
        state = self._read_state(sidecar, data_path)
        if state is None:
            return None, None
        if file is not None:
            state = replace(state, object=replace(state.object, digests=(file.digest,)))
        self._has_map = state.extents is not None or not state.object.digests
        self._data_path = data_path
        return state, file

    def _read_state(self, sidecar: dict[str, Any], data_path: Path) -> ResumeState | None:
        remote_object = sidecar_format.parse_object(sidecar)
        if sidecar.get(sidecar_format.SEGMENTED_KEY):
            return self._read_segmented_state(remote_object, data_path)
        size_bytes = data_path.stat().st_size
        is_too_long = remote_object.total_bytes is not None and size_bytes > remote_object.total_bytes
        return None if is_too_long else ResumeState(remote_object, size_bytes)

    def _read_segmented_state(self, remote_object: RemoteObject, data_path: Path) -> ResumeState:
        text = extent_map.map_path(data_path).read_bytes()
        extents = tuple(extent_map.parse_extents(text, remote_object.total_bytes or 0))
        data_path.stat()  # raises FileNotFoundError if the data file is missing
        return ResumeState(remote_object, sum(extent.size_bytes for extent in extents), extents)

    async def acquire_space(self, total_bytes: int | None) -> None:
        await self._scratch_limit.acquire(self._stem, total_bytes or 0)

    async def create(self, remote_object: RemoteObject, *, segmented: bool = False) -> None:
        await self.flush_and_close()
        await self._run_in_thread(self._create, remote_object, segmented)

    def _create(self, remote_object: RemoteObject, segmented: bool) -> None:
        with map_os_errors(self._folder):
            self._remove()
            self._reserve(remote_object.total_bytes, 0)
            data_path = self._folder / f"{self._stem}-{secrets.token_hex(4)}.part"
            self._write_sidecar(
                sidecar_format.object_document(
                    self._identity, remote_object, data_path.name, segmented=segmented
                )
            )
            data_path.touch()
            self._data_path = data_path
            self._has_map = segmented or not remote_object.digests
            if self._has_map:
                extent_map.map_path(data_path).touch()
            if segmented:
                # Allocation reports a full disk before any byte is downloaded.
                atomic_files.allocate(data_path, remote_object.total_bytes or 0)
                self._reservations.consume(self._stem, _allocated_bytes(data_path))

    def _write_sidecar(self, document: dict[str, Any]) -> None:
        temp_path = self._sidecar.with_suffix(".tmp")
        text = json.dumps(document, indent=1)
        atomic_files.write_file(temp_path, text.encode("utf-8", "surrogatepass"))
        atomic_files.publish(temp_path, self._sidecar)

    async def resume(self, state: ResumeState) -> None:
        await run_in(self._executors.disk, self._resume, state)

    def _resume(self, state: ResumeState) -> None:
        with map_os_errors(self._folder):
            is_segmented = state.extents is not None
            on_disk_bytes = max(state.offset, _allocated_bytes(self._data_file) if is_segmented else 0)
            self._reserve(state.object.total_bytes, on_disk_bytes)

    def _reserve(self, total_bytes: int | None, on_disk_bytes: int) -> None:
        """Reserve the missing bytes. With an unknown total, ``write`` reserves each block."""
        self._has_unknown_length = total_bytes is None
        self._reservations.reserve(self._stem, max(0, (total_bytes or 0) - on_disk_bytes))
        try:
            self._destination.reserve(self._stem, total_bytes or 0)
        except DestinationError:
            self._reservations.release(self._stem)
            raise

    async def write(self, block: bytes) -> None:
        await self._await_pending_write()
        with map_os_errors(self._folder):
            if self._has_unknown_length:
                await run_in(self._executors.disk, self._reservations.reserve, self._stem, len(block))
        if self._stream is None:
            self._writing = asyncio.ensure_future(self._open())
            await self._await_pending_write()
        self._writing = asyncio.ensure_future(self._append(block))

    async def _open(self) -> None:
        self._stream = await retry_on_open_file_limit(self._open_data)

    async def _open_data(self) -> AsyncFileIO:
        with map_os_errors(self._folder):
            return await aiofiles.open(self._data_file, "ab", buffering=0, executor=self._executors.disk)

    async def _append(self, block: bytes) -> None:
        stream = self._stream
        if stream is None:
            raise RuntimeError("the partial file is not open for writing")
        await _write_all(stream, block)
        if self._has_map:
            await run_in(self._executors.disk, self._append_extent, await stream.tell() - len(block), block)
        self._reservations.consume(self._stem, len(block))
        self._unsynced_bytes += len(block)
        if self._sync and self._unsynced_bytes >= _WRITEBACK_BYTES:
            self._unsynced_bytes = 0
            await run_in(self._executors.disk, syscalls.start_writeback, stream.fileno())

    def _append_extent(self, start: int, block: bytes) -> None:
        line = extent_map.format_extent(extent_map.create_extent(start, [block]))
        atomic_files.append_line(extent_map.map_path(self._data_file), line)

    async def _await_pending_write(self) -> None:
        """
        Wait for the write in progress, so that two writes are never concurrent.

        If the caller is cancelled, the write continues. The next caller awaits it and gets its exception.
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
        write = asyncio.ensure_future(self._run_in_thread(self._write_at, self._data_file, start, chunks))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        return await asyncio.shield(write)

    def _write_at(self, data_path: Path, start: int, chunks: Sequence[bytes]) -> Extent:
        extent = extent_map.create_extent(start, chunks)
        with map_os_errors(self._folder):
            atomic_files.pwrite_chunks(data_path, start, chunks, writeback=self._sync)
            atomic_files.append_line(extent_map.map_path(data_path), extent_map.format_extent(extent))
        self._reservations.consume(self._stem, extent.size_bytes)
        return extent

    async def flush_and_close(self) -> None:
        while self._writes:  # the writes of a cancelled worker continue in their threads
            await asyncio.wait(self._writes)
        try:
            await self._await_pending_write()
        finally:
            if self._stream is not None and self._writing is None:
                stream, self._stream = self._stream, None
                # A close that waits for a thread would be cancelled with its task.
                await shield_until_done(stream.close())

    async def read_head(self, size_bytes: int) -> bytes:
        await self.flush_and_close()
        return await self._run_in_thread(self._read_head, size_bytes)

    def _read_head(self, size_bytes: int) -> bytes:
        with map_os_errors(self._folder), self._data_file.open("rb", buffering=0) as stream:
            return stream.read(size_bytes)

    async def read(self, reader: Callable[[BinaryIO], T], body: bytes = b"") -> T:
        await self.flush_and_close()
        executor = self._executors.archives if self._is_large else self._executors.files
        return await run_stoppable(executor, self._read, reader, body)

    def _read(self, stop: threading.Event, reader: Callable[[BinaryIO], T], body: bytes) -> T:
        with map_os_errors(self._folder), open_stoppable(self._data_path or body, stop) as stream:
            return reader(stream)

    async def commit(self, file: CommittedFile, body: bytes = b"") -> CommittedFile:
        await self.flush_and_close()
        if self._data_path is None:  # complete in memory: it needs no data file and no sidecar
            try:
                publication = await self._destination.publish(CompletedFile(None, body, self._stem), file)
            except DestinationError as error:
                if error.reason is Reason.PUBLISH_FAILED and file.source is not None:
                    await self._keep_body(file, body)
                raise
            return replace(file, version=publication.info.version)
        await self._run_in_thread(self._prepare_commit, self._data_path, file)
        content = CompletedFile(self._data_path, owner_id=self._stem)
        publication = await self._destination.publish(content, file)
        if publication.is_moved:
            self._data_path = None
        else:
            await self._run_in_thread(self._remove_data)
        self.close()
        return replace(file, version=publication.info.version)

    async def _keep_body(self, file: CommittedFile, body: bytes) -> None:
        """Write a body whose upload failed to the data file, so that it is not downloaded again."""
        await self.create(RemoteObject(file.source, file.validator, len(body), (file.digest,)))
        if body:
            await self.write(body)
        await self.flush_and_close()

    def _prepare_commit(self, data_path: Path, file: CommittedFile) -> None:
        with map_os_errors(self._folder):
            if self._sync:
                atomic_files.sync_file(data_path)
            identity, is_durable = self._identity, self._sync
            self._write_sidecar(
                sidecar_format.committed_document(identity, file, data_path.name, is_durable=is_durable)
            )

    def _remove_data(self) -> None:
        """Remove the data file of a published object. The sidecar stays."""
        data_path, self._data_path = self._data_path, None
        if data_path is not None:
            with map_os_errors(self._folder):
                data_path.unlink(missing_ok=True)
                extent_map.map_path(data_path).unlink(missing_ok=True)

    async def forget(self) -> None:
        await self._run_in_thread(self._forget)

    def _forget(self) -> None:
        with map_os_errors(self._sidecar):
            self._remove()

    async def discard(self) -> None:
        await self.flush_and_close()
        await self._run_in_thread(self._discard)

    def _discard(self) -> None:
        with map_os_errors(self._folder):
            self._remove()

    def close(self) -> None:
        self._release_disk()
        self._scratch_limit.release(self._stem)

    def _release_disk(self) -> None:
        self._reservations.release(self._stem)
        self._destination.release(self._stem)

    def _remove(self) -> None:
        """Remove the sidecar, then all data files. A crash can leave a data file without a sidecar."""
        self._data_path = None
        self._release_disk()
        self._sidecar.unlink(missing_ok=True)
        for path in self._folder.glob(f"{self._stem}-*"):  # data file and extent map
            path.unlink(missing_ok=True)


async def _write_all(stream: AsyncFileIO, block: bytes) -> int:
    view = memoryview(block)
    while view:
        view = view[await stream.write(view) :]
    return len(block)


def _allocated_bytes(data_path: Path) -> int:
    """Return the disk usage of *data_path*: its size if it is preallocated, otherwise less."""
    return data_path.stat().st_blocks * 512
