"""
The ledger as the event loop sees it: one SQLite connection on one thread of its own.

Writes that come while a transaction is being committed wait and go into the next one together
(group commit): each caller still returns only after its write is durable, but a thousand small files
need no thousand fsyncs. That wants a whole batch in one trip to the thread, which is why this is the
standard sqlite3 on an executor and not aiosqlite, whose every statement is a trip.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bulkdl.errors import BulkdlError, LedgerError, SinkFailure
from bulkdl.ledger.migrate import migrate, refuse_newer
from bulkdl.model import Reason

T = TypeVar("T")
Statement = Callable[[sqlite3.Connection], Any]

LEDGER_NAME = "ledger.sqlite3"

_BUSY_S = 30.0


Settle = Callable[[Iterable[Path]], None]


@dataclass(frozen=True, slots=True)
class _Write:
    statement: Statement
    folder: Path | None
    future: asyncio.Future[Any]


def _settled(_folders: Iterable[Path]) -> None:
    """Whoever wrote the files has seen to it."""


class Ledger:
    """An open ledger. Make one with ``Ledger.open``; close it with ``close``."""

    def __init__(
        self, path: Path, executor: ThreadPoolExecutor, connection: sqlite3.Connection, settle: Settle
    ) -> None:
        self.path = path
        self._settle_folders = settle
        self._executor = executor
        self._connection = connection
        self._waiting: list[_Write] = []
        self._committing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, path: Path, *, read_only: bool = False, settle: Settle | None = None, synchronous: bool = True
    ) -> Ledger:
        """
        Open the ledger, making or migrating it unless *read_only*.

        Args:
            settle: Makes folders durable; called before each transaction that speaks of files in them.
            synchronous: A transaction is durable when it ends; without it, only ``kill -9`` is survived.

        Raises:
            LedgerTooNew: A newer bulkdl wrote it.
            LedgerError: It is no ledger, or cannot be opened.
        """
        with ExitStack() as unless_open:
            executor = ThreadPoolExecutor(1, thread_name_prefix="ledger")
            unless_open.callback(executor.shutdown, wait=False)
            connect = partial(_connect, path, read_only, synchronous=synchronous)
            connection = await asyncio.get_running_loop().run_in_executor(executor, connect)
            unless_open.pop_all()
        return cls(path, executor, connection, settle or _settled)

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run *query* between two transactions."""
        return await self._in_thread(lambda: _translated(self.path, query, self._connection))

    async def write(self, statement: Callable[[sqlite3.Connection], T], *, folder: Path | None = None) -> T:
        """
        Run *statement* in a transaction, with whatever else waits; returns once that is durable.

        Args:
            folder: A folder that must be durable first, because the statement speaks of a file in it.

        Raises:
            SinkFailure: The disk is full or broken; nothing of the transaction was kept.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Write(statement, folder, future))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_all(), name="ledger-commit")
        return await future

    async def _commit_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                answers = await self._in_thread(partial(self._commit, batch))
            except Exception as error:  # noqa: BLE001 - told to the callers: else they wait for ever
                answers = [error] * len(batch)
            for write, answer in zip(batch, answers, strict=True):
                _tell(write.future, answer)

    def _commit(self, batch: list[_Write]) -> list[Any]:
        def together(connection: sqlite3.Connection) -> list[Any]:
            connection.execute("BEGIN IMMEDIATE")
            try:
                answers = [_one(connection, write.statement) for write in batch]
                connection.execute("COMMIT")
            except sqlite3.Error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return answers

        folders = {write.folder for write in batch if write.folder is not None}
        if folders:
            self._settle_folders(folders)
        return _translated(self.path, together, self._connection)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def close(self) -> None:
        """Finish what waits, and close."""
        if self._committing is not None:
            with suppress(BulkdlError):
                await self._committing
        await self._in_thread(self._connection.close)
        self._executor.shutdown(wait=True)


def _one(connection: sqlite3.Connection, statement: Statement) -> Any:
    """One caller's statements: its own error undoes only its own part of the batch."""
    connection.execute("SAVEPOINT one")
    try:
        answer = statement(connection)
    except sqlite3.Error:
        raise  # the transaction itself may be gone
    except Exception as error:  # noqa: BLE001 - told to its caller
        connection.execute("ROLLBACK TO one")
        answer = error
    connection.execute("RELEASE one")
    return answer


def _tell(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():  # its caller was cancelled; the write stands
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _connect(path: Path, read_only: bool, *, synchronous: bool = True) -> sqlite3.Connection:
    def prepare(connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        refuse_newer(connection, path)
        if read_only:
            connection.execute("PRAGMA query_only = ON")
            return
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if synchronous else 'OFF'}")
        connection.execute("PRAGMA foreign_keys = ON")
        migrate(connection, path)

    uri = f"{path.absolute().as_uri()}?mode={_mode_of_reading(path) if read_only else 'rwc'}"
    try:
        connection = sqlite3.connect(
            uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: the ledger cannot be opened ({error})") from None
    with ExitStack() as unless_prepared:
        unless_prepared.callback(connection.close)
        _translated(path, prepare, connection)
        unless_prepared.pop_all()
    return connection


def _mode_of_reading(path: Path) -> str:
    """
    The mode that leaves the folder as it is.

    SQLite puts a log of changes and its index beside the file also for who only reads. The last one out
    removes them, but only who might write; where nobody can, it must be told that nothing changes.
    """
    if path.with_name(f"{path.name}-wal").exists():  # a run is at work, or was killed: they are there to stay
        return "ro"
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return "rw" if writable else "ro&immutable=1"


def _translated(path: Path, call: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
    try:
        return call(connection)
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise SinkFailure(Reason.DISK_FULL, f"{path}: {error}") from None
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise SinkFailure(Reason.DISK_ERROR, f"{path}: {error}") from None
        raise LedgerError(f"{path}: the ledger cannot be used ({error})") from None
