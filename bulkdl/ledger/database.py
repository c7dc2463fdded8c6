"""
Give the event loop access to the ledger through one SQLite connection on its own thread.

Writes that arrive during a transaction share the next transaction (group commit). Each ``write`` returns
only after its transaction is durable, but a thousand small files do not need a thousand fsyncs. A batch
takes one call to the thread. Therefore this module uses the standard sqlite3 on an executor instead of
aiosqlite, which needs one call for each statement.

Writes that record objects wait until the destination has made these objects durable. The objects of one batch
are flushed together, while the transaction of the batch before it is written.

A batch that fails is repeated statement by statement, so that an invalid write fails alone. If another
process locks the ledger (a backup, a copy), calls are repeated until LOCK_TIMEOUT_S.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bulkdl.errors import BulkdlError, DestinationError, LedgerDamagedError, LedgerError
from bulkdl.ledger import version_1
from bulkdl.ledger.migrations import VERSION, check_version, create_views, migrate, remove_copies
from bulkdl.models import Reason

T = TypeVar("T")
Statement = Callable[[sqlite3.Connection], Any]

# How long SQLite itself waits for a lock, and how long a call is repeated while the ledger is locked.
BUSY_TIMEOUT_S = 10.0
LOCK_TIMEOUT_S = 60.0
_RETRY_DELAY_S = 0.05  # SQLite does not wait for every kind of lock

_DAMAGE_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_LOCK_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_DISK_CODES = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
    }
)

Flush = Callable[[Collection[str]], Awaitable[None]]
"""Makes the objects with these keys durable."""


@dataclass(frozen=True, slots=True)
class _Write:
    statement: Statement
    keys: Collection[str]
    future: asyncio.Future[Any]


async def _no_flush(_keys: Collection[str]) -> None:
    """Do nothing: the caller has made its objects durable."""


class Ledger:
    """
    An open ledger. Create it with ``Ledger.open`` and close it with ``close``.

    Attributes:
        changes: Number of writes of this connection, without heartbeats.
    """

    def __init__(
        self,
        path: Path,
        executor: ThreadPoolExecutor,
        connection: sqlite3.Connection,
        flush: Flush,
        lock_timeout_s: float,
    ) -> None:
        self.path = path
        self._flush = flush
        self._executor = executor
        self._connection = connection
        self._lock_timeout_s = lock_timeout_s
        self.changes = 0
        self._waiting: list[_Write] = []
        self._unflushed: list[_Write] = []
        self._committing: asyncio.Task[None] | None = None
        self._flushing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        read_only: bool = False,
        flush: Flush | None = None,
        synchronous: bool = True,
        upgrade: bool = True,
        lock_timeout_s: float | None = None,
    ) -> Ledger:
        """
        Open the ledger; create it if it does not exist, unless *read_only*.

        Args:
            flush: Makes objects durable; awaited before each transaction that records them.
            synchronous: Whether a transaction survives a power cut. If False, it survives only
                ``kill -9``.
            upgrade: Whether to migrate an older ledger now. If False, an existing ledger is not
                changed; call ``upgrade()`` once the lease of the directory is acquired.
            lock_timeout_s: How long to wait while another process locks the ledger; by default
                LOCK_TIMEOUT_S.

        Raises:
            LedgerVersionError: A newer bulkdl wrote it.
            LedgerDamagedError: It is corrupt, or it is not a SQLite database.
            LedgerError: It cannot be used for another reason.
            DestinationError: It cannot be opened, read or written, or it is locked.
        """
        timeout_s = LOCK_TIMEOUT_S if lock_timeout_s is None else lock_timeout_s
        with ExitStack() as unless_open:
            executor = ThreadPoolExecutor(1, thread_name_prefix="ledger")
            unless_open.callback(executor.shutdown, wait=False)
            connect = partial(
                _connect,
                path,
                read_only,
                synchronous=synchronous,
                upgrade=upgrade,
                lock_timeout_s=timeout_s,
            )
            connection = await asyncio.get_running_loop().run_in_executor(executor, connect)
            unless_open.pop_all()
        return cls(path, executor, connection, flush or _no_flush, timeout_s)

    async def upgrade(self) -> None:
        """Migrate a ledger that was opened with ``upgrade=False``. Call it while holding the lease."""
        await self.read(partial(_upgrade, path=self.path))

    async def remove_copies(self) -> None:
        """Remove the copies that migrations made. Call it after a successful run."""
        await self._in_thread(partial(remove_copies, self.path))

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run *query* between two transactions."""
        return await self._in_thread(partial(self._run, query))

    async def replace_content(self, source: Path) -> None:
        """
        Replace everything in the ledger with the ledger *source*, in one transaction.

        The lease of this run must be in *source*.

        Raises:
            DestinationError: The disk is full or fails; the ledger is not changed.
        """

        def copy(connection: sqlite3.Connection) -> None:
            with closing(sqlite3.connect(source)) as content:
                content.backup(connection)

        await self.read(copy)

    async def write(
        self,
        statement: Callable[[sqlite3.Connection], T],
        *,
        keys: Collection[str] = (),
        is_heartbeat: bool = False,
    ) -> T:
        """
        Run *statement* in a transaction, together with other waiting writes; return once it is durable.

        *statement* may run more than once: the transaction is repeated after a failure of the batch.

        Args:
            keys: Objects that must be durable first, because the statement records them.
            is_heartbeat: The statement changes only the lease or the row of the snapshot.

        Raises:
            DestinationError: The disk is full or fails, or the ledger is locked. *statement* has no effect.
        """
        self.changes += not is_heartbeat
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        entry = _Write(statement, keys, future)
        is_flushing = self._flushing is not None and not self._flushing.done()
        if not keys and not is_flushing:
            self._enqueue([entry])
        else:  # behind a write that is being flushed, so that the order is kept
            self._unflushed.append(entry)
            if not is_flushing:
                self._flushing = asyncio.create_task(self._flush_all(), name="ledger-flush")
        return await future

    def _enqueue(self, writes: list[_Write]) -> None:
        self._waiting += writes
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_all(), name="ledger-commit")

    async def _flush_all(self) -> None:
        """Make the objects of one batch durable while the transaction of the batch before it is written."""
        while self._unflushed:
            batch, self._unflushed = self._unflushed, []
            if durable := await self._flush_keys(batch):
                self._enqueue(durable)

    async def _commit_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                results = await self._in_thread(partial(self._commit, batch))
            except Exception as error:  # noqa: BLE001 - raised to the callers, which would never return otherwise
                results = [_copy_of(error) for _ in batch]
            for write, result in zip(batch, results, strict=True):
                _resolve_future(write.future, result)

    async def _flush_keys(self, batch: list[_Write]) -> list[_Write]:
        """Make the objects of *batch* durable; return the writes for which this succeeded. Others fail."""
        keys = {key for write in batch for key in write.keys}
        if not keys:
            return batch
        try:
            await self._flush(keys)
        except Exception as error:  # noqa: BLE001 - raised to the caller
            if len(batch) == 1:
                _resolve_future(batch[0].future, _copy_of(error))
                return []
        else:
            return batch
        return [durable for write in batch for durable in await self._flush_keys([write])]

    def _commit(self, batch: list[_Write]) -> list[Any]:
        """Write *batch*; return a result or a separate exception instance for each write."""
        try:
            return self._commit_together(batch)
        except Exception as error:  # noqa: BLE001 - raised to the callers
            is_locked = isinstance(error, DestinationError) and error.reason is Reason.LEDGER_LOCKED
            if is_locked or len(batch) == 1:  # repeating each write would wait for the same lock
                return [_copy_of(error) for _ in batch]
        return [self._commit([write])[0] for write in batch]

    def _commit_together(self, batch: list[_Write]) -> list[Any]:
        def transaction(connection: sqlite3.Connection) -> list[Any]:
            connection.execute("BEGIN IMMEDIATE")
            try:
                results = [_run_in_savepoint(connection, write.statement) for write in batch]
                connection.execute("COMMIT")
            except sqlite3.Error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return results

        return self._run(transaction)

    def _run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        return _run(self.path, call, self._connection, self._lock_timeout_s)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def close(self) -> None:
        """Finish the waiting writes, then close the connection."""
        if self._flushing is not None:
            with suppress(BulkdlError):
                await self._flushing
        if self._committing is not None:
            with suppress(BulkdlError):
                await self._committing
        await self._in_thread(self._connection.close)
        self._executor.shutdown(wait=True)


def open_read_only(path: Path) -> sqlite3.Connection:
    """
    Open a ledger to read it in the calling thread; blocks.

    Raises:
        LedgerError, DestinationError: See ``Ledger.open``.
    """
    return _connect(path, read_only=True, synchronous=True, upgrade=False, lock_timeout_s=LOCK_TIMEOUT_S)


def _run_in_savepoint(connection: sqlite3.Connection, statement: Statement) -> Any:
    """Run *statement*. An error that is not raised by SQLite rolls back only this statement of the batch."""
    connection.execute("SAVEPOINT statement")
    try:
        result = statement(connection)
    except sqlite3.Error:
        raise  # SQLite may have rolled back the transaction
    except Exception as error:  # noqa: BLE001 - raised to its caller
        connection.execute("ROLLBACK TO statement")
        result = error
    connection.execute("RELEASE statement")
    return result


def _resolve_future(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():  # the caller was cancelled; the write is committed
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def _copy_of(error: Exception) -> Exception:
    """Return a new instance equal to *error*: a shared instance would collect the callers' tracebacks."""
    kind = type(error)
    copy = kind.__new__(kind, *error.args)
    copy.args = error.args
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    copy.__suppress_context__ = error.__suppress_context__
    return copy


def _connect(
    path: Path, read_only: bool, *, synchronous: bool, upgrade: bool, lock_timeout_s: float
) -> sqlite3.Connection:
    def prepare(connection: sqlite3.Connection) -> None:
        connection.row_factory = sqlite3.Row
        version = check_version(connection, path)
        if read_only:
            if version == 1:
                version_1.create_views(connection)
            elif version == VERSION:
                create_views(connection)
            connection.execute("PRAGMA query_only = ON")
            return
        connection.execute(f"PRAGMA synchronous = {'FULL' if synchronous else 'OFF'}")
        connection.execute("PRAGMA foreign_keys = ON")
        if upgrade or version == 0:
            _upgrade(connection, path)

    uri = f"{path.absolute().as_uri()}?mode={_read_only_mode(path) if read_only else 'rwc'}"
    timeout_s = min(BUSY_TIMEOUT_S, lock_timeout_s)
    try:
        connection = sqlite3.connect(
            uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise convert_error(error, path) from None
    with ExitStack() as unless_prepared:
        unless_prepared.callback(connection.close)
        _run(path, prepare, connection, lock_timeout_s)
        if read_only and _run(path, _is_without_schema, connection, lock_timeout_s):
            return _empty_ledger(path)
        unless_prepared.pop_all()
    return connection


def _is_without_schema(connection: sqlite3.Connection) -> bool:
    """Return whether the database is empty: a run on a full disk could not write the schema."""
    entries: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    return entries == 0


def _empty_ledger(path: Path) -> sqlite3.Connection:
    """Open an empty ledger in memory, to read in place of *path*."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    migrate(connection, path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    migrate(connection, path)


def _read_only_mode(path: Path) -> str:
    """
    Return the SQLite open mode that leaves the folder unchanged.

    SQLite creates -wal and -shm files even for readers. The last connection removes them only if it can
    write. On read-only media the file must be opened with immutable=1.
    """
    if path.with_name(f"{path.name}-wal").exists():  # a run is active or was killed, and the files exist
        return "ro"
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return "rw" if writable else "ro&immutable=1"


def _run(
    path: Path, call: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection, lock_timeout_s: float
) -> T:
    """Run *call*, repeat it while the ledger is locked, and convert SQLite errors."""
    end_at = time.monotonic() + lock_timeout_s
    while True:
        try:
            return call(connection)
        except sqlite3.DatabaseError as error:
            if _code_of(error) not in _LOCK_CODES or time.monotonic() >= end_at:
                raise convert_error(error, path) from None
        time.sleep(_RETRY_DELAY_S)


def convert_error(error: sqlite3.Error, path: Path) -> BulkdlError:
    """Return the error of this package for *error* of the database *path*."""
    code = _code_of(error)
    extended = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_SHMSIZE:
        return DestinationError(Reason.DISK_FULL, f"{path}: {error}")
    if code in _DISK_CODES:
        return DestinationError(Reason.DISK_ERROR, f"{path}: {error}")
    if code in _LOCK_CODES:
        return DestinationError(
            Reason.LEDGER_LOCKED,
            f"{path}: timed out waiting for another process that locks the ledger ({error})",
        )
    if code in _DAMAGE_CODES:
        return LedgerDamagedError(f"{path}: the ledger is damaged or is not a SQLite database ({error})")
    return LedgerError(f"{path}: the ledger cannot be used ({error})")


def _code_of(error: sqlite3.Error) -> int:
    """Return the primary result code (0 if unknown)."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
