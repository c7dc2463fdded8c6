"""
Record the file operations of this process below one directory, as ``support.power_cut`` needs them.

The recorder replaces the functions of ``os``, ``io.open``, and the functions that bulkdl calls through
ctypes. SQLite writes its files in C. The recorder treats a commit as one atomic change of the ledger, durable
with ``PRAGMA synchronous = FULL``, as SQLite guarantees.
"""

from __future__ import annotations

import io
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import aiofiles.threadpool
import pytest

from bulkdl import syscalls
from bulkdl.disk import atomic_files
from support.power_cut import BASE, DataOperation, NameOperation, OperationLog, Sync


class ShadowTree:
    """The directories below *base* as the operations left them; writes the operations to *log*."""

    def __init__(self, base: Path, log: OperationLog) -> None:
        self.base = os.path.realpath(base)
        self.log = log
        self._entries: dict[int, dict[str, int]] = {BASE: {}}
        self._next_node = BASE + 1
        self.sizes: dict[int, int] = {}

    def resolve(
        self, path: str | bytes | os.PathLike[Any], folder: int | None = None
    ) -> tuple[int, str] | None:
        """Return the directory node and the name (empty for the base) of *path*; None if it is outside."""
        text = os.fsdecode(path)
        if folder is None:
            absolute = os.path.abspath(text)  # noqa: PTH100 - os.path does not call the recorded functions
            if absolute == self.base:
                return BASE, ""
            if not absolute.startswith(f"{self.base}/"):
                return None
            parts, node = absolute[len(self.base) + 1 :].split("/"), BASE
        else:
            parts, node = text.split("/"), folder
        for part in parts[:-1]:
            found = self._entries.get(node, {}).get(part)
            if found is None:
                return None
            node = found
        return node, parts[-1]

    def node_at(self, place: tuple[int, str]) -> int | None:
        folder, name = place
        return folder if name == "" else self._entries.get(folder, {}).get(name)

    def rename_entries(
        self, entries: dict[tuple[int, str], int | None], new_folder: int | None = None
    ) -> None:
        for (folder, name), node in entries.items():
            if node is None:
                self._entries[folder].pop(name, None)
            else:
                self._entries[folder][name] = node
        self.log.operations.append(NameOperation(entries, new_folder))

    def create(self, place: tuple[int, str], *, is_folder: bool = False) -> int:
        node = self._next_node
        self._next_node += 1
        if is_folder:
            self._entries[node] = {}
        else:
            self.sizes[node] = 0
        self.rename_entries({place: node}, node if is_folder else None)
        return node

    def write(self, node: int, offset: int, data: bytes) -> None:
        self.sizes[node] = max(self.sizes[node], offset + len(data))
        self.log.operations.append(DataOperation(node, offset, data))

    def set_size(self, node: int, size_bytes: int) -> None:
        if self.sizes[node] != size_bytes:
            self.sizes[node] = size_bytes
            self.log.operations.append(DataOperation(node, size_bytes=size_bytes))

    def sync(self, node: int | None) -> None:
        self.log.operations.append(Sync(node))

    def open(self, path: Any, flags: int, folder: int | None = None) -> int | None:
        """Record the creation or truncation of *path* by an open call that succeeded."""
        place = self.resolve(path, folder)
        if place is None:
            return None
        node = self.node_at(place)
        if node is None and flags & os.O_CREAT:
            node = self.create(place)
        elif node is not None and flags & os.O_TRUNC and node in self.sizes:
            self.set_size(node, 0)
        return node


class OperationRecorder:
    """Records the operations of this process below *base* while it is installed with ``install``."""

    def __init__(self, base: Path) -> None:
        self.log = OperationLog()
        self.tree = ShadowTree(base, self.log)
        self.lock = threading.RLock()
        self.handles: dict[int, int] = {}

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in ("open", "close", "write", "pwrite", "pwritev", "ftruncate", "fsync", "fdatasync"):
            self._replace(patch, os, name, getattr(self, f"_after_{name}"))
        for name in ("rename", "replace", "unlink", "remove", "mkdir", "rmdir", "link"):
            self._replace(patch, os, name, getattr(self, f"_after_{name}"))
        self._replace(patch, syscalls, "sync_file_system", lambda _result, _handle: self.tree.sync(None))
        self._replace(patch, syscalls, "exchange_names", self._after_exchange)
        self._replace(patch, atomic_files, "_try_to_allocate", self._after_allocate)
        for owner, name in ((io, "open"), (aiofiles.threadpool, "sync_open")):
            patch.setattr(owner, name, self._opener(getattr(owner, name)))
        real_connect = sqlite3.connect

        def connect(database: str, **options: Any) -> sqlite3.Connection:
            connection = real_connect(database, **options, factory=RecordingConnection)
            connection.start(self, database)
            return connection

        patch.setattr(sqlite3, "connect", connect)

    def _replace(self, patch: pytest.MonkeyPatch, owner: Any, name: str, after: Callable[..., None]) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            with self.lock:
                result = real(*args, **options)
                after(result, *args, **options)
                return result

        patch.setattr(owner, name, call)

    def _folder(self, handle: int | None) -> int | None:
        return None if handle is None else self.handles.get(handle)

    def _after_open(
        self, handle: int, path: Any, flags: int, mode: int = 0, *, dir_fd: int | None = None
    ) -> None:
        self.handles.pop(handle, None)
        node = self.tree.open(path, flags, self._folder(dir_fd))
        if node is not None:
            self.handles[handle] = node

    def _after_close(self, _result: None, handle: int) -> None:
        self.handles.pop(handle, None)

    def _after_write(self, size: int, handle: int, data: Any) -> None:
        if handle in self.handles:
            self.tree.write(self.handles[handle], os.lseek(handle, 0, os.SEEK_CUR) - size, bytes(data)[:size])

    def _after_pwrite(self, size: int, handle: int, data: Any, offset: int) -> None:
        if handle in self.handles:
            self.tree.write(self.handles[handle], offset, bytes(data)[:size])

    def _after_pwritev(self, size: int, handle: int, buffers: Any, offset: int) -> None:
        self._after_pwrite(size, handle, b"".join(buffers), offset)

    def _after_ftruncate(self, _result: None, handle: int, size_bytes: int) -> None:
        if handle in self.handles:
            self.tree.set_size(self.handles[handle], size_bytes)

    def _after_allocate(self, is_allocated: bool, handle: int, size_bytes: int) -> None:
        if is_allocated:
            self._after_ftruncate(None, handle, size_bytes)

    def _after_fsync(self, _result: None, handle: int) -> None:
        if handle in self.handles:
            self.tree.sync(self.handles[handle])

    _after_fdatasync = _after_fsync

    def _after_rename(self, _result: None, source: Any, target: Any) -> None:
        place, new_place = self.tree.resolve(source), self.tree.resolve(target)
        if place and new_place and place != new_place:
            self.tree.rename_entries({place: None, new_place: self.tree.node_at(place)})

    _after_replace = _after_rename

    def _after_exchange(self, done: bool, handle: int, name: bytes, other: int, other_name: bytes) -> None:
        if done and handle in self.handles:
            place = self.handles[handle], os.fsdecode(name)
            other_place = self.handles[other], os.fsdecode(other_name)
            nodes = self.tree.node_at(place), self.tree.node_at(other_place)
            self.tree.rename_entries({place: nodes[1], other_place: nodes[0]})

    def _after_unlink(self, _result: None, path: Any, *, dir_fd: int | None = None) -> None:
        place = self.tree.resolve(path, self._folder(dir_fd))
        if place:
            self.tree.rename_entries({place: None})

    _after_remove = _after_rmdir = _after_unlink

    def _after_mkdir(self, _result: None, path: Any, mode: int = 0, *, dir_fd: int | None = None) -> None:
        place = self.tree.resolve(path, self._folder(dir_fd))
        if place:
            self.tree.create(place, is_folder=True)

    def _after_link(self, _result: None, source: Any, target: Any) -> None:
        place, new_place = self.tree.resolve(source), self.tree.resolve(target)
        if place and new_place:
            self.tree.rename_entries({new_place: self.tree.node_at(place)})

    def _opener(self, real_open: Callable[..., Any]) -> Callable[..., Any]:
        """Return a replacement of ``open`` whose files record their writes."""

        def recording_open(
            file: Any, mode: str = "r", buffering: int = -1, *args: Any, **options: Any
        ) -> Any:
            is_inside = not isinstance(file, int) and self.tree.resolve(file) is not None
            if not is_inside or not set(mode) & set("wax+"):
                return real_open(file, mode, buffering, *args, **options)
            raw = RecordingFile(self, file, mode)
            if buffering == 0:
                return raw
            buffered = io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, *args, **options)

        return recording_open


class RecordingFile(io.FileIO):
    """A file that records its writes."""

    def __init__(self, recorder: OperationRecorder, path: Any, mode: str) -> None:
        self._recorder = recorder
        with recorder.lock:
            super().__init__(path, mode.replace("b", "").replace("t", ""))
            flags = os.O_CREAT | (os.O_TRUNC if "w" in mode else 0)
            self._node = recorder.tree.open(path, flags)
            if self._node is not None:
                recorder.handles[self.fileno()] = self._node

    def write(self, data: Any) -> int:
        with self._recorder.lock:
            size = super().write(data)
            if self._node is not None and size:
                self._recorder.tree.write(self._node, self.tell() - size, bytes(data)[:size])
            return size

    def truncate(self, size: int | None = None) -> int:
        with self._recorder.lock:
            new_size = super().truncate(size)
            if self._node is not None:
                self._recorder.tree.set_size(self._node, new_size)
            return new_size

    def close(self) -> None:
        with self._recorder.lock:
            if not self.closed:
                self._recorder.handles.pop(self.fileno(), None)
            super().close()


class RecordingConnection(sqlite3.Connection):
    """A connection that records the content of the ledger after each commit."""

    _recorder: OperationRecorder | None = None
    _content = b""

    def start(self, recorder: OperationRecorder, database: str) -> None:
        place = recorder.tree.resolve(unquote(urlsplit(database).path))
        if place is not None and "mode=rwc" in database:
            self._recorder, self._place = recorder, place

    def execute(self, *args: Any) -> sqlite3.Cursor:
        return self._recorded(super().execute, *args)

    def executescript(self, *args: Any) -> sqlite3.Cursor:
        return self._recorded(super().executescript, *args)

    def _recorded(self, call: Callable[..., sqlite3.Cursor], *args: Any) -> sqlite3.Cursor:
        recorder = self._recorder
        if recorder is None:
            return call(*args)
        with recorder.lock:
            cursor = call(*args)
            if not self.in_transaction:
                self._record_content(recorder)
            return cursor

    def _record_content(self, recorder: OperationRecorder) -> None:
        has_pages = super().execute("PRAGMA page_count").fetchone()[0] > 0
        content = self.serialize() if has_pages else self._content
        if content == self._content:
            return
        self._content, tree = content, recorder.tree
        node = tree.node_at(self._place)
        if node is None:
            node = tree.create(self._place)
            tree.sync(self._place[0])
        tree.log.operations.append(DataOperation(node, data=content, is_whole=True))
        if super().execute("PRAGMA synchronous").fetchone()[0] > 1:
            tree.sync(node)
