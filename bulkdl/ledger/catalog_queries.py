"""
Read all containers with their outputs in one read transaction, for a catalogue.

The containers are ordered by scope, source and ID. The outputs of one container are read at a time, so that
memory does not grow with the number of outputs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bulkdl.ledger.database import open_read_only
from bulkdl.ledger.derived_queries import UNPACKER

_CONTAINERS = """
SELECT id, source, scope, container_id, status, created_at, finished_at, name, reason, detail,
       path_values
FROM containers ORDER BY scope, source, container_id
"""
_COLUMNS = """
outputs.parent, outputs.kind, outputs.name, outputs.state, outputs.reason, outputs.detail, outputs.key,
outputs.size_bytes, outputs.digest, outputs.recorded_at
"""
_OUTPUTS = f"""
SELECT {_COLUMNS}, unpacked.state AS unpack_state, folder.detail AS unpack_detail,
       unpacked.detail AS unpack_failure, unpacked.recorded_at AS unpacked_at
FROM outputs
LEFT JOIN derived AS unpacked ON unpacked.output = outputs.id AND unpacked.processor = '{UNPACKER}'
     AND unpacked.key = '' AND unpacked.digest IS outputs.digest
LEFT JOIN derived AS folder ON folder.output = outputs.id AND folder.processor = '{UNPACKER}'
     AND folder.key <> '' AND folder.digest IS NULL
WHERE outputs.container = ? ORDER BY outputs.id
"""  # noqa: S608 - constants
# A ledger of version 1, which commands that only read do not migrate, has no derived files.
_OUTPUTS_OF_VERSION_1 = f"""
SELECT {_COLUMNS}, NULL AS unpack_state, NULL AS unpack_detail, NULL AS unpack_failure, NULL AS unpacked_at
FROM outputs WHERE outputs.container = ? ORDER BY outputs.id
"""  # noqa: S608 - constants


@contextmanager
def read_transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """
    Open the ledger *path* in one read transaction. Blocks.

    Raises:
        LedgerError, DestinationError: See ``Ledger.open``.
    """
    with closing(open_read_only(path)) as connection:
        connection.execute("BEGIN")
        yield connection


def iter_containers(connection: sqlite3.Connection) -> Iterator[tuple[sqlite3.Row, list[sqlite3.Row]]]:
    """Yield each container with its outputs."""
    has_derived = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'derived'").fetchone()
    query = _OUTPUTS if has_derived else _OUTPUTS_OF_VERSION_1
    for container in connection.execute(_CONTAINERS):
        yield container, connection.execute(query, (container["id"],)).fetchall()
