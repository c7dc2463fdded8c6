"""Holds an output directory: opens its ledger and keeps its lease, so that no other run writes there."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bulkdl.concurrency import shield_until_done
from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.destinations.local.errors import map_os_errors
from bulkdl.errors import BulkdlError, DestinationError, DownloadError, LedgerError, first_leaf_exception
from bulkdl.failure_policy import FAILURE_POLICIES, ExitCode
from bulkdl.ledger import lease
from bulkdl.ledger.database import LEDGER_NAME, Ledger
from bulkdl.log import get_logger
from bulkdl.models import Durability

log = get_logger(__name__)

Lost = Callable[[ExitCode], None]
"""Called when the lease is lost, with the exit code that follows."""

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]

# The size of one transaction of one row, with its write-ahead log.
_RESERVE_BYTES = 64 << 10
_BEAT_RETRY_S = lease.RENEW_INTERVAL_S / 4
_TIMER_TOLERANCE_S = 0.1  # the event loop may wake a task slightly early


@asynccontextmanager
async def open_locked_ledger(
    sink: LocalDestination, run_id: str, *, lost: Lost | None = None, sleep: Sleep = asyncio.sleep
) -> AsyncIterator[Ledger]:
    """
    Acquire the lease of the directory of *sink*, and yield its ledger, open for writing.

    Args:
        lost: Called when the lease is lost; by default an error is raised.
        sleep: Waits while a stale lease is observed. It may return early to end the waiting.

    Raises:
        ConfigError: The directory cannot be written.
        OutputLockedError: Another run has the lease.
        LedgerError: The ledger cannot be used, or the lease was lost.
        DestinationError: The ledger cannot be read or written, or another process locks it.
    """
    await asyncio.to_thread(sink.prepare)
    ledger = await Ledger.open(
        sink.state / LEDGER_NAME,
        settle=sink.sync,
        synchronous=sink.durability is not Durability.NONE,
        upgrade=False,
    )
    owner = lease.Owner.current(run_id)
    reserve = sink.state / "reserve"
    try:
        try:
            await acquire_lease(ledger, owner, sink.root, sleep=sleep)
        except asyncio.CancelledError:
            await shield_until_done(_release(ledger, owner))  # the transaction may have been committed
            raise
        try:
            await ledger.upgrade()
            await asyncio.to_thread(_prepare, sink, reserve)
            async with asyncio.TaskGroup() as group:
                beat = group.create_task(keep_lease(ledger, owner, sink.root, lost), name="lease")
                yield ledger
                beat.cancel()
        except BaseExceptionGroup as errors:
            raise first_leaf_exception(errors) from None
        finally:
            await shield_until_done(_release_lease(ledger, owner, reserve))
    finally:
        await ledger.close()


def _prepare(sink: LocalDestination, reserve: Path) -> None:
    """Remove the temporary files of killed runs, and reserve disk space for releasing the lease."""
    sink.remove_stale_temp_files()
    with map_os_errors(reserve):
        reserve.write_bytes(os.urandom(_RESERVE_BYTES))


async def _release_lease(ledger: Ledger, owner: lease.Owner, reserve: Path) -> None:
    """Release the lease, even if the disk is full."""
    with suppress(BulkdlError), map_os_errors(reserve):
        await asyncio.to_thread(reserve.unlink, missing_ok=True)
        await _release(ledger, owner)


async def _release(ledger: Ledger, owner: lease.Owner) -> None:
    with suppress(BulkdlError):
        await ledger.write(partial(lease.release, owner=owner))


async def acquire_lease(
    ledger: Ledger,
    owner: lease.Owner,
    root: Path,
    *,
    sleep: Sleep = asyncio.sleep,
    clock: Clock = time.monotonic,
) -> None:
    """
    Acquire the lease of the directory *root*; observe a stale lease before it is taken over.

    Raises:
        OutputLockedError: Another run has the lease, or *sleep* returned early.
    """
    acquire = partial(lease.acquire, owner=owner, path=str(root))
    stale = await ledger.write(lambda connection: acquire(connection, now=datetime.now(UTC)))
    if stale is None:
        return
    await observe(stale, root, sleep=sleep, clock=clock)
    await ledger.write(lambda connection: acquire(connection, now=datetime.now(UTC), observed=stale))


async def observe(
    stale: lease.Holder, root: Path, *, sleep: Sleep = asyncio.sleep, clock: Clock = time.monotonic
) -> None:
    """
    Wait for as long as a stale lease must be observed.

    Raises:
        OutputLockedError: *sleep* returned early.
    """
    log.info("lease.observed", host=stale.owner.host, pid=stale.owner.pid, delay_s=lease.OBSERVATION_S)
    end_at = clock() + lease.OBSERVATION_S
    await sleep(lease.OBSERVATION_S)
    if clock() < end_at - _TIMER_TOLERANCE_S:
        raise lease.held_by(stale, str(root))


async def keep_lease(
    ledger: Ledger,
    owner: lease.Owner,
    root: Path,
    lost: Lost | None = None,
    *,
    sleep: Sleep = asyncio.sleep,
    clock: Clock = time.monotonic,
) -> None:
    """
    Write the heartbeat until cancelled, or until the lease is lost.

    A heartbeat that fails is repeated. The lease counts as lost when no heartbeat could be written for
    STALE_S, because another run may take it over from then on.
    """
    delay_s = lease.RENEW_INTERVAL_S
    written_at = clock()
    while True:
        await sleep(delay_s)
        started_at = clock()
        try:
            is_ours = await ledger.write(lambda connection: lease.renew(connection, owner, datetime.now(UTC)))
        except (DestinationError, LedgerError) as error:
            log.warning("lease.heartbeat_failed", detail=str(error))
            if clock() - written_at >= lease.STALE_AFTER_S:
                _report_lost(error, lost)
                return
            delay_s = _BEAT_RETRY_S
            continue
        if not is_ours:
            taken = LedgerError(f"{root}: another run has taken over the lease of this directory")
            _report_lost(taken, lost, ExitCode.LOCKED)
            return
        delay_s, written_at = lease.RENEW_INTERVAL_S, started_at


def _report_lost(error: BulkdlError, lost: Lost | None, exit_code: ExitCode | None = None) -> None:
    if lost is None:
        raise error
    log.error("lease.lost", detail=str(error))
    if exit_code is None:
        exit_code = (
            FAILURE_POLICIES[error.reason].exit_code if isinstance(error, DownloadError) else ExitCode.USAGE
        )
    lost(exit_code)
