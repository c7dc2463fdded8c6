"""
Implement the lease of an output directory: at most one run writes to it, and renews the lease in the ledger.

File locks are not used: on some network file systems they succeed without locking. A lease is taken over
in two cases. Its process on this host has ended, or its heartbeat is older than STALE_AFTER_S and does
not change while the new run observes it for OBSERVATION_S. The observation makes a difference between
the clocks of two hosts harmless.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from bulkdl.errors import OutputLockedError

RENEW_INTERVAL_S = 10.0
STALE_AFTER_S = 60.0
OBSERVATION_S = 2 * RENEW_INTERVAL_S


@dataclass(frozen=True, slots=True)
class Owner:
    """
    The run that owns a lease.

    Attributes:
        host: Host name, boot and PID namespace: *pid* has a meaning only within them.
        process: Start time of the process in the kernel's ticks. A pid alone can belong to another
            process by now (in a container it is always 1). Empty if unknown.
    """

    run_id: str
    host: str
    pid: int
    process: str = ""

    @classmethod
    def current(cls, run_id: str) -> Owner:
        return cls(run_id, _host_id(), os.getpid(), _process_start_ticks(os.getpid()))


@dataclass(frozen=True, slots=True)
class Lease:
    """The row of the lease in the ledger."""

    owner: Owner
    since_at: datetime
    renewed_at: datetime


class Liveness(Enum):
    """Whether the process of a lease is still running."""

    RUNNING = "running"
    STALE = "stale"  # the heartbeat is old, or the clocks differ: observe the lease
    ENDED = "ended"


def _host_id() -> str:
    """Return host name, boot and PID namespace; containers of one machine can share the first two."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii")[:8])
        parts.append(str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]"))
    except OSError:
        pass
    return "/".join(parts)


def read_lease(connection: sqlite3.Connection) -> Lease | None:
    """Return the lease; None if no run has it. ``check_liveness`` returns whether its owner is running."""
    row = connection.execute("SELECT * FROM lease").fetchone()
    if row is None:
        return None
    owner = Owner(row["run_id"], row["host"], row["pid"], row["process"])
    return Lease(owner, datetime.fromisoformat(row["since_at"]), datetime.fromisoformat(row["beat_at"]))


def acquire(
    connection: sqlite3.Connection, owner: Owner, path: str, now: datetime, observed: Lease | None = None
) -> Lease | None:
    """
    Acquire the lease. Call it inside a write transaction.

    Args:
        observed: A stale lease that the caller has observed for OBSERVATION_S.

    Returns:
        None if *owner* has the lease now. Otherwise the stale lease that must be observed first.

    Raises:
        OutputLockedError: The run that has the lease is still running.
    """
    current = read_lease(connection)
    if current is not None:
        liveness = check_liveness(current, owner, now)
        if liveness is Liveness.RUNNING or (observed is not None and observed != current):
            raise locked_error(current, path)
        if liveness is Liveness.STALE and observed is None:
            return current
    text = now.astimezone(UTC).isoformat()
    connection.execute(
        "INSERT OR REPLACE INTO lease (id, run_id, host, pid, process, since_at, beat_at)"
        " VALUES (1, ?, ?, ?, ?, ?, ?)",
        (owner.run_id, owner.host, owner.pid, owner.process, text, text),
    )
    return None


def locked_error(lease: Lease, path: str) -> OutputLockedError:
    """Return the error that names the owner of *lease*."""
    return OutputLockedError(path, lease.owner.host, lease.owner.pid, lease.since_at)


def check_liveness(lease: Lease, observer: Owner, now: datetime) -> Liveness:
    """
    Return whether the owner of *lease* is running, as far as *observer* can decide without waiting.

    The process is looked up if it is in the same host and PID namespace, and clocks are not used. Only the
    heartbeat counts for another host, for a process without a known start time, and for an earlier run in
    the process of *observer*.
    """
    has_recent_beat = abs((now - lease.renewed_at).total_seconds()) < STALE_AFTER_S
    by_heartbeat = Liveness.RUNNING if has_recent_beat else Liveness.STALE
    other = lease.owner
    if other.host != observer.host:
        return by_heartbeat
    if not _is_running(other):
        return Liveness.ENDED
    is_other_process = (other.pid, other.process) != (observer.pid, observer.process)
    return Liveness.RUNNING if other.process and is_other_process else by_heartbeat


def _process_start_ticks(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _is_running(owner: Owner) -> bool:
    """Return whether the process of *owner* is running on this host. Its pid can be reused."""
    if owner.process and owner.process != _process_start_ticks(owner.pid):
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def renew(connection: sqlite3.Connection, owner: Owner, now: datetime) -> bool:
    """Write the heartbeat of *owner*. Return False if another run has taken the lease over."""
    changed = connection.execute(
        "UPDATE lease SET beat_at = ? WHERE run_id = ?", (now.astimezone(UTC).isoformat(), owner.run_id)
    )
    return changed.rowcount == 1


def release(connection: sqlite3.Connection, owner: Owner) -> None:
    connection.execute("DELETE FROM lease WHERE run_id = ?", (owner.run_id,))
