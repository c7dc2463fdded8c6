"""
The state of a run that is in its remote destination: the number of shards, the lease and the snapshots.

Each shard has its own folder there, with its own lease and its own snapshots. The shards have separate
ledgers, so their number cannot change while the destination has their state.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bulkdl.destinations.interfaces import STATE_FOLDER, Destination
from bulkdl.destinations.state_objects import StateObjects, WriteConflictError
from bulkdl.errors import ConfigError, DestinationError, LedgerDamagedError
from bulkdl.failure_policy import ExitCode
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.lease import Owner
from bulkdl.ledger.locked import LeaseLostCallback, Sleep
from bulkdl.log import get_logger
from bulkdl.settings.parsers import Shard
from bulkdl.state.bucket_lease import LEASE_TIME_S, BucketLease, LeaseLostError
from bulkdl.state.snapshots import Pointer, Snapshots

log = get_logger(__name__)

LAYOUT_KEY = f"{STATE_FOLDER}/layout.json"
_LEASE_NAME = "lease.json"
# A snapshot of a large ledger takes at most this part of the time: one twentieth.
_MIN_INTERVAL_IN_DURATIONS = 20


@dataclass(frozen=True, slots=True)
class SharedStateOptions:
    """
    Options of the state in a remote destination.

    Attributes:
        has_lease: Whether a lease in the destination keeps the runs of several machines apart.
        lease_s: How long a lease is valid after its renewal.
        snapshot_every_s: The time between two snapshots of a run.
    """

    has_lease: bool = True
    lease_s: float = LEASE_TIME_S
    snapshot_every_s: float = 300.0


def state_prefix(shard: Shard | None) -> str:
    """Return the folder of the state objects of *shard* with its slash."""
    if shard is None or shard.count == 1:
        return f"{STATE_FOLDER}/"
    return f"{STATE_FOLDER}/shards/{shard.index:03}-of-{shard.count:03}/"


class SharedState:
    """
    The lease and the snapshots of one shard. Runs use it one after another.

    Args:
        temp_folder: A folder for temporary files; it must exist when a snapshot is read or written.
    """

    def __init__(
        self,
        destination: Destination,
        objects: StateObjects,
        shard: Shard | None,
        temp_folder: Path,
        options: SharedStateOptions,
    ) -> None:
        self._destination = destination
        self._objects = objects
        self._shard = shard
        self._prefix = state_prefix(shard)
        self._temp_folder = temp_folder
        self._options = options
        self._snapshots = Snapshots(destination, objects, self._prefix, temp_folder)
        self._publishing = asyncio.Lock()
        self._lease: BucketLease | None = None
        self._run_id = ""
        self._published_changes = -1
        self._is_complete = False
        self._last_duration_s = 0.0

    async def open(
        self, ledger: Ledger, owner: Owner, sleep: Sleep, *, ignore_snapshot: bool = False
    ) -> None:
        """
        Acquire the lease, and restore the snapshot if it is newer than *ledger*.

        Args:
            owner: The run, which has the lease of *ledger*.
            sleep: Waits while the lease of another run is observed. It may return early to end the waiting.
            ignore_snapshot: Keep the content of *ledger*. It replaces the snapshot.

        Raises:
            OutputLockedError: Another run has the lease.
            ConfigError: The number of shards differs, the store ignores conditions, or the snapshot is
                older.
            LedgerError: The snapshot is damaged, or a newer bulkdl wrote it.
            DestinationError: The destination cannot be read or written.
        """
        self._run_id, self._published_changes, self._is_complete = owner.run_id, -1, False
        self._objects.set_guard(self.check_lease)
        if self._options.has_lease:
            lease = BucketLease(
                self._objects,
                self._prefix + _LEASE_NAME,
                owner,
                self._destination.location,
                self._options.lease_s,
                sleep=sleep,
            )
            await lease.acquire()
            self._lease = lease
        await self._check_layout()
        if ignore_snapshot:
            await self._snapshots.replace()
            return
        await self._snapshots.load(ledger, owner)
        await ledger.upgrade()
        self._published_changes = ledger.changes

    async def close(self) -> None:
        """Release the lease."""
        lease, self._lease = self._lease, None
        if lease is not None:
            await lease.release()

    def check_lease(self) -> None:
        """
        Check that the destination may be changed.

        Raises:
            LeaseLostError: The lease was lost.
        """
        if self._lease is not None:
            self._lease.check()

    async def keep(self, ledger: Ledger, on_lost: LeaseLostCallback | None) -> None:
        """
        Renew the lease and publish snapshots until cancelled.

        Args:
            on_lost: Called when the lease is lost; by default an error is raised.
        """

        def report(error: LeaseLostError) -> None:
            if on_lost is None:
                raise error
            log.error("lease.lost", detail=error.detail)
            on_lost(ExitCode.LOCKED)

        async with asyncio.TaskGroup() as group:
            if self._lease is not None:
                group.create_task(self._lease.keep(report), name="bucket-lease")
            group.create_task(self._publish_at_intervals(ledger, report), name="snapshots")

    async def _publish_at_intervals(self, ledger: Ledger, report: Callable[[LeaseLostError], None]) -> None:
        while True:
            interval_s = self._options.snapshot_every_s
            await asyncio.sleep(max(interval_s, _MIN_INTERVAL_IN_DURATIONS * self._last_duration_s))
            try:
                await self.publish(ledger)
            except LeaseLostError as error:
                report(error)
                return
            except DestinationError as error:
                log.warning("snapshot.failed", reason=error.reason.value, detail=error.detail)

    async def publish_last(self, ledger: Ledger) -> None:
        """Publish the last snapshot of a run as ``publish`` does; ``finish`` does not repeat a failure."""
        self._is_complete = True
        await self.publish(ledger)

    async def finish(self, ledger: Ledger) -> None:
        """Publish a snapshot as ``publish`` does, unless ``publish_last`` was called."""
        if not self._is_complete:
            await self.publish(ledger)

    async def publish(self, ledger: Ledger) -> None:
        """
        Publish a snapshot if *ledger* has changed after the last one.

        Raises:
            LeaseLostError: The lease was lost, or another run has published a snapshot.
            DestinationError: The snapshot was not published.
        """
        async with self._publishing:
            changes = ledger.changes
            if changes == self._published_changes:
                return
            started_at = time.monotonic()
            self.check_lease()
            await self._snapshots.publish(ledger, self._run_id, self.check_lease)
            self._published_changes = changes
            self._last_duration_s = time.monotonic() - started_at

    async def all_shards(self) -> dict[str, SharedState]:
        """Return the state of each shard that the destination is divided into; the only one is ``.``."""
        count = await read_shard_count(self._objects, self._destination.location) or 1
        if count == 1:
            return {".": self}
        shards = [Shard(index, count) for index in range(count)]
        return {str(shard): self._of_shard(shard) for shard in shards}

    def _of_shard(self, shard: Shard) -> SharedState:
        return SharedState(self._destination, self._objects, shard, self._temp_folder, self._options)

    async def find_snapshot(self) -> Pointer | None:
        """Return the newest snapshot; None if the destination has none."""
        return await self._snapshots.find()

    async def download_snapshot(self, pointer: Pointer, folder: Path) -> Path:
        """Download the ledger to a file in *folder* and return its path; see ``Snapshots.download``."""
        return await self._snapshots.download(pointer, folder)

    async def _check_layout(self) -> None:
        """
        Record the number of shards, or compare it with the recorded one.

        Raises:
            ConfigError: It differs.
        """
        own = 1 if self._shard is None else self._shard.count
        recorded = await read_shard_count(self._objects, self._destination.location)
        if recorded is None:
            document = {"format": 1, "shards": own, "nonce": secrets.token_hex(8)}
            try:
                await self._objects.write(LAYOUT_KEY, json.dumps(document).encode(), None)
            except WriteConflictError:
                recorded = await read_shard_count(self._objects, self._destination.location)
            else:
                return
        if recorded != own:
            raise _shard_error(self._destination.location, recorded or 0, own)


async def read_shard_count(objects: StateObjects, location: str) -> int | None:
    """
    Return the number of shards that the destination is divided into; None if it is not recorded.

    Raises:
        LedgerDamagedError: The record is invalid.
        DestinationError: It cannot be read.
    """
    found = await objects.read(LAYOUT_KEY)
    if found is None:
        return None
    try:
        count = int(json.loads(found.data)["shards"])
    except (ValueError, TypeError, KeyError):
        count = 0
    if count < 1:
        raise LedgerDamagedError(
            f"{location}: invalid number of shards in {LAYOUT_KEY}; delete this object if bulkdl did "
            "not write it"
        )
    return count


def _shard_error(location: str, recorded: int, own: int) -> ConfigError:
    def describe(count: int) -> str:
        return "one run without --shard" if count == 1 else f"{count} shards (--shard K/{count})"

    return ConfigError(
        f"--output {location}",
        f"the number of shards differs from earlier runs: expected {describe(recorded)}, actual "
        f"{describe(own)}; use the former number, or choose another prefix",
    )
