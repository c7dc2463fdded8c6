"""A destination for bulkdl: stores all outputs in one SQLite file, ``-o sqlite:///path/to/file``."""

import io
import shutil
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryFile

import bulkdl

SCHEMA = "CREATE TABLE IF NOT EXISTS objects (id INTEGER PRIMARY KEY, key TEXT UNIQUE, content BLOB)"
STORE = "INSERT OR REPLACE INTO objects (key, content) VALUES (?, zeroblob(?))"
COPY = "INSERT OR REPLACE INTO objects (key, content) SELECT ?, content FROM objects WHERE key = ?"
FIND = "SELECT id, length(content) FROM objects WHERE key = ?"
LIST = "SELECT key, length(content) FROM objects WHERE key > ? ORDER BY key LIMIT 1000"


class SqliteDestination(bulkdl.BaseDestination):
    def __init__(self, url, options):
        self.location, self._path, self._executors = url, Path(url.partition("://")[2]), options.executors

    async def open(self):
        await self._run(SCHEMA)

    async def stat(self, keys):
        rows = {key: await self._run(FIND, key) for key in keys}
        return {key: bulkdl.ObjectInfo(key, found[0][1]) for key, found in rows.items() if found}

    async def publish(self, content, file):
        await self._call(lambda connection: _store(connection, content, file))
        return bulkdl.Publication(bulkdl.ObjectInfo(file.key, file.size_bytes))

    async def copy(self, key, new_key):
        await self._run(COPY, bulkdl.check_key(new_key), key)
        return (await self.stat([new_key]))[new_key]

    async def delete(self, keys):
        for key in keys:
            await self._run("DELETE FROM objects WHERE key = ?", bulkdl.check_key(key))

    async def list_objects(self, can_contain):
        last = ""
        while rows := await self._run(LIST, last):
            yield [bulkdl.ObjectInfo(key, size) for key, size in rows]
            last = rows[-1][0]

    @contextmanager
    def open_reader(self, key):
        with closing(sqlite3.connect(self._path)) as connection, TemporaryFile() as copy:
            row = connection.execute(FIND, (key,)).fetchone()
            if row is None:
                raise FileNotFoundError(key)
            with connection.blobopen("objects", "content", row[0], readonly=True) as blob:
                shutil.copyfileobj(blob, copy)
            copy.seek(0)
            yield copy

    async def _run(self, statement, *values):
        return await self._call(lambda connection: connection.execute(statement, values).fetchall())

    async def _call(self, call):
        """Call *call* in a thread, in one transaction: all of its changes are stored and durable, or none."""

        def transaction():
            try:
                with closing(sqlite3.connect(self._path, timeout=60)) as connection, connection:
                    return call(connection)
            except sqlite3.Error as error:
                reason = bulkdl.Reason.DISK_ERROR
                raise bulkdl.DestinationError(reason, f"{self._path}: {error}") from None

        return await bulkdl.run_in(self._executors.files, transaction)


def _store(connection, content, file):
    with content.path.open("rb") if content.path else io.BytesIO(content.data) as source:
        row = connection.execute(STORE, (bulkdl.check_key(file.key), file.size_bytes)).lastrowid
        with connection.blobopen("objects", "content", row) as blob:
            shutil.copyfileobj(source, blob)
