"""
Who writes to an output directory: one run at a time, proven by a heartbeat in the ledger.

File locks are not used: on some network file systems they succeed without locking. A lease whose
owner is gone (a dead process of this host, or no heartbeat for STALE_S) is taken over.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime

from bulkdl.errors import DirectoryHeld

BEAT_S = 10.0
STALE_S = 60.0


@dataclass(frozen=True, slots=True)
class Owner:
    """A run, as others see it."""

    run_id: str
    host: str
    pid: int

    @classmethod
    def myself(cls, run_id: str) -> Owner:
        return cls(run_id, _host(), os.getpid())


def _host() -> str:
    """Host and boot: a pod that comes back under its old name is another host."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:  # noqa: PTH123 - not a file of ours
            return f"{socket.gethostname()}/{stream.read(8)}"
    except OSError:
        return socket.gethostname()


def acquire(connection: sqlite3.Connection, owner: Owner, path: str, now: datetime) -> None:
    """
    Take the lease; call it inside a write transaction.

    Raises:
        DirectoryHeld: Another run that is alive holds it.
    """
    row = connection.execute("SELECT * FROM lease").fetchone()
    if row is not None:
        holder = Owner(row["run_id"], row["host"], row["pid"])
        if is_alive(holder, datetime.fromisoformat(row["beat_at"]), owner, now):
            raise DirectoryHeld(path, holder.host, holder.pid, datetime.fromisoformat(row["since_at"]))
    text = now.astimezone(UTC).isoformat()
    connection.execute(
        "INSERT OR REPLACE INTO lease (id, run_id, host, pid, since_at, beat_at) VALUES (1, ?, ?, ?, ?, ?)",
        (owner.run_id, owner.host, owner.pid, text, text),
    )


def is_alive(holder: Owner, beat_at: datetime, asker: Owner, now: datetime) -> bool:
    """Whether *holder* must be taken for running, as far as *asker* can see."""
    if holder.host == asker.host and not _process_exists(holder.pid):
        return False
    return abs((now - beat_at).total_seconds()) < STALE_S


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def beat(connection: sqlite3.Connection, owner: Owner, now: datetime) -> bool:
    """Say that *owner* is still there. False when another run has taken the lease meanwhile."""
    changed = connection.execute(
        "UPDATE lease SET beat_at = ? WHERE run_id = ?", (now.astimezone(UTC).isoformat(), owner.run_id)
    )
    return changed.rowcount == 1


def release(connection: sqlite3.Connection, owner: Owner) -> None:
    connection.execute("DELETE FROM lease WHERE run_id = ?", (owner.run_id,))
