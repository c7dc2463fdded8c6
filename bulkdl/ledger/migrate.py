"""
The version of a ledger and the way up to the one that this program writes.

``schema.sql`` always shows the newest version whole; ``migrations/NNNN.sql`` brings version NNNN-1
to NNNN. A test holds the two ways against each other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from bulkdl.errors import LedgerTooNew

VERSION = 1


def schema() -> str:
    return files("bulkdl.ledger").joinpath("schema.sql").read_text("utf-8")


def migrations() -> dict[int, str]:
    """SQL by the version it leads to."""
    folder = files("bulkdl.ledger").joinpath("migrations")
    if not folder.is_dir():
        return {}
    scripts = (entry for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return {int(Path(entry.name).stem): entry.read_text("utf-8") for entry in scripts}


def refuse_newer(connection: sqlite3.Connection, path: Path, version: int = VERSION) -> int:
    """The version found. Raises LedgerTooNew when a newer bulkdl wrote it."""
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > version:
        raise LedgerTooNew(str(path), found, version)
    return found


def migrate(
    connection: sqlite3.Connection,
    path: Path,
    *,
    version: int = VERSION,
    steps: Mapping[int, str] | None = None,
) -> None:
    """Bring the ledger up to *version*, in one transaction: all of it or nothing."""
    found = refuse_newer(connection, path, version)
    if found == version:
        return
    known = migrations() if steps is None else steps
    scripts = [schema()] if found == 0 else [known[step] for step in range(found + 1, version + 1)]
    try:
        connection.executescript(
            "BEGIN IMMEDIATE;\n" + "\n".join(scripts) + f"\nPRAGMA user_version = {version};\nCOMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.rollback()
        if refuse_newer(connection, path, version) == version:
            return  # another run has done the same meanwhile
        raise
