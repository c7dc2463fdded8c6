"""One run at a time, proven by a heartbeat."""

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bulkdl.errors import DirectoryHeld
from bulkdl.ledger.lease import STALE_S, Owner, acquire, beat, is_alive, release
from bulkdl.ledger.migrate import migrate

NOW = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)
ME = Owner.myself("mine")
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


def take(connection, owner, after_s=0.0):
    acquire(connection, owner, "/data/out", NOW + timedelta(seconds=after_s))


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
    with pytest.raises(DirectoryHeld) as raised:
        take(ledger, ME, STALE_S - 1)
    for part in ("/data/out", "another-host/12345678", "pid 1", "2024-03-01T12:00:00+00:00"):
        assert part in str(raised.value)
    assert holder(ledger) == "theirs"


def test_a_second_run_in_one_process_is_refused(ledger):
    take(ledger, ME)
    with pytest.raises(DirectoryHeld):
        take(ledger, replace(ME, run_id="second"), 1)


def test_a_dead_process_of_this_host_is_succeeded_at_once(ledger, dead_pid):
    take(ledger, replace(ME, run_id="dead", pid=dead_pid))
    take(ledger, ME, 1)
    assert holder(ledger) == "mine"


def test_a_process_of_another_host_counts_by_its_heartbeat_only(ledger, dead_pid):
    take(ledger, replace(ELSEWHERE, pid=dead_pid))
    with pytest.raises(DirectoryHeld):
        take(ledger, ME, STALE_S - 1)
    take(ledger, ME, STALE_S)
    assert holder(ledger) == "mine"


def test_a_heartbeat_keeps_the_lease(ledger):
    take(ledger, ELSEWHERE)
    assert beat(ledger, ELSEWHERE, NOW + timedelta(seconds=50))
    with pytest.raises(DirectoryHeld):
        take(ledger, ME, 50 + STALE_S - 1)
    take(ledger, ME, 50 + STALE_S)
    assert holder(ledger) == "mine"


def test_who_was_succeeded_hears_of_it_and_takes_nothing_away(ledger):
    take(ledger, ELSEWHERE)
    take(ledger, ME, STALE_S)
    assert not beat(ledger, ELSEWHERE, NOW)
    release(ledger, ELSEWHERE)
    assert holder(ledger) == "mine"
    assert beat(ledger, ME, NOW)


@pytest.mark.parametrize(
    ("pid", "host", "beat_s", "alive"),
    [
        pytest.param(os.getpid(), "here", 0, True, id="mine"),
        pytest.param(os.getpid(), "here", STALE_S, False, id="mine-stale"),
        (1, "here", 1, True),
        (1, "there", STALE_S - 1, True),
        (1, "there", STALE_S, False),
        (1, "there", -STALE_S + 1, True),
        (1, "there", -STALE_S - 1, False),
    ],
)
def test_who_counts_as_alive(pid, host, beat_s, alive):
    asker = Owner("asker", "here", os.getpid())
    assert is_alive(Owner("x", host, pid), NOW - timedelta(seconds=beat_s), asker, NOW) is alive


def test_a_host_after_a_reboot_is_another_one():
    assert "/" in ME.host
    assert ME.pid == os.getpid()
