"""Rename a damaged ledger, so that a rebuild can write a new ledger. No file is deleted."""

from __future__ import annotations

import asyncio
import fcntl
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from bulkdl.errors import DestinationError, LedgerDamagedError
from bulkdl.ledger import lease, maintenance_queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.locked import observe
from bulkdl.log import get_logger
from bulkdl.models import Reason
from bulkdl.os_errors import map_os_errors
from bulkdl.state.storage import Storage

log = get_logger(__name__)

# The bytes that every SQLite connection locks while it uses a file (see "File Locking" in SQLite's docs).
_LOCK_START = 0x40000000
_LOCK_BYTES = 512


async def rename_if_damaged(storage: Storage) -> str | None:
    """
    Rename the ledger of *storage* if SQLite reports damage; return the new path.

    A ledger that cannot be read for another reason (permission, lock, I/O error) is not changed.

    Raises:
        OutputLockedError: Another run has the lease.
        LedgerError: The ledger cannot be used, but is not damaged.
        DestinationError: The ledger cannot be read or renamed, or another process has it open.
    """
    path = storage.state.ledger_path
    if not await asyncio.to_thread(_exists, path):
        return None
    damage = await _find_damage(path)
    if damage is None:
        return None
    await _check_lease(path, storage.destination.location)
    new_path = await asyncio.to_thread(_rename_locked, path)
    log.warning("ledger.renamed", path=str(new_path), detail=damage)
    return str(new_path)


def _exists(path: Path) -> bool:
    with map_os_errors(path):
        return path.exists()


async def _find_damage(path: Path) -> str | None:
    try:
        ledger = await Ledger.open(path, read_only=True)
        try:
            return await ledger.read(maintenance_queries.find_integrity_error)
        finally:
            await ledger.close()
    except LedgerDamagedError as error:
        return str(error)


async def _check_lease(path: Path, location: str) -> None:
    """Raise OutputLockedError if the damaged ledger contains the lease of an active run."""
    holder = await _read_lease(path)
    if holder is None:
        return
    liveness = lease.check_liveness(holder, lease.Owner.current(""), datetime.now(UTC))
    if liveness is lease.Liveness.STALE:
        await observe(holder, location)
    if liveness is lease.Liveness.RUNNING or await _read_lease(path) != holder:
        raise lease.locked_error(holder, location)


async def _read_lease(path: Path) -> lease.Lease | None:
    try:
        ledger = await Ledger.open(path, read_only=True)
        try:
            return await ledger.read(lease.read_lease)
        finally:
            await ledger.close()
    except LedgerDamagedError:
        return None


def _rename_locked(path: Path) -> Path:
    """Rename the ledger and its log files while no process has it open; blocks."""
    new_path = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    with map_os_errors(path), path.open("r+b") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_BYTES, _LOCK_START)
        except (BlockingIOError, PermissionError):
            detail = f"{path}: the ledger is damaged and another process has it open"
            raise DestinationError(Reason.LEDGER_LOCKED, detail) from None
        for suffix in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(new_path.with_name(new_path.name + suffix))
    return new_path
