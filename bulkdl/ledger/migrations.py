"""
The version of a ledger, and the migration to the version that this program writes.

``schema.sql`` always contains the complete newest version; ``migrations/NNNN.sql`` migrates version
NNNN-1 to NNNN. A test compares both results. No migration may change the table ``lease``: every version
must be able to acquire the lease before it migrates.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from bulkdl.errors import DestinationError, LedgerVersionError
from bulkdl.models import Reason

VERSION = 1


def schema() -> str:
    return files("bulkdl.ledger").joinpath("schema.sql").read_text("utf-8")


def migrations() -> dict[int, str]:
    """Return the SQL of each migration by the version that it produces."""
    folder = files("bulkdl.ledger").joinpath("migrations")
    if not folder.is_dir():
        return {}
    scripts = (entry for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return {int(Path(entry.name).stem): entry.read_text("utf-8") for entry in scripts}


def refuse_newer(connection: sqlite3.Connection, path: Path, version: int | None = None) -> int:
    """Return the version of the ledger. Raise LedgerVersionError if a newer bulkdl wrote it."""
    known = VERSION if version is None else version
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > known:
        raise LedgerVersionError(str(path), found, known)
    return found


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
    found = refuse_newer(connection, path, target)
    if found == target:
        return
    known = migrations() if steps is None else steps
    scripts = [schema()] if found == 0 else [known[step] for step in range(found + 1, target + 1)]
    if found:
        back_up(connection, path.with_name(f"{path.name}.version-{found}"))
    try:
        connection.executescript(
            "BEGIN IMMEDIATE;\n" + "\n".join(scripts) + f"\nPRAGMA user_version = {target};\nCOMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.rollback()
        if refuse_newer(connection, path, target) == target:
            return  # another run has migrated it meanwhile
        raise


def back_up(connection: sqlite3.Connection, target: Path) -> None:
    """Copy the ledger to *target*, complete or not at all."""
    aside = target.with_name(f"{target.name}.tmp")
    try:
        aside.unlink(missing_ok=True)
        with closing(sqlite3.connect(aside)) as copy:
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without -wal and -shm
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(target)
    except OSError as error:
        raise DestinationError(Reason.DISK_ERROR, f"{target}: {error.strerror or error}") from None
