"""
Migrate a ledger to the version that this program writes.

``schema.sql`` always contains the complete newest version. MIGRATIONS contains the statements from each
version to the next one. A test compares both results. No migration may change the table ``lease``: every
version must be able to acquire the lease before it migrates.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from bulkdl.errors import DestinationError, LedgerVersionError
from bulkdl.ledger import version_1
from bulkdl.models import Reason

VERSION = 2

# By the version that the statements produce.
MIGRATIONS: Mapping[int, str] = {2: version_1.MIGRATION}


def load_schema() -> str:
    return files("bulkdl.ledger").joinpath("schema.sql").read_text("utf-8")


def check_version(connection: sqlite3.Connection, path: Path, version: int | None = None) -> int:
    """Return the version of the ledger. Raise LedgerVersionError if a newer bulkdl wrote it."""
    supported = VERSION if version is None else version
    current: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if current > supported:
        raise LedgerVersionError(str(path), current, supported)
    return current


def migrate(
    connection: sqlite3.Connection,
    path: Path,
    *,
    version: int | None = None,
    steps: Mapping[int, str] | None = None,
) -> None:
    """
    Migrate the ledger to *version* (default: the newest) in one transaction, all steps or none.

    An existing ledger is copied to ``<name>.version-<number>`` first.

    Raises:
        LedgerVersionError: A newer bulkdl wrote it.
        DestinationError: The copy cannot be written; the ledger is not changed.
    """
    target = VERSION if version is None else version
    current = check_version(connection, path, target)
    if current == target:
        if version is None:
            _add_missing(connection)
        return
    available = MIGRATIONS if steps is None else steps
    scripts = (
        [load_schema()] if current == 0 else [available[step] for step in range(current + 1, target + 1)]
    )
    if current:
        back_up(connection, path.with_name(f"{path.name}.version-{current}"))
    try:
        connection.executescript(
            "BEGIN IMMEDIATE;\n" + "\n".join(scripts) + f"\nPRAGMA user_version = {target};\nCOMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.rollback()
        if check_version(connection, path, target) == target:
            return  # another run migrated it concurrently
        raise


# Added to version 2 before its release, so that a ledger of an earlier revision can be without them.
_HAS_OBJECT_VERSION = "SELECT 1 FROM pragma_table_info('outputs') WHERE name = 'object_version'"
_ADD_OBJECT_VERSION = "ALTER TABLE outputs ADD COLUMN object_version TEXT"
_ADD_OBSOLETE_FILES = """
CREATE TABLE IF NOT EXISTS obsolete_files (
    key        TEXT PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    digest     TEXT
) STRICT
"""
_HAS_SNAPSHOT = "SELECT 1 FROM sqlite_schema WHERE name = 'snapshot'"
_ADD_SNAPSHOT = """
CREATE TABLE IF NOT EXISTS snapshot (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    ledger_id   TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    key         TEXT,
    pending_key TEXT
) STRICT
"""
_HAS_RUN_SOURCES = "SELECT 1 FROM sqlite_schema WHERE name = 'run_sources'"
_SELECT_RUN_SOURCES = """
SELECT run_id, coalesce(source, 'jobs') AS source, scope, exit_code FROM main.runs WHERE scope IS NOT NULL
"""
_ADD_RUN_SOURCES = (
    "CREATE TABLE run_sources (run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,"
    " source TEXT NOT NULL, scope TEXT, exit_code INTEGER, PRIMARY KEY (run_id, source)) STRICT",
    f"INSERT INTO run_sources {_SELECT_RUN_SOURCES}",
    "ALTER TABLE runs DROP COLUMN scope",
    "ALTER TABLE runs DROP COLUMN source",
    "UPDATE containers SET reason = 'container_unfinished' WHERE reason = 'job_unfinished'",
)
_SELECT_CONTAINERS = """
SELECT id, source, scope, container_id, status, is_final, revision, created_at, finished_at, name, attributes,
       listed_kinds, CASE reason WHEN 'job_unfinished' THEN 'container_unfinished' ELSE reason END AS reason,
       detail, '{}' AS path_values
FROM main.containers
"""
_HAS_PATH_VALUES = "SELECT 1 FROM pragma_table_info('containers') WHERE name = 'path_values'"
_ADD_PATH_VALUES = "ALTER TABLE containers ADD COLUMN path_values TEXT NOT NULL DEFAULT '{}'"
# By the query that returns no row if the revision is without the statements.
_ADDITIONS: Mapping[str, tuple[str, ...]] = {
    _HAS_OBJECT_VERSION: (_ADD_OBSOLETE_FILES, _ADD_OBJECT_VERSION),
    _HAS_RUN_SOURCES: _ADD_RUN_SOURCES,
    _HAS_SNAPSHOT: (_ADD_SNAPSHOT,),
    _HAS_PATH_VALUES: (_ADD_PATH_VALUES,),
}


def _add_missing(connection: sqlite3.Connection) -> None:
    """Add what a ledger of an earlier revision of version 2 does not have."""
    if all(connection.execute(check).fetchone() for check in _ADDITIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for check, statements in _ADDITIONS.items():
            if connection.execute(check).fetchone() is None:
                for statement in statements:
                    connection.execute(statement)
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.rollback()
        raise


def create_views(connection: sqlite3.Connection) -> None:
    """
    Show a ledger of an earlier revision of version 2 as one of this revision, without changing it.

    The views belong to this connection. SQLite keeps them in memory.
    """
    connection.execute("PRAGMA temp_store = MEMORY")
    if connection.execute(_HAS_RUN_SOURCES).fetchone() is None:
        connection.execute(f"CREATE TEMP VIEW run_sources AS {_SELECT_RUN_SOURCES}")
        connection.execute(f"CREATE TEMP VIEW containers AS {_SELECT_CONTAINERS}")
    elif connection.execute(_HAS_PATH_VALUES).fetchone() is None:
        connection.execute(
            "CREATE TEMP VIEW containers AS SELECT *, '{}' AS path_values FROM main.containers"
        )
    if connection.execute(_HAS_OBJECT_VERSION).fetchone() is None:
        connection.execute("CREATE TEMP VIEW outputs AS SELECT *, NULL AS object_version FROM main.outputs")


def remove_copies(path: Path) -> None:
    """Remove the copies of older versions. Call it after a run has succeeded with the current version."""
    for number in range(1, VERSION):
        copy = path.with_name(f"{path.name}.version-{number}")
        try:
            copy.unlink(missing_ok=True)
        except OSError as error:
            raise DestinationError(Reason.DISK_ERROR, f"{copy}: {error.strerror or error}") from None


def back_up(connection: sqlite3.Connection, target: Path) -> None:
    """Copy the ledger to *target* atomically."""
    temp_path = target.with_name(f"{target.name}.tmp")
    try:
        temp_path.unlink(missing_ok=True)
        with closing(sqlite3.connect(temp_path)) as copy:
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without -wal and -shm
        with temp_path.open("rb") as stream:
            os.fsync(stream.fileno())
        temp_path.replace(target)
    except OSError as error:
        raise DestinationError(Reason.DISK_ERROR, f"{target}: {error.strerror or error}") from None
