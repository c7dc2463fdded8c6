"""Opening, migrating and group commit, on a real file."""

import asyncio
import sqlite3
from contextlib import contextmanager
from functools import partial

import pytest

from bulkdl.errors import BulkdlError, DestinationError, LedgerDamaged, LedgerError, LedgerVersionError
from bulkdl.failure_policy import FAILURE_POLICIES, ExitCode
from bulkdl.ledger import database as module
from bulkdl.ledger import migrations
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.migrations import VERSION
from bulkdl.models import Reason


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
async def ledger(path):
    opened = await Ledger.open(path)
    yield opened
    await opened.close()


def columns(connection):
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {table: list(connection.execute(f"PRAGMA table_info({table})")) for table in tables}


def started(run_id):
    return lambda connection: (
        connection.execute("INSERT INTO runs (run_id, started_at) VALUES (?, 'now')", (run_id,)).rowcount
    )


def runs(connection):
    return [row[0] for row in connection.execute("SELECT run_id FROM runs ORDER BY rowid")]


def other(path):
    """What another process would see."""
    connection = sqlite3.connect(path)
    try:
        return runs(connection)
    finally:
        connection.close()


async def test_a_new_ledger_has_the_newest_version(ledger, path):
    assert (
        await ledger.read(lambda connection: connection.execute("PRAGMA user_version").fetchone()[0])
        == VERSION
    )
    assert (
        await ledger.read(lambda connection: connection.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"
    )
    assert await ledger.read(lambda connection: connection.execute("PRAGMA synchronous").fetchone()[0]) == 2
    assert await ledger.read(lambda connection: connection.execute("PRAGMA foreign_keys").fetchone()[0]) == 1


async def test_what_was_written_is_there_when_it_is_opened_again(path):
    first = await Ledger.open(path)
    await first.write(started("a"))
    await first.close()
    second = await Ledger.open(path)
    assert await second.read(runs) == ["a"]
    await second.close()


async def test_many_who_open_a_new_ledger_at_once_all_get_it(path):
    opened = await asyncio.gather(*(Ledger.open(path) for _ in range(8)))
    await asyncio.gather(*(each.write(started(str(number))) for number, each in enumerate(opened)))
    assert sorted(other(path)) == [str(number) for number in range(8)]
    for each in opened:
        await each.close()


STEPS = {
    1: migrations.schema(),
    2: "ALTER TABLE runs ADD COLUMN host TEXT;",
    3: "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO notes (text) VALUES ('moved');",
}


def test_a_migrated_ledger_is_like_a_new_one_and_keeps_its_rows(path, monkeypatch):
    migrated = sqlite3.connect(path, isolation_level=None)
    migrations.migrate(migrated, path, version=1)
    started("kept")(migrated)
    migrations.migrate(migrated, path, version=3, steps=STEPS)
    monkeypatch.setattr(migrations, "schema", lambda: "\n".join(STEPS.values()))
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    migrations.migrate(fresh, path, version=3)
    assert columns(migrated) == columns(fresh)
    assert runs(migrated) == ["kept"]
    for connection in (migrated, fresh):
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 3
        migrations.migrate(connection, path, version=3, steps={})
        connection.close()


def test_migrate_existing_ledger_keeps_a_complete_copy_of_the_old_version(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    migrations.migrate(connection, path, version=1)
    started("kept")(connection)
    old = columns(connection)
    migrations.migrate(connection, path, version=3, steps=STEPS)
    connection.close()
    backup = path.with_name(f"{path.name}.version-1")
    assert other(backup) == ["kept"]
    copy = sqlite3.connect(backup)
    assert (copy.execute("PRAGMA user_version").fetchone()[0], columns(copy)) == (1, old)
    copy.close()
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name, backup.name]


def test_migrate_without_a_copy_changes_nothing(path):
    connection = sqlite3.connect(path, isolation_level=None)
    migrations.migrate(connection, path, version=1)
    path.with_name(f"{path.name}.version-1").mkdir()
    with pytest.raises(DestinationError, match="version-1"):
        migrations.migrate(connection, path, version=3, steps=STEPS)
    assert connection.execute("PRAGMA user_version").fetchone()[0] == 1
    connection.close()


def test_no_migration_changes_the_table_lease():
    assert [number for number, sql in migrations.migrations().items() if "lease" in sql.lower()] == []


def test_every_version_on_the_way_has_its_migration():
    assert sorted(migrations.migrations()) == list(range(2, VERSION + 1))


def test_a_migration_that_fails_changes_nothing(path):
    connection = sqlite3.connect(path, isolation_level=None)
    migrations.migrate(connection, path, version=1)
    before = columns(connection)
    with pytest.raises(sqlite3.Error):
        migrations.migrate(
            connection, path, version=3, steps={2: STEPS[2], 3: "CREATE TABLE x (a); SELECT rubbish;"}
        )
    assert not connection.in_transaction
    assert columns(connection) == before
    assert connection.execute("PRAGMA user_version").fetchone()[0] == 1
    connection.close()


@pytest.mark.parametrize("read_only", [True, False])
async def test_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(path, read_only):
    connection = sqlite3.connect(path)
    connection.executescript(f"CREATE TABLE future (x); PRAGMA user_version = {VERSION + 1};")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(
        LedgerVersionError, match=f"version {VERSION + 1}; this bulkdl supports versions up to {VERSION}"
    ):
        await Ledger.open(path, read_only=read_only)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content", [b"this is no database, but long enough to look like one. " * 40, b"x" * 100]
)
@pytest.mark.parametrize("read_only", [True, False])
async def test_what_is_no_ledger_is_told_in_one_line_and_left_as_it_is(path, content, read_only):
    path.write_bytes(content)
    with pytest.raises(LedgerDamaged) as raised:
        await Ledger.open(path, read_only=read_only)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == content


async def test_a_folder_in_its_place_is_told_in_one_line(path):
    path.mkdir()
    with pytest.raises((LedgerError, DestinationError), match=str(path)):
        await Ledger.open(path)


async def test_a_damaged_page_is_a_ledger_error(path):
    first = await Ledger.open(path)
    await first.write(started("a"))
    await first.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    second = await Ledger.open(path)
    with pytest.raises(LedgerDamaged, match="damaged or is not a SQLite database"):
        await second.read(runs)
    await second.close()


async def test_a_reader_changes_nothing_and_sees_what_a_run_writes(ledger, path):
    reader = await Ledger.open(path, read_only=True)
    await ledger.write(started("a"))
    assert await reader.read(runs) == ["a"]
    with pytest.raises(DestinationError):
        await reader.write(started("b"))
    assert await ledger.read(runs) == ["a"]
    await reader.close()


async def test_a_reader_makes_no_ledger(path):
    with pytest.raises((LedgerError, DestinationError)):
        await Ledger.open(path, read_only=True)
    assert not path.exists()


def counting(ledger):
    """How many transactions are committed from now on."""
    commits = []
    ledger._connection.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    return commits


async def test_writes_that_come_together_share_a_transaction(ledger, path):
    commits = counting(ledger)
    await asyncio.gather(*(ledger.write(started(str(number))) for number in range(500)))
    assert len(commits) <= 3
    assert other(path) == [str(number) for number in range(500)]


async def test_a_write_returns_only_when_others_can_see_it(ledger, path):
    async def write(number):
        await ledger.write(started(str(number)))
        assert str(number) in other(path)

    await asyncio.gather(*(write(number) for number in range(20)))


async def test_the_error_of_one_caller_undoes_only_its_own_part(ledger, path):
    def refused(connection):
        started("refused")(connection)
        raise BulkdlError("no")

    answers = await asyncio.gather(
        ledger.write(started("a")), ledger.write(refused), ledger.write(started("b")), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [int, BulkdlError, int]
    assert other(path) == ["a", "b"]


async def test_a_bug_in_one_statement_reaches_its_caller_and_nobody_waits_for_ever(ledger, path):
    def buggy(connection):
        started("buggy")(connection)
        raise KeyError("a bug")

    answers = await asyncio.gather(
        ledger.write(started("a")), ledger.write(buggy), ledger.write(started("b")), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [int, KeyError, int]
    await ledger.write(started("c"))
    assert other(path) == ["a", "b", "c"]


def invalid(connection):
    started("invalid")(connection)
    connection.execute("INSERT INTO nowhere VALUES (1)")


async def test_write_in_a_failed_batch_fails_alone_and_keeps_nothing_of_itself(ledger, path):
    answers = await asyncio.gather(
        ledger.write(started("a")), ledger.write(invalid), ledger.write(started("b")), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [int, LedgerError, int]
    assert other(path) == ["a", "b"]
    await ledger.write(started("c"))
    assert other(path) == ["a", "b", "c"]


async def test_write_whose_folder_cannot_be_synced_fails_alone(path, tmp_path):
    broken = tmp_path / "broken"

    def sync_folders(folders):
        if broken in folders:
            raise DestinationError(Reason.DISK_ERROR, "fsync failed")

    ledger = await Ledger.open(path, sync_folders=sync_folders)
    answers = await asyncio.gather(
        ledger.write(started("a"), folder=tmp_path),
        ledger.write(started("lost"), folder=broken),
        ledger.write(started("b")),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [int, DestinationError, int]
    assert other(path) == ["a", "b"]
    await ledger.close()


@pytest.mark.parametrize("statement", [invalid, None])
async def test_write_failures_of_one_batch_are_separate_exception_instances(path, statement):
    def sync_folders(_folders):
        raise DestinationError(Reason.DISK_ERROR, "fsync failed")

    ledger = await Ledger.open(path, sync_folders=sync_folders)
    answers = await asyncio.gather(
        *(ledger.write(statement or started("a"), folder=path.parent) for _ in range(4)),
        return_exceptions=True,
    )
    assert all(isinstance(answer, BulkdlError) for answer in answers)
    assert len({id(answer) for answer in answers}) == 4
    assert len({str(answer) for answer in answers}) == 1
    await ledger.close()


async def test_write_to_a_closed_ledger_raises_an_instance_for_each_caller(path):
    ledger = await Ledger.open(path)
    await ledger.close()
    answers = await asyncio.gather(
        *(ledger.write(started(str(number))) for number in range(3)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [RuntimeError] * 3
    assert len({id(answer) for answer in answers}) == 3


@contextmanager
def locked(path):
    """Hold an exclusive lock as another connection."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


async def test_write_waits_for_a_lock_longer_than_one_busy_timeout(path, monkeypatch):
    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.02)
    ledger = await Ledger.open(path, lock_timeout_s=30)
    with locked(path):
        writers = [asyncio.create_task(ledger.write(started(name))) for name in ("a", "b")]
        await asyncio.sleep(0.3)
        assert not any(writer.done() for writer in writers)
    await asyncio.gather(*writers)
    assert other(path) == ["a", "b"]
    await ledger.close()


async def test_write_to_a_ledger_locked_too_long_is_a_temporary_failure(path):
    ledger = await Ledger.open(path, lock_timeout_s=0.05)
    with locked(path):
        answers = await asyncio.gather(
            ledger.write(started("a")), ledger.write(started("b")), return_exceptions=True
        )
    assert [each.reason for each in answers] == [Reason.LEDGER_LOCKED] * 2
    assert answers[0] is not answers[1]
    assert FAILURE_POLICIES[Reason.LEDGER_LOCKED].exit_code is ExitCode.TEMPORARY
    await ledger.write(started("c"))
    assert other(path) == ["c"]
    await ledger.close()


async def test_open_locked_too_long_is_a_temporary_failure_and_changes_nothing(path):
    await (await Ledger.open(path)).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    before = path.read_bytes()
    with locked(path), pytest.raises(DestinationError) as raised:
        await Ledger.open(path, lock_timeout_s=0.05)
    assert raised.value.reason is Reason.LEDGER_LOCKED
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (sqlite3.SQLITE_FULL, Reason.DISK_FULL),
        (sqlite3.SQLITE_IOERR_SHMSIZE, Reason.DISK_FULL),
        (sqlite3.SQLITE_IOERR, Reason.DISK_ERROR),
        (sqlite3.SQLITE_IOERR_WRITE, Reason.DISK_ERROR),
        (sqlite3.SQLITE_READONLY, Reason.DISK_ERROR),
        (sqlite3.SQLITE_CANTOPEN, Reason.DISK_ERROR),
        (sqlite3.SQLITE_PERM, Reason.DISK_ERROR),
        (sqlite3.SQLITE_NOMEM, Reason.DISK_ERROR),
    ],
)
async def test_trouble_with_the_disk_is_the_sinks(ledger, path, code, reason):
    def broken(_):
        error = sqlite3.OperationalError("the disk")
        error.sqlite_errorcode = code
        raise error

    with pytest.raises(DestinationError, match="the disk") as raised:
        await ledger.write(broken)
    assert raised.value.reason is reason
    await ledger.write(started("after"))
    assert other(path) == ["after"]


async def test_a_full_disk_is_told_and_the_ledger_goes_on_with_room_again(ledger, path):
    await ledger.read(lambda connection: connection.execute("PRAGMA max_page_count = 20"))

    def large(connection):
        for number in range(2000):
            started("x" * 500 + str(number))(connection)

    with pytest.raises(DestinationError) as raised:
        await ledger.write(large)
    assert raised.value.reason is Reason.DISK_FULL
    await ledger.read(lambda connection: connection.execute("PRAGMA max_page_count = 100000"))
    await ledger.write(started("a"))
    assert other(path) == ["a"]


async def test_a_write_whose_caller_was_cancelled_stands(ledger, path):
    writer = asyncio.create_task(ledger.write(started("a")))
    await asyncio.sleep(0)
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    await ledger.write(started("b"))
    assert other(path) == ["a", "b"]


async def test_closing_finishes_what_waits(path):
    ledger = await Ledger.open(path)
    writers = [asyncio.create_task(ledger.write(started(str(number)))) for number in range(20)]
    await asyncio.sleep(0)
    await ledger.close()
    await asyncio.gather(*writers)
    assert len(other(path)) == 20


async def test_a_write_after_closing_is_an_error_and_no_hang(path):
    ledger = await Ledger.open(path)
    await ledger.close()
    with pytest.raises(RuntimeError):
        await ledger.write(partial(runs))
