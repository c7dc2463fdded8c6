"""
The lease of a remote destination: at most one run writes to it, on any machine.

The lease is a small object, and every change is a conditional write. Its owner renews it. Another run takes
it over only after it has seen the same object for the complete lease time, by its own clock. The clocks of
two machines are never compared. The owner stops earlier: it changes the destination until the time of its
last successful renewal, plus the lease time, minus a margin. The clock includes the time in which the
machine was suspended.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from bulkdl.destinations.state_objects import StateObject, StateObjects, WriteConflictError
from bulkdl.errors import BulkdlError, ConfigError, DestinationError, OutputLockedError
from bulkdl.ledger.lease import Owner
from bulkdl.log import get_logger
from bulkdl.models import Reason

log = get_logger(__name__)

LEASE_TIME_S = 60.0
MAX_LEASE_S = 3600.0
_MIN_LEASE_S = 1.0
_RENEWALS = 6  # in one lease time
_RETRIES = 4  # in the time between two renewals
_TIMER_TOLERANCE_S = 0.1  # the event loop may wake a task slightly early
_RELEASE_TIMEOUT_S = 10.0

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


def read_clock() -> float:
    """Return a monotonic time in seconds that includes suspended time, if the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class LeaseLostError(DestinationError):
    """The lease was lost or could not be renewed in time, so the run must not change the destination."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.LEASE_LOST, detail)


@dataclass(frozen=True, slots=True)
class Holder:
    """
    The run that has the lease.

    Attributes:
        lease_s: Its lease time. Another run must see the object unchanged for this time.
    """

    run_id: str
    host: str
    pid: int
    since_at: datetime
    lease_s: float


def parse_holder(item: StateObject | None, lease_s: float) -> Holder | None:
    """Return the run that has the lease *item*; None if it is free. Unreadable data has an unknown owner."""
    if item is None:
        return None
    try:
        document = json.loads(item.data)
        if document["run_id"] is None:
            return None
        return Holder(
            str(document["run_id"]),
            str(document["host"]),
            int(document["pid"]),
            datetime.fromisoformat(document["since_at"]).astimezone(UTC),
            min(max(_MIN_LEASE_S, float(document["lease_s"])), MAX_LEASE_S),
        )
    except (ValueError, TypeError, KeyError):
        return Holder("unknown", "unknown", 0, datetime.now(UTC), lease_s)


class BucketLease:
    """
    The lease of *owner* in the object *key*.

    Args:
        location: The URL of the destination, for messages.
        lease_s: How long a lease is valid after its renewal.
        sleep: Waits while the lease of another run is observed. It may return early to end the waiting.
        wait: Waits between two renewals.
    """

    def __init__(
        self,
        objects: StateObjects,
        key: str,
        owner: Owner,
        location: str,
        lease_s: float = LEASE_TIME_S,
        *,
        sleep: Sleep = asyncio.sleep,
        wait: Sleep = asyncio.sleep,
        clock: Clock = read_clock,
    ) -> None:
        self._objects = objects
        self._key = key
        self._owner = owner
        self._location = location
        self._lease_s = lease_s
        self._sleep = sleep
        self._wait = wait
        self._clock = clock
        self._since_at = datetime.now(UTC)
        self._current: StateObject | None = None
        self._sent: set[bytes] = set()  # by renewals whose result is not known
        self._valid_until = 0.0
        self._lost_detail = "the lease is not acquired"

    async def acquire(self) -> None:
        """
        Acquire the lease, and check that the store obeys the conditions of writes.

        Raises:
            OutputLockedError: Another run has the lease, or *sleep* returned early.
            ConfigError: The store ignores the conditions.
            DestinationError: The store cannot be read or written.
        """
        current = await self._objects.read(self._key)
        while True:
            holder = parse_holder(current, self._lease_s)
            if holder is not None and current is not None:
                current = await self._observe(current, holder)
            try:
                await self._write(current, self._document())
                break
            except WriteConflictError:
                current = await self._objects.read(self._key)
                newer = parse_holder(current, self._lease_s)
                if newer is not None:
                    raise self._locked_error(newer) from None
        self._lost_detail = ""
        try:
            await self._check_conditions(current)
        except BaseException:
            await self.release()
            raise

    async def _observe(self, first: StateObject, holder: Holder) -> StateObject | None:
        """
        Watch the lease of another run until it is released, or has not changed for its lease time.

        Raises:
            OutputLockedError: The run has renewed it, or *sleep* returned early.
        """
        end_at = self._clock() + holder.lease_s
        log.info("lease.observed", host=holder.host, pid=holder.pid, delay_s=holder.lease_s)
        while (remaining_s := end_at - self._clock()) > 0:
            delay_s = min(remaining_s, holder.lease_s / _RENEWALS)
            wake_at = self._clock() + delay_s
            await self._sleep(delay_s)
            if self._clock() < wake_at - _TIMER_TOLERANCE_S:
                raise self._locked_error(holder)
            newest = await self._objects.read(self._key)
            if newest is None or newest.data != first.data:
                newer = parse_holder(newest, self._lease_s)
                if newer is None:
                    return newest
                raise self._locked_error(newer)
        log.warning("lease.taken_over", host=holder.host, pid=holder.pid, run=holder.run_id)
        return first

    async def _check_conditions(self, former: StateObject | None) -> None:
        """Check that writes with wrong conditions fail: with a former version, and without a version."""
        if former is None:
            former = self._current
            await self._renew()
        for expected in (None, former):
            try:
                await self._objects.write(self._key, self._free_document(), expected)
            except WriteConflictError:
                continue
            raise ConfigError(
                f"--output {self._location}",
                "this store ignores the conditions of conditional writes (If-Match, If-None-Match), so two "
                "runs cannot be kept apart; use --lease none and never start two runs at the same time",
            )

    async def _write(self, expected: StateObject | None, data: bytes) -> None:
        sent_at = self._clock()
        self._sent.add(data)
        self._current = await self._objects.write(self._key, data, expected)
        self._sent.clear()
        self._valid_until = sent_at + self._lease_s - self._margin_s

    @property
    def _margin_s(self) -> float:
        return self._lease_s / _RENEWALS

    async def keep(self, on_lost: Callable[[LeaseLostError], None]) -> None:
        """
        Renew the lease until cancelled, or until it is lost.

        A renewal that fails is repeated until the lease is not valid any more.
        """
        renew_s = self._lease_s / _RENEWALS
        delay_s = renew_s
        while True:
            await self._wait(max(0.0, min(delay_s, self._valid_until - self._clock())))
            try:
                self.check()
                async with asyncio.timeout(max(0.0, self._valid_until - self._clock())):
                    await self._renew()
                delay_s = renew_s
            except LeaseLostError as error:
                on_lost(error)
                return
            except (DestinationError, TimeoutError) as error:
                log.warning("lease.heartbeat_failed", detail=str(error) or "timed out")
                delay_s = renew_s / _RETRIES

    async def _renew(self) -> None:
        """Renew the lease; see ``_replace`` for the errors."""
        await self._replace(self._document)

    async def _replace(self, create_data: Callable[[], bytes]) -> None:
        """
        Replace the object of this run with a conditional write, after a lost response with a second one.

        Args:
            create_data: Returns the data of a write. The data of two writes must differ.

        Raises:
            LeaseLostError: Another run has taken the lease over.
            DestinationError: It is not known whether the object was replaced.
        """
        try:
            await self._write(self._current, create_data())
        except WriteConflictError:
            await self._adopt_sent()
            try:
                await self._write(self._current, create_data())
            except WriteConflictError:
                raise self._lose(None) from None

    async def _adopt_sent(self) -> None:
        """Continue with the object of an earlier write whose response was lost."""
        found = await self._objects.read(self._key)
        if found is None or found.data not in self._sent:
            raise self._lose(parse_holder(found, self._lease_s))
        self._current = found

    def _lose(self, holder: Holder | None) -> LeaseLostError:
        by = f" (host {holder.host}, pid {holder.pid})" if holder else ""
        self._lost_detail = f"{self._location}: another run{by} has taken over the lease of this destination"
        return LeaseLostError(self._lost_detail)

    def check(self) -> None:
        """
        Check that this run has the lease, and that another run cannot have taken it over.

        Raises:
            LeaseLostError: It does not have the lease any more.
        """
        if not self._lost_detail and self._clock() >= self._valid_until:
            self._lost_detail = (
                f"{self._location}: the lease of this destination could not be renewed within "
                f"{self._lease_s - self._margin_s:g} s"
            )
        if self._lost_detail:
            raise LeaseLostError(self._lost_detail)

    async def release(self) -> None:
        """Release the lease if this run has it. A failure is logged: the lease becomes stale."""
        try:
            self.check()
            self._lost_detail = "the lease is released"
            async with asyncio.timeout(_RELEASE_TIMEOUT_S):
                await self._replace(self._free_document)
        except (BulkdlError, TimeoutError) as error:
            log.warning("lease.release_failed", detail=str(error) or "timed out")

    def _document(self) -> bytes:
        return _encode(
            run_id=self._owner.run_id,
            host=self._owner.host,
            pid=self._owner.pid,
            since_at=self._since_at.isoformat(timespec="seconds"),
            lease_s=self._lease_s,
        )

    def _free_document(self) -> bytes:
        return _encode(run_id=None)

    def _locked_error(self, holder: Holder) -> OutputLockedError:
        return OutputLockedError(self._location, holder.host, holder.pid, holder.since_at)


def _encode(**document: object) -> bytes:
    return json.dumps({"format": 1, **document, "nonce": secrets.token_hex(8)}).encode()
