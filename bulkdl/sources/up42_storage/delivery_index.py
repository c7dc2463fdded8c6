"""
Join the lists of an account on disk, so that memory does not grow with the account.

The list of assets has the creation time of a delivery, and the list of collections its items. Neither list
contains the other. The index is a private temporary database of SQLite, which is deleted when it is closed.
SQLite writes it to the directory for temporary files only when it does not fit into its cache.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bulkdl.errors import DestinationError
from bulkdl.models import Reason
from bulkdl.sources.up42_storage import decode
from bulkdl.sources.up42_storage.models import Order, Original, ProcessingJob

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -2048;
CREATE TABLE originals (id TEXT PRIMARY KEY, document BLOB) WITHOUT ROWID;
CREATE TABLE collected (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE collections (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE jobs (collection_id TEXT PRIMARY KEY, id TEXT, title TEXT, status TEXT, created_at TEXT)
    WITHOUT ROWID;
CREATE TABLE orders (id TEXT PRIMARY KEY, name TEXT, status TEXT, created_at TEXT) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Origin of a delivery: a processing job or an order. Empty texts are unknown.

    Attributes:
        created_at: When the delivery was produced, as far as the origin shows it.
    """

    id: str = ""
    name: str = ""
    status: str = ""
    created_at: datetime | None = None


class DeliveryIndex:
    """The entries of the lists by their IDs. All methods block for a short time."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.executescript(_SCHEMA)
        self._lock = threading.Lock()  # the methods run in several threads

    def close(self) -> None:
        """Close and delete the database."""
        with self._lock:
            self._connection.close()

    def add_originals(self, originals: Iterable[Original]) -> None:
        """Add entries of the list of assets. The later entry with an ID is kept."""
        rows = [
            (original.id, zlib.compress(json.dumps(original.document).encode(), 1)) for original in originals
        ]
        self._write("INSERT OR REPLACE INTO originals VALUES (?, ?)", rows)

    def add_jobs(self, jobs: Iterable[ProcessingJob]) -> None:
        """Add processing jobs that have a result."""
        rows = [
            (job.collection_id, job.id, job.title, job.status, _format(job.finished_at or job.created_at))
            for job in jobs
            if job.collection_id is not None
        ]
        self._write("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?)", rows)

    def add_orders(self, orders: Iterable[Order]) -> None:
        """Add orders."""
        rows = [(order.id, order.display_name, order.status, _format(order.created_at)) for order in orders]
        self._write("INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?)", rows)

    def add_collections(self, ids: Sequence[str], asset_ids: Iterable[str]) -> set[str]:
        """
        Add collections and the assets that they contain.

        Returns:
            Those of *ids* that were added for the first time.
        """
        known = self._find("SELECT id FROM collections WHERE id IN ({})", ids)
        self._write("INSERT OR IGNORE INTO collections VALUES (?)", [(identity,) for identity in ids])
        self._write("INSERT OR IGNORE INTO collected VALUES (?)", [(identity,) for identity in asset_ids])
        return set(ids) - {row[0] for row in known}

    def find_originals(self, ids: Sequence[str]) -> dict[str, Original]:
        """Return those originals of *ids* that were added, by ID."""
        rows = self._find("SELECT id, document FROM originals WHERE id IN ({})", ids)
        return {identity: _read_original(document) for identity, document in rows}

    def find_jobs(self, collection_ids: Sequence[str]) -> dict[str, Origin]:
        """Return the processing jobs that produced collections, by collection."""
        rows = self._find("SELECT * FROM jobs WHERE collection_id IN ({})", collection_ids)
        return {row[0]: Origin(row[1], row[2], row[3], _parse(row[4])) for row in rows}

    def find_orders(self, ids: Sequence[str]) -> dict[str, Origin]:
        """Return orders by ID."""
        rows = self._find("SELECT * FROM orders WHERE id IN ({})", ids)
        return {row[0]: Origin(row[0], row[1], row[2], _parse(row[3])) for row in rows}

    def find_missing_results(self, limit: int) -> list[Origin]:
        """Return successful jobs whose collection was not added, at most *limit*."""
        rows = self._select(
            "SELECT * FROM jobs WHERE status IN ('SUCCESSFUL', 'CAPTURED')"
            " AND collection_id NOT IN (SELECT id FROM collections) LIMIT ?",
            [limit],
        )
        return [Origin(row[1], row[2], row[3], _parse(row[4])) for row in rows]

    def find_uncollected(self, after: str, limit: int) -> list[Original]:
        """Return originals in no collection whose ID is greater than *after*, in order of the IDs."""
        rows = self._select(
            "SELECT document FROM originals WHERE id > ? AND id NOT IN (SELECT id FROM collected)"
            " ORDER BY id LIMIT ?",
            [after, limit],
        )
        return [_read_original(document) for (document,) in rows]

    def _find(self, sql: str, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        return self._select(sql.format(",".join("?" * len(ids))), ids)

    def _select(self, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._lock, _convert_errors():
            return self._connection.execute(sql, values).fetchall()

    def _write(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        with self._lock, _convert_errors():
            self._connection.execute("BEGIN")
            self._connection.executemany(sql, rows)
            self._connection.execute("COMMIT")


@contextmanager
def _convert_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        detail = f"the temporary index of deliveries cannot be used ({error}); check TMPDIR"
        raise DestinationError(Reason.DISK_ERROR, detail) from error


def _read_original(document: object) -> Original:
    assert isinstance(document, bytes)  # noqa: S101 - the column is a BLOB
    return decode.original(json.loads(zlib.decompress(document)), "index")


def _format(value: datetime | None) -> str | None:
    return value.isoformat() if value is not None else None


def _parse(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value).astimezone(UTC) if value else None
