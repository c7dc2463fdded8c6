import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from bulkdl.destinations.local.state_directory import LEDGER_NAME
from bulkdl.errors import ConfigError
from bulkdl.ledger import lease, queries
from bulkdl.maintenance import status as module
from bulkdl.maintenance.status import all_failures, failure_dict, read_status
from bulkdl.models import Kind, Reason
from bulkdl.report.status import FAILURE_COLUMNS
from support.hand_made_ledger import J1, J2, P1, T1, Folder, a_job, archive, done, failed, quicklook

NOW = datetime.now(UTC)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


async def shard(folder, name, job_id):
    part = Folder(folder.root / name)
    await part.record(failed(archive(job_id)), done(archive(job_id, T1), "k", b"12345"), job=a_job(job_id))
    return part


async def every_failure(root):
    return [(where, failed_row) async for where, failed_row in all_failures(root)]


async def test_the_ledgers_of_shards_count_as_one(folder):
    await shard(folder, "shard-0", J1)
    await shard(folder, "shard-1", J2)
    await folder.record(done(archive(), "k", b"123"))
    status = await read_status(folder.root)
    assert [each.output for each in status.ledgers] == [".", "shard-0", "shard-1"]
    assert {what: (count.outputs, count.size_bytes) for what, count in status.counts.items()} == {
        (Kind.ARCHIVE, "completed", "downloaded"): (3, 13),
        (Kind.ARCHIVE, "failed", "stalled"): (2, 0),
    }
    assert (status.failures_total, len(status.failures)) == (2, 2)
    assert status.jobs == {"up_to_date": 1, "incomplete": 2}
    assert [where for where, _ in await every_failure(folder.root)] == ["shard-0", "shard-1"]


@pytest.mark.parametrize("with_header", [True, False])
async def test_status_after_a_first_run_without_disk_space_is_empty(folder, with_header):
    """The first run created the file, and found no space for the schema."""
    path = folder.root / ".bulkdl" / LEDGER_NAME
    path.parent.mkdir(parents=True)
    path.touch()
    if with_header:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    before = path.read_bytes()
    status = await read_status(folder.root)
    assert [each.output for each in status.ledgers] == ["."]
    assert status.counts == {}
    assert await every_failure(folder.root) == []
    assert path.read_bytes() == before


async def test_shards_without_a_ledger_above_them(folder):
    await shard(folder, "shard-0", J1)
    assert [each.output for each in (await read_status(folder.root)).ledgers] == ["shard-0"]


async def test_only_one_level_below_counts(folder):
    await shard(folder, "other/shard-0", J1)
    with pytest.raises(ConfigError, match="contains no ledger"):
        await read_status(folder.root)


async def test_the_failures_kept_are_bounded_over_all_ledgers(folder, monkeypatch):
    monkeypatch.setattr(module, "MAX_LISTED", 3)
    for name in ("a", "b"):
        part = Folder(folder.root / name)
        await part.record(*(failed(quicklook(f"{number}.jpg")) for number in range(2)))
    status = await read_status(folder.root)
    assert (len(status.failures), status.failures_total) == (3, 4)


async def test_all_failures_come_however_many_there_are(folder):
    await folder.record(*(failed(quicklook(f"{number}.jpg")) for number in range(1203)))
    names = [row.record.output.name for _, row in await every_failure(folder.root)]
    assert names == [f"{number}.jpg" for number in range(1203)]


async def test_a_job_that_could_not_be_listed_is_a_failure_and_one_unfinished_is_none(folder):
    await folder.write(
        partial(queries.record_listing_failure, job=a_job(), reason=Reason.SERVER_ERROR, detail="status 503"),
        partial(queries.record_unfinished_jobs, jobs=[a_job(J2, status="RUNNING")]),
    )
    assert (await read_status(folder.root)).listing_failed_total == 1
    ((where, row),) = await every_failure(folder.root)
    told = failure_dict(row, where)
    assert tuple(sorted(told)) == tuple(sorted(FAILURE_COLUMNS))
    assert (told["job_id"], told["kind"], told["reason"]) == (J1, None, "server_error")
    assert told["detail"] == "the tasks could not be listed: status 503"


async def test_a_failure_tells_what_to_do(folder):
    await folder.record(failed(archive(), Reason.DISK_FULL))
    ((where, row),) = await every_failure(folder.root)
    told = failure_dict(row, where)
    assert tuple(told) == FAILURE_COLUMNS
    assert (told["project_id"], told["attempts"], told["ledger"]) == (P1, 8, ".")
    assert "free disk space" in told["hint"]


def held_by(run_id, host=None, beat_at=None):
    owner = lease.Owner.current(run_id)
    beat_at = beat_at or datetime.now(UTC)  # whatever time it is by now
    owner = lease.Owner(run_id, host or owner.host, owner.pid)

    def take(connection):
        lease.acquire(connection, owner, "x", NOW - timedelta(hours=2))
        connection.execute("UPDATE lease SET beat_at = ?", (beat_at.isoformat(),))

    return take


async def test_who_is_at_work_is_told_and_who_died_too(folder):
    await folder.write(held_by("r-alive"))
    dead = Folder(folder.root / "shard-0")
    await dead.write(held_by("r-dead", host="elsewhere", beat_at=NOW - timedelta(minutes=5)))
    status = await read_status(folder.root)
    alive, gone = (each.owner for each in status.ledgers)
    assert (alive.run_id, alive.alive, alive.since_at) == ("r-alive", True, NOW - timedelta(hours=2))
    assert (gone.run_id, gone.alive) == ("r-dead", False)
    assert [each.owner.run_id for each in status.running] == ["r-alive"]


async def test_reading_goes_beside_a_transaction_that_is_open(folder):
    await folder.record(failed(archive()))
    ledger = await folder.ledger()
    try:
        await ledger.read(lambda connection: connection.execute("BEGIN IMMEDIATE"))
        assert (await read_status(folder.root)).failures_total == 1
        await ledger.read(lambda connection: connection.execute("ROLLBACK"))
    finally:
        await ledger.close()
