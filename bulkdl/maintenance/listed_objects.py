"""
The objects of a remote destination, read with one list instead of one request for each object.

The list is stored in a temporary database, which SQLite removes. The memory does not grow with the number of
objects.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, BinaryIO, ClassVar

from bulkdl.destinations.interfaces import CanContain, Destination, ObjectInfo
from bulkdl.maintenance.file_checks import ReadableObjects

_CREATE = (
    "CREATE TABLE objects (key TEXT PRIMARY KEY, size_bytes INTEGER, version TEXT) STRICT, WITHOUT ROWID"
)
_INSERT = "INSERT OR REPLACE INTO objects VALUES (?, ?, ?)"
_PAGE = "SELECT key, size_bytes, version FROM objects WHERE key > ? ORDER BY key LIMIT 1000"
_FIND = "SELECT key, size_bytes, version FROM objects WHERE key IN (SELECT value FROM json_each(?))"


@asynccontextmanager
async def open_objects(destination: Destination) -> AsyncIterator[ReadableObjects]:
    """
    Yield *destination* itself, or a list of its objects if it is remote.

    Raises:
        DestinationError: The objects cannot be listed.
    """
    if not destination.is_remote:
        yield destination
        return
    listed = ListedObjects(destination)
    try:
        await listed.read()
        yield listed
    finally:
        await listed.close()


class ListedObjects:
    """
    The objects that *destination* had when ``read`` was called.

    A key that is not in the list is examined with a request. The content is read from the destination.
    """

    is_remote: ClassVar[bool] = True

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._thread = ThreadPoolExecutor(1, "object-list")
        self._database: sqlite3.Connection | None = None

    async def read(self) -> None:
        """Request the list."""
        await self._run(self._execute, _CREATE)
        async for page in self._destination.list_objects(lambda _key: True):
            await self._run(self._insert, [(info.key, info.size_bytes, info.version) for info in page])

    async def close(self) -> None:
        """Remove the database."""
        await self._run(self._close)
        self._thread.shutdown()

    async def stat(self, keys: Collection[str]) -> Mapping[str, ObjectInfo]:
        rows = await self._run(self._execute, _FIND, json.dumps(list(keys)))
        found = {row[0]: ObjectInfo(*row) for row in rows}
        others = [key for key in keys if key not in found]
        return {**found, **await self._destination.stat(others)} if others else found

    async def list_objects(self, can_contain: CanContain) -> AsyncGenerator[Sequence[ObjectInfo], None]:  # noqa: ARG002 - there are no links
        last = ""
        while rows := await self._run(self._execute, _PAGE, last):
            last = rows[-1][0]
            yield [ObjectInfo(*row) for row in rows]

    def open_reader(self, key: str) -> AbstractContextManager[BinaryIO]:
        return self._destination.open_reader(key)

    async def _run(self, call: Any, *args: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    def _connect(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = sqlite3.connect("", isolation_level=None)
        return self._database

    def _execute(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        return self._connect().execute(statement, values).fetchall()

    def _insert(self, rows: list[tuple[str, int, str | None]]) -> None:
        database = self._connect()
        database.execute("BEGIN")
        database.executemany(_INSERT, rows)
        database.execute("COMMIT")

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
