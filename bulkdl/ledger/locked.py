"""
Opens the ledger of a state directory while it holds the lease of that directory.

The lease prevents that two runs use the state directory at the same time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from bulkdl.concurrency import shield_until_done
from bulkdl.errors import BulkdlError, DestinationError, DownloadError, LedgerError, first_leaf_exception
from bulkdl.failure_policy import FAILURE_POLICIES, ExitCode
from bulkdl.ledger import lease
from bulkdl.ledger.database import Ledger
from bulkdl.log import get_logger
from bulkdl.models import Durability

log = get_logger(__name__)

LeaseLostCallback = Callable[[ExitCode], None]
"""Called when the lease is lost, with the exit code of the run."""

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]

# The size of one transaction of one row, with its write-ahead log.
_RESERVE_BYTES = 64 << 10
_RENEW_RETRY_S = lease.RENEW_INTERVAL_S / 4
_TIMER_TOLERANCE_S = 0.1  # the event loop may wake a task slightly early


class LedgerDirectory(Protocol):
    """The state directory, as far as the lock and the ledger use it. All methods block."""

    ledger_path: Path
    durability: Durability

    def prepare(self) -> None:
        """Create the directories and check that they are writable."""

    def remove_stale_temp_files(self) -> None:
        """Remove the temporary files of killed runs."""

    def reserve_space(self, size_bytes: int) -> None:
        """Write a file of *size_bytes*, so that as much disk space can be freed later."""

    def free_reserved_space(self) -> None:
        """Remove the file that ``reserve_space`` wrote, if it exists."""

    def check_destination(self) -> None:
        """Check that the state directory belongs to the destination."""

    def record_destination(self) -> None:
        """Record that the state directory belongs to the destination."""


class LedgerDestination(Protocol):
    """The destination, as far as the lock and the ledger use it."""

    @property
    def location(self) -> str:
        """The path or the URL of the destination, for messages."""

    async def open(self) -> None:
        """Check that objects can be published."""

    async def flush(self, keys: Collection[str]) -> None:
        """Make the objects *keys* durable."""


class SharedLedgerState(Protocol):
    """The state of a run in a remote destination, as far as the lock and the ledger use it."""

    async def open(
        self, ledger: Ledger, owner: lease.Owner, sleep: Sleep, *, ignore_snapshot: bool = False
    ) -> None:
        """Acquire the lease of the destination, and restore a newer snapshot to *ledger*."""

    async def keep(self, ledger: Ledger, on_lost: LeaseLostCallback | None) -> None:
        """Renew the lease and publish snapshots until cancelled."""

    async def finish(self, ledger: Ledger) -> None:
        """Publish a snapshot if *ledger* has changed after the last one."""

    async def close(self) -> None:
        """Release the lease."""


class LockableStorage(Protocol):
    """The storage of a run, as far as the lock and the ledger use it."""

    @property
    def state(self) -> LedgerDirectory:
        """The directory of the ledger."""

    @property
    def destination(self) -> LedgerDestination:
        """Where the objects are that the ledger records."""

    @property
    def shared_state(self) -> SharedLedgerState | None:
        """The state of the run in the destination, if it has one."""


@asynccontextmanager
async def open_locked_ledger(
    storage: LockableStorage,
    run_id: str,
    *,
    on_lost: LeaseLostCallback | None = None,
    sleep: Sleep = asyncio.sleep,
    ignore_snapshot: bool = False,
) -> AsyncIterator[Ledger]:
    """
    Acquire the lease of the state directory, open the destination, and yield the ledger for writing.

    With shared state: restore a newer snapshot first, and publish one after the block, unless it raises.

    Args:
        ignore_snapshot: Do not restore a snapshot. The ledger replaces it.
        on_lost: Called when the lease is lost; by default an error is raised.
        sleep: Waits while a stale lease is observed. It may return early to end the waiting.

    Raises:
        ConfigError: The state directory or the destination cannot be written.
        OutputLockedError: Another run has the lease.
        LedgerError: The ledger cannot be used, or the lease was lost.
        DestinationError: The ledger cannot be read or written, or another process locks it.
    """
    state, destination = storage.state, storage.destination
    await asyncio.to_thread(state.check_destination)
    await asyncio.to_thread(state.prepare)
    synchronous = state.durability is not Durability.NONE
    ledger = await Ledger.open(
        state.ledger_path, flush=destination.flush, synchronous=synchronous, upgrade=False
    )
    owner = lease.Owner.current(run_id)
    try:
        await _acquire_or_release(ledger, owner, destination.location, sleep)
        try:
            await ledger.upgrade()
            await asyncio.to_thread(_prepare, state)
            await destination.open()
            await asyncio.to_thread(state.record_destination)
            async with (
                _open_shared_state(storage.shared_state, ledger, owner, sleep, ignore_snapshot) as shared,
                _keep_leases(owner, destination.location, shared, ledger, on_lost),
            ):
                yield ledger
        except BaseExceptionGroup as errors:
            raise first_leaf_exception(errors) from None
        finally:
            await shield_until_done(_release_lease(ledger, owner, state))
    finally:
        await ledger.close()


@asynccontextmanager
async def _open_shared_state(
    shared: SharedLedgerState | None,
    ledger: Ledger,
    owner: lease.Owner,
    sleep: Sleep,
    ignore_snapshot: bool,
) -> AsyncIterator[SharedLedgerState | None]:
    if shared is None:
        yield None
        return
    try:
        await shared.open(ledger, owner, sleep, ignore_snapshot=ignore_snapshot)
        yield shared
    finally:
        await shield_until_done(shared.close())


@asynccontextmanager
async def _keep_leases(
    owner: lease.Owner,
    location: str,
    shared: SharedLedgerState | None,
    ledger: Ledger,
    on_lost: LeaseLostCallback | None,
) -> AsyncIterator[None]:
    """Renew the leases during the block; then publish the last snapshot."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(keep_lease(ledger, owner, location, on_lost), name="lease")]
        if shared is not None:
            tasks.append(group.create_task(shared.keep(ledger, on_lost), name="shared-state"))
        yield
        if shared is not None:
            await shared.finish(ledger)
        for task in tasks:
            task.cancel()


def _prepare(state: LedgerDirectory) -> None:
    """Remove the temporary files of killed runs, and reserve disk space for releasing the lease."""
    state.remove_stale_temp_files()
    state.reserve_space(_RESERVE_BYTES)


async def _release_lease(ledger: Ledger, owner: lease.Owner, state: LedgerDirectory) -> None:
    """Release the lease, even if the disk is full."""
    with suppress(BulkdlError):
        await asyncio.to_thread(state.free_reserved_space)
        await _release(ledger, owner)


async def _release(ledger: Ledger, owner: lease.Owner) -> None:
    with suppress(BulkdlError):
        await ledger.write(partial(lease.release, owner=owner), is_heartbeat=True)


async def _acquire_or_release(ledger: Ledger, owner: lease.Owner, location: str, sleep: Sleep) -> None:
    """Acquire the lease. Release it if the caller is cancelled: the transaction may have been committed."""
    try:
        await acquire_lease(ledger, owner, location, sleep=sleep)
    except asyncio.CancelledError:
        await shield_until_done(_release(ledger, owner))
        raise


async def acquire_lease(
    ledger: Ledger,
    owner: lease.Owner,
    location: str,
    *,
    sleep: Sleep = asyncio.sleep,
    clock: Clock = time.monotonic,
) -> None:
    """
    Acquire the lease of the runs that write to *location*; observe a stale lease before it is taken over.

    Raises:
        OutputLockedError: Another run has the lease, or *sleep* returned early.
    """
    acquire = partial(lease.acquire, owner=owner, path=location)
    stale = await ledger.write(
        lambda connection: acquire(connection, now=datetime.now(UTC)), is_heartbeat=True
    )
    if stale is None:
        return
    await observe(stale, location, sleep=sleep, clock=clock)
    await ledger.write(
        lambda connection: acquire(connection, now=datetime.now(UTC), observed=stale), is_heartbeat=True
    )


async def observe(
    stale: lease.Lease, location: str, *, sleep: Sleep = asyncio.sleep, clock: Clock = time.monotonic
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
        raise lease.locked_error(stale, location)


async def keep_lease(
    ledger: Ledger,
    owner: lease.Owner,
    location: str,
    on_lost: LeaseLostCallback | None = None,
    *,
    sleep: Sleep = asyncio.sleep,
    clock: Clock = time.monotonic,
) -> None:
    """
    Write the heartbeat until cancelled, or until the lease is lost.

    A heartbeat that fails is repeated. The lease counts as lost when no heartbeat could be written for
    STALE_AFTER_S, because another run may take it over from then on.
    """
    delay_s = lease.RENEW_INTERVAL_S
    written_at = clock()
    while True:
        await sleep(delay_s)
        started_at = clock()
        try:
            is_ours = await ledger.write(
                lambda connection: lease.renew(connection, owner, datetime.now(UTC)), is_heartbeat=True
            )
        except (DestinationError, LedgerError) as error:
            log.warning("lease.heartbeat_failed", detail=str(error))
            if clock() - written_at >= lease.STALE_AFTER_S:
                _report_lost(error, on_lost)
                return
            delay_s = _RENEW_RETRY_S
            continue
        if not is_ours:
            taken = LedgerError(f"{location}: another run has taken over the lease of this directory")
            _report_lost(taken, on_lost, ExitCode.LOCKED)
            return
        delay_s, written_at = lease.RENEW_INTERVAL_S, started_at


def _report_lost(
    error: BulkdlError, on_lost: LeaseLostCallback | None, exit_code: ExitCode | None = None
) -> None:
    if on_lost is None:
        raise error
    log.error("lease.lost", detail=str(error))
    if exit_code is None:
        exit_code = (
            FAILURE_POLICIES[error.reason].exit_code if isinstance(error, DownloadError) else ExitCode.USAGE
        )
    on_lost(exit_code)
