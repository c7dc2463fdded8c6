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
from pathlib import Path

from bulkdl.errors import DirectoryHeld

BEAT_S = 10.0
STALE_S = 60.0


@dataclass(frozen=True, slots=True)
class Owner:
    """
    A run, as others see it.

    Attributes:
        process: When the process began, in the kernel's ticks: a pid alone may be somebody else's by
            now (in a container it is always 1). Empty where that cannot be told.
    """

    run_id: str
    host: str
    pid: int
    process: str = ""

    @classmethod
    def myself(cls, run_id: str) -> Owner:
        return cls(run_id, _host(), os.getpid(), _beginning(os.getpid()))


def _host() -> str:
    """Host and boot: a pod that comes back under its old name is another host."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
        return f"{socket.gethostname()}/{boot[:8]}"
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
        holder = Owner(row["run_id"], row["host"], row["pid"], row["process"])
        if is_alive(holder, datetime.fromisoformat(row["beat_at"]), owner, now):
            raise DirectoryHeld(path, holder.host, holder.pid, datetime.fromisoformat(row["since_at"]))
    text = now.astimezone(UTC).isoformat()
    connection.execute(
        "INSERT OR REPLACE INTO lease (id, run_id, host, pid, process, since_at, beat_at)"
        " VALUES (1, ?, ?, ?, ?, ?, ?)",
        (owner.run_id, owner.host, owner.pid, owner.process, text, text),
    )


def is_alive(holder: Owner, beat_at: datetime, asker: Owner, now: datetime) -> bool:
    """Whether *holder* must be taken for running, as far as *asker* can see."""
    if holder.host == asker.host and not _goes_on(holder):
        return False
    return abs((now - beat_at).total_seconds()) < STALE_S


def _beginning(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _goes_on(holder: Owner) -> bool:
    """Whether the process of *holder*, on this host, is still the same one."""
    if holder.process and holder.process != _beginning(holder.pid):
        return False
    try:
        os.kill(holder.pid, 0)
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
