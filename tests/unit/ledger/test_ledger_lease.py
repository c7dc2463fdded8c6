"""One run at a time, proven by a heartbeat."""

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
    release,
    renew,
)
from bulkdl.ledger.lease import read_lease as lease_of
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
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def take(connection, owner, after_s=0.0, observed=None):
    return acquire(connection, owner, "/data/out", NOW + timedelta(seconds=after_s), observed)


def take_over(connection, owner, after_s):
    """Acquire a stale lease as a run does: observe it first."""
    stale = take(connection, owner, after_s)
    assert stale == lease_of(connection)
    assert take(connection, owner, after_s + 20, stale) is None


def holder(connection):
    row = connection.execute("SELECT run_id FROM lease").fetchone()
    return row and row["run_id"]


def test_a_free_directory_is_taken_and_given_back(ledger):
    take(ledger, ME)
    assert holder(ledger) == "mine"
    release(ledger, ME)
    assert holder(ledger) is None
    take(ledger, ELSEWHERE)
    assert holder(ledger) == "theirs"


def test_a_directory_in_use_is_refused_with_its_owner(ledger):
    take(ledger, ELSEWHERE)
    with pytest.raises(OutputLockedError) as raised:
        take(ledger, ME, STALE_AFTER_S - 1)
    for part in ("/data/out", "another-host/12345678", "pid 1", "2024-03-01T12:00:00+00:00"):
        assert part in str(raised.value)
    assert holder(ledger) == "theirs"


def test_a_second_run_in_one_process_is_refused(ledger):
    take(ledger, ME)
    with pytest.raises(OutputLockedError):
        take(ledger, replace(ME, run_id="second"), 1)


def test_a_dead_process_of_this_host_is_succeeded_at_once(ledger, dead_pid):
    take(ledger, replace(ME, run_id="dead", pid=dead_pid))
    take(ledger, ME, 1)
    assert holder(ledger) == "mine"


def test_acquire_lease_of_another_host_looks_at_its_heartbeat_only(ledger, dead_pid):
    take(ledger, replace(ELSEWHERE, pid=dead_pid))
    with pytest.raises(OutputLockedError):
        take(ledger, ME, STALE_AFTER_S - 1)
    assert take(ledger, ME, STALE_AFTER_S).owner.run_id == "theirs"
    assert holder(ledger) == "theirs"
    take_over(ledger, ME, STALE_AFTER_S)
    assert holder(ledger) == "mine"


@pytest.mark.parametrize("skew_s", [STALE_AFTER_S + 60, -STALE_AFTER_S - 60, 30 * 365 * 86_400])
def test_acquire_lease_of_a_running_owner_with_another_clock_is_refused(ledger, skew_s):
    take(ledger, ELSEWHERE)
    stale = take(ledger, ME, skew_s)
    assert stale is not None
    assert renew(ledger, ELSEWHERE, NOW + timedelta(seconds=10))
    with pytest.raises(OutputLockedError, match="another-host"):
        take(ledger, ME, skew_s + 20, stale)
    assert holder(ledger) == "theirs"


def test_acquire_observed_lease_that_a_third_run_took_over_is_refused(ledger):
    take(ledger, ELSEWHERE)
    stale = take(ledger, ME, STALE_AFTER_S)
    take(ledger, replace(ELSEWHERE, run_id="third"), STALE_AFTER_S, stale)
    with pytest.raises(OutputLockedError):
        take(ledger, ME, STALE_AFTER_S + 20, stale)
    assert holder(ledger) == "third"


def test_acquire_observed_lease_that_was_released_succeeds(ledger):
    take(ledger, ELSEWHERE)
    stale = take(ledger, ME, STALE_AFTER_S)
    release(ledger, ELSEWHERE)
    assert take(ledger, ME, STALE_AFTER_S + 20, stale) is None


def test_a_heartbeat_keeps_the_lease(ledger):
    take(ledger, ELSEWHERE)
    assert renew(ledger, ELSEWHERE, NOW + timedelta(seconds=50))
    with pytest.raises(OutputLockedError):
        take(ledger, ME, 50 + STALE_AFTER_S - 1)
    take_over(ledger, ME, 50 + STALE_AFTER_S)
    assert holder(ledger) == "mine"


def test_who_was_succeeded_hears_of_it_and_takes_nothing_away(ledger):
    take(ledger, ELSEWHERE)
    take_over(ledger, ME, STALE_AFTER_S)
    assert not renew(ledger, ELSEWHERE, NOW)
    release(ledger, ELSEWHERE)
    assert holder(ledger) == "mine"
    assert renew(ledger, ME, NOW)


@pytest.fixture(scope="module")
def other_process():
    """A running process of this host, as an owner."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield Owner("other", ME.host, process.pid, _process_start_ticks(process.pid))
    process.stdin.close()
    process.wait()


@pytest.mark.parametrize("clock_s", [0, STALE_AFTER_S + 1, 86_400, -86_400])
def test_acquire_lease_of_a_running_process_is_refused_whatever_the_clock_says(
    ledger, other_process, clock_s
):
    take(ledger, other_process)
    with pytest.raises(OutputLockedError):
        take(ledger, ME, clock_s)


def test_acquire_lease_that_this_process_could_not_release_succeeds_after_observation(ledger):
    take(ledger, replace(ME, run_id="earlier"))
    with pytest.raises(OutputLockedError):
        take(ledger, ME, STALE_AFTER_S - 1)
    take_over(ledger, ME, STALE_AFTER_S)
    assert holder(ledger) == "mine"


def test_acquire_lease_of_the_same_pid_in_another_namespace_is_refused(ledger):
    """Two containers of one machine: same host name, same boot, and both have the pid 1."""
    host, boot, namespace = ME.host.rsplit("/", 2)
    other = Owner("theirs", f"{host}/{boot}/{int(namespace) + 1}", ME.pid, "0")
    take(ledger, other)
    with pytest.raises(OutputLockedError):
        take(ledger, ME, 1)


@pytest.mark.parametrize(
    ("pid", "host", "beat_s", "liveness"),
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
def test_liveness_of_a_holder_without_a_known_start_time_follows_its_heartbeat(pid, host, beat_s, liveness):
    asker = Owner("asker", "here", os.getpid())
    found = Lease(Owner("x", host, pid), NOW, NOW - timedelta(seconds=beat_s))
    assert check_liveness(found, asker, NOW) is liveness


def test_a_host_after_a_reboot_is_another_one():
    assert "/" in ME.host
    assert ME.pid == os.getpid()
