"""The lease of an output directory."""

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bulkdl.errors import OutputLockedError
from bulkdl.ledger.lease import (
    STALE_AFTER_S,
    Lease,
    Liveness,
    Owner,
    _process_start_ticks,
    acquire,
    check_liveness,
    read_lease,
    release,
    renew,
)
from bulkdl.ledger.migrations import migrate

NOW = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)
ME = Owner.current("mine")
ELSEWHERE = Owner("theirs", "another-host/12345678", 1)


@pytest.fixture
def ledger():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    migrate(connection, "memory")
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def dead_pid():
    """Return the pid of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def acquire_at(connection, owner, after_s=0.0, observed=None):
    return acquire(connection, owner, "/data/out", NOW + timedelta(seconds=after_s), observed)


def take_over(connection, owner, after_s):
    """Acquire a stale lease as a run does: observe the lease first."""
    stale = acquire_at(connection, owner, after_s)
    assert stale == read_lease(connection)
    assert acquire_at(connection, owner, after_s + 20, stale) is None


def owner_run_id(connection):
    row = connection.execute("SELECT run_id FROM lease").fetchone()
    return row and row["run_id"]


def test_acquire_free_lease_succeeds_until_release(ledger):
    acquire_at(ledger, ME)
    assert owner_run_id(ledger) == "mine"
    release(ledger, ME)
    assert owner_run_id(ledger) is None
    acquire_at(ledger, ELSEWHERE)
    assert owner_run_id(ledger) == "theirs"


def test_acquire_owned_lease_raises_error_that_names_the_owner(ledger):
    acquire_at(ledger, ELSEWHERE)
    with pytest.raises(OutputLockedError) as raised:
        acquire_at(ledger, ME, STALE_AFTER_S - 1)
    for text in ("/data/out", "another-host/12345678", "pid 1", "2024-03-01T12:00:00+00:00"):
        assert text in str(raised.value)
    assert owner_run_id(ledger) == "theirs"


def test_acquire_lease_of_another_run_in_the_same_process_is_rejected(ledger):
    acquire_at(ledger, ME)
    with pytest.raises(OutputLockedError):
        acquire_at(ledger, replace(ME, run_id="second"), 1)


def test_acquire_lease_of_an_ended_process_of_this_host_succeeds_immediately(ledger, dead_pid):
    acquire_at(ledger, replace(ME, run_id="dead", pid=dead_pid))
    acquire_at(ledger, ME, 1)
    assert owner_run_id(ledger) == "mine"


def test_acquire_lease_of_another_host_depends_only_on_the_heartbeat(ledger, dead_pid):
    acquire_at(ledger, replace(ELSEWHERE, pid=dead_pid))
    with pytest.raises(OutputLockedError):
        acquire_at(ledger, ME, STALE_AFTER_S - 1)
    assert acquire_at(ledger, ME, STALE_AFTER_S).owner.run_id == "theirs"
    assert owner_run_id(ledger) == "theirs"
    take_over(ledger, ME, STALE_AFTER_S)
    assert owner_run_id(ledger) == "mine"


@pytest.mark.parametrize("skew_s", [STALE_AFTER_S + 60, -STALE_AFTER_S - 60, 30 * 365 * 86_400])
def test_acquire_lease_of_a_running_owner_with_another_clock_is_rejected(ledger, skew_s):
    acquire_at(ledger, ELSEWHERE)
    stale = acquire_at(ledger, ME, skew_s)
    assert stale is not None
    assert renew(ledger, ELSEWHERE, NOW + timedelta(seconds=10))
    with pytest.raises(OutputLockedError, match="another-host"):
        acquire_at(ledger, ME, skew_s + 20, stale)
    assert owner_run_id(ledger) == "theirs"


def test_acquire_observed_lease_that_a_third_run_took_over_is_rejected(ledger):
    acquire_at(ledger, ELSEWHERE)
    stale = acquire_at(ledger, ME, STALE_AFTER_S)
    acquire_at(ledger, replace(ELSEWHERE, run_id="third"), STALE_AFTER_S, stale)
    with pytest.raises(OutputLockedError):
        acquire_at(ledger, ME, STALE_AFTER_S + 20, stale)
    assert owner_run_id(ledger) == "third"


def test_acquire_observed_lease_that_was_released_succeeds(ledger):
    acquire_at(ledger, ELSEWHERE)
    stale = acquire_at(ledger, ME, STALE_AFTER_S)
    release(ledger, ELSEWHERE)
    assert acquire_at(ledger, ME, STALE_AFTER_S + 20, stale) is None


def test_renew_keeps_the_lease(ledger):
    acquire_at(ledger, ELSEWHERE)
    assert renew(ledger, ELSEWHERE, NOW + timedelta(seconds=50))
    with pytest.raises(OutputLockedError):
        acquire_at(ledger, ME, 50 + STALE_AFTER_S - 1)
    take_over(ledger, ME, 50 + STALE_AFTER_S)
    assert owner_run_id(ledger) == "mine"


def test_renew_and_release_after_a_takeover_do_not_change_the_lease(ledger):
    acquire_at(ledger, ELSEWHERE)
    take_over(ledger, ME, STALE_AFTER_S)
    assert not renew(ledger, ELSEWHERE, NOW)
    release(ledger, ELSEWHERE)
    assert owner_run_id(ledger) == "mine"
    assert renew(ledger, ME, NOW)


@pytest.fixture(scope="module")
def other_process():
    """Return a running process of this host as an owner."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield Owner("other", ME.host, process.pid, _process_start_ticks(process.pid))
    process.stdin.close()
    process.wait()


@pytest.mark.parametrize("clock_s", [0, STALE_AFTER_S + 1, 86_400, -86_400])
def test_acquire_lease_of_a_running_process_is_rejected_for_any_clock(ledger, other_process, clock_s):
    acquire_at(ledger, other_process)
    with pytest.raises(OutputLockedError):
        acquire_at(ledger, ME, clock_s)


def test_acquire_lease_that_this_process_could_not_release_succeeds_after_observation(ledger):
    acquire_at(ledger, replace(ME, run_id="earlier"))
    with pytest.raises(OutputLockedError):
        acquire_at(ledger, ME, STALE_AFTER_S - 1)
    take_over(ledger, ME, STALE_AFTER_S)
    assert owner_run_id(ledger) == "mine"


def test_acquire_lease_of_the_same_pid_in_another_namespace_is_rejected(ledger):
    """Two containers of one machine have the same host name, the same boot, and the pid 1."""
    host, boot, namespace = ME.host.rsplit("/", 2)
    other = Owner("theirs", f"{host}/{boot}/{int(namespace) + 1}", ME.pid, "0")
    acquire_at(ledger, other)
    with pytest.raises(OutputLockedError):
        acquire_at(ledger, ME, 1)


@pytest.mark.parametrize(
    ("pid", "host", "heartbeat_age_s", "liveness"),
    [
        pytest.param(os.getpid(), "here", 0, Liveness.RUNNING, id="mine"),
        pytest.param(os.getpid(), "here", STALE_AFTER_S, Liveness.STALE, id="mine-stale"),
        (1, "here", 1, Liveness.RUNNING),
        (1, "there", STALE_AFTER_S - 1, Liveness.RUNNING),
        (1, "there", STALE_AFTER_S, Liveness.STALE),
        (1, "there", -STALE_AFTER_S + 1, Liveness.RUNNING),
        (1, "there", -STALE_AFTER_S - 1, Liveness.STALE),
    ],
)
def test_check_liveness_without_a_known_start_time_depends_on_the_heartbeat(
    pid, host, heartbeat_age_s, liveness
):
    observer = Owner("asker", "here", os.getpid())
    lease = Lease(Owner("x", host, pid), NOW, NOW - timedelta(seconds=heartbeat_age_s))
    assert check_liveness(lease, observer, NOW) is liveness


def test_owner_host_contains_the_boot_id():
    assert "/" in ME.host
    assert ME.pid == os.getpid()
