import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from bulkdl.destinations.interfaces import LEDGER_NAME
from bulkdl.errors import ConfigError
from bulkdl.ledger import lease, queries
from bulkdl.ledger.maintenance_queries import FailedRow
from bulkdl.ledger.rows import OutputRecord
from bulkdl.maintenance import status as module
from bulkdl.maintenance.status import all_failures, failure_dict, read_status
from bulkdl.models import ContainerRef, Output, Reason
from bulkdl.report.status import FAILURE_COLUMNS
from bulkdl.sources.up42_jobs.models import Kind
from support.hand_made_ledger import J1, J2, P1, T1, Folder, a_job, archive, done, failed, quicklook

NOW = datetime.now(UTC)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


async def shard(folder, name, job_id):
    directory = Folder(folder.root / name)
    await directory.record(
        failed(archive(job_id)), done(archive(job_id, T1), "k", b"12345"), job=a_job(job_id)
    )
    return directory


async def list_failures(root):
    return [(ledger, failed_row) async for ledger, failed_row in all_failures(root)]


async def test_read_status_adds_the_ledgers_of_shards(folder):
    await shard(folder, "shard-0", J1)
    await shard(folder, "shard-1", J2)
    await folder.record(done(archive(), "k", b"123"))
    status = await read_status(folder.root)
    assert [ledger.output for ledger in status.ledgers] == [".", "shard-0", "shard-1"]
    assert {group: (count.outputs, count.size_bytes) for group, count in status.counts.items()} == {
        (Kind.ARCHIVE, "completed", "downloaded"): (3, 13),
        (Kind.ARCHIVE, "failed", "stalled"): (2, 0),
    }
    assert (status.failures_total, len(status.failures)) == (2, 2)
    assert status.containers == {"jobs": {"up_to_date": 1, "incomplete": 2}}
    assert [ledger for ledger, _ in await list_failures(folder.root)] == ["shard-0", "shard-1"]


@pytest.mark.parametrize("with_header", [True, False])
async def test_status_after_a_first_run_without_disk_space_is_empty(folder, with_header):
    """The first run created the file, but the disk had no space for the schema."""
    path = folder.root / ".bulkdl" / LEDGER_NAME
    path.parent.mkdir(parents=True)
    path.touch()
    if with_header:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    before = path.read_bytes()
    status = await read_status(folder.root)
    assert [ledger.output for ledger in status.ledgers] == ["."]
    assert status.counts == {}
    assert await list_failures(folder.root) == []
    assert path.read_bytes() == before


async def test_read_status_of_shards_without_a_parent_ledger(folder):
    await shard(folder, "shard-0", J1)
    assert [ledger.output for ledger in (await read_status(folder.root)).ledgers] == ["shard-0"]


async def test_read_status_ignores_ledgers_two_levels_below(folder):
    await shard(folder, "other/shard-0", J1)
    with pytest.raises(ConfigError, match="contains no ledger"):
        await read_status(folder.root)


async def test_read_status_limits_the_listed_failures_of_all_ledgers(folder, monkeypatch):
    monkeypatch.setattr(module, "MAX_LISTED", 3)
    for name in ("a", "b"):
        directory = Folder(folder.root / name)
        await directory.record(*(failed(quicklook(f"{number}.jpg")) for number in range(2)))
    status = await read_status(folder.root)
    assert (len(status.failures), status.failures_total) == (3, 4)


async def test_all_failures_yields_more_than_one_page(folder):
    await folder.record(*(failed(quicklook(f"{number}.jpg")) for number in range(1203)))
    names = [row.record.output.name for _, row in await list_failures(folder.root)]
    assert names == [f"{number}.jpg" for number in range(1203)]


async def test_all_failures_contains_failed_listings_but_not_unfinished_jobs(folder):
    await folder.write(
        partial(
            queries.record_listing_failure, container=a_job(), reason=Reason.SERVER_ERROR, detail="status 503"
        ),
        partial(queries.record_unfinished, containers=[a_job(J2, status="RUNNING")]),
    )
    assert (await read_status(folder.root)).listing_failed_total == 1
    ((ledger, row),) = await list_failures(folder.root)
    row_dict = failure_dict(row, ledger)
    assert tuple(sorted(row_dict)) == tuple(sorted(FAILURE_COLUMNS))
    assert (row_dict["container_id"], row_dict["kind"], row_dict["reason"]) == (J1, None, "server_error")
    assert row_dict["detail"] == "the tasks could not be listed: status 503"


async def test_failure_dict_contains_a_hint(folder):
    await folder.record(failed(archive(), Reason.DISK_FULL))
    ((ledger, row),) = await list_failures(folder.root)
    row_dict = failure_dict(row, ledger)
    assert tuple(row_dict) == FAILURE_COLUMNS
    assert (row_dict["scope"], row_dict["attempts"], row_dict["ledger"]) == (P1, 8, ".")
    assert "free disk space" in row_dict["hint"]


def take_lease(run_id, host=None, beat_at=None):
    owner = lease.Owner.current(run_id)
    beat_at = beat_at or datetime.now(UTC)  # the current time, not the time of the import
    owner = lease.Owner(run_id, host or owner.host, owner.pid)

    def take(connection):
        lease.acquire(connection, owner, "x", NOW - timedelta(hours=2))
        connection.execute("UPDATE lease SET beat_at = ?", (beat_at.isoformat(),))

    return take


async def test_read_status_shows_active_and_stale_leases(folder):
    await folder.write(take_lease("r-alive"))
    dead = Folder(folder.root / "shard-0")
    await dead.write(take_lease("r-dead", host="elsewhere", beat_at=NOW - timedelta(minutes=5)))
    status = await read_status(folder.root)
    active, stale = (ledger.owner for ledger in status.ledgers)
    assert (active.run_id, active.alive, active.since_at) == ("r-alive", True, NOW - timedelta(hours=2))
    assert (stale.run_id, stale.alive) == ("r-dead", False)
    assert [ledger.owner.run_id for ledger in status.running] == ["r-alive"]


async def test_read_status_during_an_open_transaction_succeeds(folder):
    await folder.record(failed(archive()))
    ledger = await folder.ledger()
    try:
        await ledger.read(lambda connection: connection.execute("BEGIN IMMEDIATE"))
        assert (await read_status(folder.root)).failures_total == 1
        await ledger.read(lambda connection: connection.execute("ROLLBACK"))
    finally:
        await ledger.close()


def test_failure_dict_of_a_source_that_is_not_installed_has_the_same_keys():
    ref = ContainerRef("removed", "s", "c")
    output = OutputRecord(Output(ref, "i", "asset", "a.tif"), "failed", Reason.STALLED, "a.tif", None)
    first = failure_dict(FailedRow(1, ref, Reason.STALLED, "slow", 3, output), ".")
    second = failure_dict(FailedRow(1, ref, Reason.STALLED, "slow", 0, None), ".")
    assert tuple(first) == tuple(second) == FAILURE_COLUMNS
    assert list(first.values())[:6] == ["removed", "s", "c", "i", "asset", "a.tif"]
    assert (second["source"], second["container_id"], second["parent"]) == ("removed", "c", None)
    assert second["detail"] == "the parents could not be listed: slow"


async def test_read_status_with_a_state_directory_adds_up_the_shards_below_it(folder):
    await folder.record(done(archive(), "a", b"archive"))
    for name in ("shard-0", "shard-1"):
        shutil.copytree(folder.root / ".bulkdl", folder.root / "state" / name)
    status = await read_status("memory://bucket", folder.root / "state")
    assert [ledger.output for ledger in status.ledgers] == ["shard-0", "shard-1"]
    with pytest.raises(ConfigError, match="belongs to the destination"):
        await read_status(folder.root / "elsewhere", folder.root / ".bulkdl")
