"""
The lease of an output directory: one run at a time writes there, proven by a heartbeat in the ledger.

File locks are not used: on some network file systems they succeed without locking. A lease is taken over
in two cases. Its process on this host has ended, or its heartbeat is older than STALE_S and does not
change while the new run observes it for OBSERVATION_S. The observation makes a difference between the
clocks of two hosts harmless.
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
        return cls(run_id, _host(), os.getpid(), _start_of(os.getpid()))


@dataclass(frozen=True, slots=True)
class Holder:
    """A lease as it is in the ledger."""

    owner: Owner
    since_at: datetime
    beat_at: datetime


class Liveness(Enum):
    """Whether the owner of a lease still works."""

    RUNNING = "running"
    STALE = "stale"  # the heartbeat is old, or the clocks differ: it must be observed
    ENDED = "ended"


def _host() -> str:
    """Return host name, boot and PID namespace; containers of one machine can share the first two."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii")[:8])
        parts.append(str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]"))
    except OSError:
        pass
    return "/".join(parts)


def holder(connection: sqlite3.Connection) -> Holder | None:
    """Return the lease; None if no run has it. ``liveness_of`` tells whether its owner still works."""
    row = connection.execute("SELECT * FROM lease").fetchone()
    if row is None:
        return None
    owner = Owner(row["run_id"], row["host"], row["pid"], row["process"])
    return Holder(owner, datetime.fromisoformat(row["since_at"]), datetime.fromisoformat(row["beat_at"]))


def acquire(
    connection: sqlite3.Connection, owner: Owner, path: str, now: datetime, observed: Holder | None = None
) -> Holder | None:
    """
    Acquire the lease. Call it inside a write transaction.

    Args:
        observed: A stale lease that the caller has observed for OBSERVATION_S.

    Returns:
        None if *owner* has the lease now. Otherwise the stale lease that must be observed first.

    Raises:
        OutputLockedError: The run that has the lease still works.
    """
    found = holder(connection)
    if found is not None:
        liveness = liveness_of(found, owner, now)
        if liveness is Liveness.RUNNING or (observed is not None and observed != found):
            raise held_by(found, path)
        if liveness is Liveness.STALE and observed is None:
            return found
    text = now.astimezone(UTC).isoformat()
    connection.execute(
        "INSERT OR REPLACE INTO lease (id, run_id, host, pid, process, since_at, beat_at)"
        " VALUES (1, ?, ?, ?, ?, ?, ?)",
        (owner.run_id, owner.host, owner.pid, owner.process, text, text),
    )
    return None


def held_by(found: Holder, path: str) -> OutputLockedError:
    """Return the error that names the owner of the lease."""
    return OutputLockedError(path, found.owner.host, found.owner.pid, found.since_at)


def liveness_of(found: Holder, asker: Owner, now: datetime) -> Liveness:
    """
    Return whether the owner of *found* still works, as far as *asker* can tell without waiting.

    A process of the same host and PID namespace is looked up, and clocks do not count. A process without
    a known start time, another host, and an earlier run of the asker's own process have only a heartbeat.
    """
    has_recent_beat = abs((now - found.beat_at).total_seconds()) < STALE_AFTER_S
    by_heartbeat = Liveness.RUNNING if has_recent_beat else Liveness.STALE
    other = found.owner
    if other.host != asker.host:
        return by_heartbeat
    if not _is_running(other):
        return Liveness.ENDED
    is_other_process = (other.pid, other.process) != (asker.pid, asker.process)
    return Liveness.RUNNING if other.process and is_other_process else by_heartbeat


def _start_of(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _is_running(owner: Owner) -> bool:
    """Return whether the process of *owner*, on this host, is still the same process."""
    if owner.process and owner.process != _start_of(owner.pid):
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
