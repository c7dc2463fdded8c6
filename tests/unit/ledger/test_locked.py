"""Acquisition, renewal, loss and release of the lease of a directory."""

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from bulkdl.destinations.interfaces import LEDGER_NAME
from bulkdl.errors import DestinationError, LedgerError, OutputLockedError
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.ledger import lease
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.locked import acquire_lease, keep_lease, open_locked_ledger
from bulkdl.models import Reason
from bulkdl.state.storage import create_storage

ME = lease.Owner.current("mine")
OTHER = lease.Owner("other", "another-host/12345678/1", 1)
LOCKED = DestinationError(Reason.LEDGER_LOCKED, "another process locks the ledger")


@pytest.fixture
async def ledger(tmp_path):
    opened = await Ledger.open(tmp_path / LEDGER_NAME)
    yield opened
    await opened.close()


async def acquire(ledger, owner=OTHER, age_s=0.0):
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    await ledger.write(lambda connection: lease.acquire(connection, owner, "out", at))


async def holder(ledger):
    found = await ledger.read(lease.read_lease)
    return found and found.owner.run_id


@pytest.mark.parametrize("age_s", [lease.STALE_AFTER_S + 1, -lease.STALE_AFTER_S - 1, 86_400])
async def test_acquire_lease_takes_over_a_stale_lease_after_observation(ledger, tmp_path, timeline, age_s):
    await acquire(ledger, age_s=age_s)
    await acquire_lease(ledger, ME, tmp_path, sleep=timeline.sleep, clock=timeline.clock)
    assert await holder(ledger) == "mine"
    assert timeline.slept == [lease.OBSERVATION_S]


@pytest.mark.parametrize("age_s", [lease.STALE_AFTER_S + 1, -lease.STALE_AFTER_S - 1])
async def test_acquire_lease_with_a_changed_stale_heartbeat_is_refused(ledger, tmp_path, timeline, age_s):
    await acquire(ledger, age_s=age_s)

    async def sleep(delay_s):
        await timeline.sleep(delay_s)
        at = datetime.now(UTC) - timedelta(seconds=age_s - delay_s)
        assert await ledger.write(lambda connection: lease.renew(connection, OTHER, at))

    with pytest.raises(OutputLockedError, match="another-host"):
        await acquire_lease(ledger, ME, tmp_path, sleep=sleep, clock=timeline.clock)
    assert await holder(ledger) == "other"


async def test_acquire_lease_with_a_recent_heartbeat_is_refused_immediately(ledger, tmp_path, timeline):
    await acquire(ledger, age_s=lease.STALE_AFTER_S - 5)
    with pytest.raises(OutputLockedError):
        await acquire_lease(ledger, ME, tmp_path, sleep=timeline.sleep, clock=timeline.clock)
    assert timeline.slept == []


async def test_acquire_lease_stopped_during_the_observation_does_not_acquire(ledger, tmp_path):
    await acquire(ledger, age_s=86_400)
    stop = ShutdownController()
    asyncio.get_running_loop().call_later(0.01, stop.request, ExitCode.TERMINATED)
    with pytest.raises(OutputLockedError):
        await acquire_lease(ledger, ME, tmp_path, sleep=stop.sleep)
    assert await holder(ledger) == "other"


class FlakyLedger:
    """A ledger whose writes have the given results; after them the caller is cancelled."""

    def __init__(self, *results):
        self.results = list(results)

    async def write(self, _statement, *, is_heartbeat):
        assert is_heartbeat
        if not self.results:
            raise asyncio.CancelledError
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


def keep(tmp_path, timeline, *results, on_lost=None):
    ledger = FlakyLedger(*results)
    return keep_lease(ledger, ME, tmp_path, on_lost, sleep=timeline.sleep, clock=timeline.clock)


@pytest.mark.parametrize(
    "failure",
    [
        LOCKED,
        DestinationError(Reason.DISK_ERROR, "I/O error"),
        DestinationError(Reason.DISK_FULL, ""),
        LedgerError("x"),
    ],
)
async def test_keep_lease_repeats_a_failed_heartbeat_sooner(tmp_path, timeline, failure):
    exit_codes = []
    with pytest.raises(asyncio.CancelledError):
        await keep(tmp_path, timeline, True, *[failure] * 20, True, on_lost=exit_codes.append)
    assert exit_codes == []
    assert timeline.slept[:2] == [lease.RENEW_INTERVAL_S] * 2
    assert max(timeline.slept[2:22]) < lease.RENEW_INTERVAL_S
    assert timeline.slept[22] == lease.RENEW_INTERVAL_S


@pytest.mark.parametrize(
    ("failure", "exit_code"),
    [
        (LOCKED, ExitCode.TEMPORARY),
        (DestinationError(Reason.DISK_FULL, "no space left on device"), ExitCode.DISK_FULL),
        (DestinationError(Reason.DISK_ERROR, "I/O error"), ExitCode.USAGE),
        (LedgerError("no such table: lease"), ExitCode.USAGE),
    ],
)
async def test_keep_lease_reports_the_lease_lost_after_the_lease_duration(
    tmp_path, timeline, logs, failure, exit_code
):
    exit_codes, started_at = [], timeline.now
    await keep(tmp_path, timeline, *[failure] * 100, on_lost=exit_codes.append)
    assert exit_codes == [exit_code]
    assert lease.STALE_AFTER_S <= timeline.now - started_at < lease.STALE_AFTER_S + lease.RENEW_INTERVAL_S
    assert logs()[-1]["event"] == "lease.lost"
    assert str(failure) in logs()[-1]["detail"]


async def test_keep_lease_without_a_callback_raises_the_last_failure(tmp_path, timeline):
    with pytest.raises(DestinationError, match="locks the ledger"):
        await keep(tmp_path, timeline, *[LOCKED] * 100)


async def test_keep_lease_reports_a_takeover_immediately(tmp_path, timeline):
    exit_codes = []
    await keep(tmp_path, timeline, True, False, on_lost=exit_codes.append)
    assert exit_codes == [ExitCode.LOCKED]
    with pytest.raises(LedgerError, match="another run has taken over the lease"):
        await keep(tmp_path, timeline, False)


async def test_open_locked_ledger_waits_for_a_lock_of_another_process(tmp_path):
    async with open_locked_ledger(create_storage(tmp_path), "mine") as ledger:
        connection = sqlite3.connect(ledger.path, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        asyncio.get_running_loop().call_later(0.3, connection.execute, "ROLLBACK")
        renew = partial(lease.renew, owner=lease.Owner.current("mine"), now=datetime.now(UTC))
        assert await ledger.write(renew)
        connection.close()
