"""Opening, migration and group commit of a ledger on disk."""

import asyncio
import sqlite3
from contextlib import closing, contextmanager
from functools import partial

import pytest

from bulkdl.errors import BulkdlError, DestinationError, LedgerDamagedError, LedgerError, LedgerVersionError
from bulkdl.failure_policy import FAILURE_POLICIES, ExitCode
from bulkdl.ledger import database as module
from bulkdl.ledger import migrations
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.migrations import VERSION
from bulkdl.ledger.queries import count_containers, find_watermark, read_containers
from bulkdl.models import Reason


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
async def ledger(path):
    opened = await Ledger.open(path)
    yield opened
    await opened.close()


def read_columns(connection):
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {table: list(connection.execute(f"PRAGMA table_info({table})")) for table in tables}


def insert_run(run_id):
    return lambda connection: (
        connection.execute("INSERT INTO runs (run_id, started_at) VALUES (?, 'now')", (run_id,)).rowcount
    )


def read_runs(connection):
    return [row[0] for row in connection.execute("SELECT run_id FROM runs ORDER BY rowid")]


def read_runs_elsewhere(path):
    """Read the run IDs through another connection."""
    connection = sqlite3.connect(path)
    try:
        return read_runs(connection)
    finally:
        connection.close()


async def test_open_new_ledger_has_the_newest_version(ledger, path):
    assert (
        await ledger.read(lambda connection: connection.execute("PRAGMA user_version").fetchone()[0])
        == VERSION
    )
    assert (
        await ledger.read(lambda connection: connection.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"
    )
    assert await ledger.read(lambda connection: connection.execute("PRAGMA synchronous").fetchone()[0]) == 2
    assert await ledger.read(lambda connection: connection.execute("PRAGMA foreign_keys").fetchone()[0]) == 1


async def test_write_is_readable_after_reopening(path):
    first = await Ledger.open(path)
    await first.write(insert_run("a"))
    await first.close()
    second = await Ledger.open(path)
    assert await second.read(read_runs) == ["a"]
    await second.close()


async def test_open_new_ledger_concurrently_succeeds_for_all(path):
    opened = await asyncio.gather(*(Ledger.open(path) for _ in range(8)))
    await asyncio.gather(*(entry.write(insert_run(str(number))) for number, entry in enumerate(opened)))
    assert sorted(read_runs_elsewhere(path)) == [str(number) for number in range(8)]
    for entry in opened:
        await entry.close()


STEPS = {
    1: migrations.load_schema(),
    2: "ALTER TABLE runs ADD COLUMN host TEXT;",
    3: "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO notes (text) VALUES ('new');",
}


def test_migrated_ledger_has_the_current_schema_and_keeps_its_rows(path, monkeypatch):
    migrated = sqlite3.connect(path, isolation_level=None)
    migrations.migrate(migrated, path, version=1)
    insert_run("kept")(migrated)
    migrations.migrate(migrated, path, version=3, steps=STEPS)
    monkeypatch.setattr(migrations, "load_schema", lambda: "\n".join(STEPS.values()))
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    migrations.migrate(fresh, path, version=3)
    assert read_columns(migrated) == read_columns(fresh)
    assert read_runs(migrated) == ["kept"]
    for connection in (migrated, fresh):
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 3
        migrations.migrate(connection, path, version=3, steps={})
        connection.close()


RUN_AT = "2024-01-31T00:00:00+00:00"


COUNTS = {"jobs": {"not_selected": 1, "unfinished": 1}}


def create_earlier_revision(path):
    """Create a ledger of version 2 without what was added before its release."""
    connection = sqlite3.connect(path, isolation_level=None)
    migrations.migrate(connection, path)
    connection.execute("DROP TABLE obsolete_files")
    connection.execute("ALTER TABLE outputs DROP COLUMN object_version")
    connection.execute("DROP TABLE run_sources")
    connection.execute("ALTER TABLE containers DROP COLUMN path_values")
    for column in ("scope", "source"):
        connection.execute(f"ALTER TABLE runs ADD COLUMN {column} TEXT")
    connection.executemany(
        "INSERT INTO runs (run_id, started_at, exit_code, scope, source) VALUES (?, ?, 0, ?, ?)",
        [("r1", RUN_AT, "a", None), ("r2", RUN_AT, "b", "storage"), ("r3", RUN_AT, None, "")],
    )
    connection.execute(
        "INSERT INTO containers (id, source, scope, container_id, status, is_final, revision, created_at,"
        " attributes) VALUES (1, 'jobs', 'p', 'j', 'SUCCEEDED', 1, '', '2024-01-01T00:00:00+00:00', '{}')"
    )
    connection.execute(
        "INSERT INTO containers (id, source, scope, container_id, status, is_final, revision, created_at,"
        " attributes, reason) SELECT 2, source, scope, 'k', 'RUNNING', 0, revision, created_at, attributes,"
        " 'job_unfinished' FROM containers"
    )
    connection.execute(
        "INSERT INTO outputs (container, parent, kind, name, filename, state, key, size_bytes)"
        " VALUES (1, '', 'archive', '', '', 'completed', 'a.tar', 7)"
    )
    connection.close()


def read_columns_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return read_columns(connection)


def read_first_file(connection):
    return read_containers(connection, "jobs", "p", ["j"])["j"].outputs[0].file


def find_watermarks(connection):
    """Return the pairs of a source and a scope that have a watermark."""
    pairs = [(source, scope) for source in ("jobs", "storage") for scope in "ab"]
    return [pair for pair in pairs if find_watermark(connection, *pair) is not None]


async def test_open_ledger_of_an_earlier_revision_adds_what_is_missing(path):
    create_earlier_revision(path)
    ledger = await Ledger.open(path, upgrade=False)
    assert "obsolete_files" not in read_columns_of(path)
    await asyncio.gather(ledger.upgrade(), ledger.upgrade())
    assert (await ledger.read(read_first_file)).size_bytes == 7
    assert await ledger.read(count_containers) == COUNTS
    assert await ledger.read(find_watermarks) == [("jobs", "a"), ("storage", "b")]
    assert await ledger.read(read_runs) == ["r1", "r2", "r3"]
    await ledger.close()
    fresh = path.with_name("fresh.sqlite3")
    await (await Ledger.open(fresh)).close()
    assert read_columns_of(path) == read_columns_of(fresh)


async def test_open_ledger_of_an_earlier_revision_read_only_reads_it_and_does_not_change_it(path):
    create_earlier_revision(path)
    content = path.read_bytes()
    ledger = await Ledger.open(path, read_only=True)
    file = await ledger.read(read_first_file)
    assert (file.size_bytes, file.version) == (7, None)
    assert await ledger.read(count_containers) == COUNTS
    known = await ledger.read(partial(read_containers, source="jobs", scope="p", ids=["k"]))
    assert known["k"].listing_failure is Reason.CONTAINER_UNFINISHED
    assert await ledger.read(find_watermarks) == [("jobs", "a"), ("storage", "b")]
    await ledger.close()
    assert path.read_bytes() == content


def test_migrate_existing_ledger_copies_the_old_version(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    migrations.migrate(connection, path, version=1)
    insert_run("kept")(connection)
    old = read_columns(connection)
    migrations.migrate(connection, path, version=3, steps=STEPS)
    connection.close()
    backup = path.with_name(f"{path.name}.version-1")
    assert read_runs_elsewhere(backup) == ["kept"]
    copy = sqlite3.connect(backup)
    assert (copy.execute("PRAGMA user_version").fetchone()[0], read_columns(copy)) == (1, old)
    copy.close()
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name, backup.name]


def test_migrate_without_a_copy_does_not_change_the_ledger(path):
    connection = sqlite3.connect(path, isolation_level=None)
    migrations.migrate(connection, path, version=1)
    path.with_name(f"{path.name}.version-1").mkdir()
    with pytest.raises(DestinationError, match="version-1"):
        migrations.migrate(connection, path, version=3, steps=STEPS)
    assert connection.execute("PRAGMA user_version").fetchone()[0] == 1
    connection.close()


def test_migrations_do_not_change_the_table_lease():
    assert [number for number, sql in migrations.MIGRATIONS.items() if "lease" in sql.lower()] == []


def test_migrations_exist_for_all_versions():
    assert sorted(migrations.MIGRATIONS) == list(range(2, VERSION + 1))


def test_migration_that_fails_does_not_change_the_ledger(path):
    connection = sqlite3.connect(path, isolation_level=None)
    migrations.migrate(connection, path, version=1)
    before = read_columns(connection)
    with pytest.raises(sqlite3.Error):
        migrations.migrate(
            connection, path, version=3, steps={2: STEPS[2], 3: "CREATE TABLE x (a); SELECT unknown_column;"}
        )
    assert not connection.in_transaction
    assert read_columns(connection) == before
    assert connection.execute("PRAGMA user_version").fetchone()[0] == 1
    connection.close()


@pytest.mark.parametrize("read_only", [True, False])
async def test_open_ledger_of_a_newer_version_raises_error(path, read_only):
    connection = sqlite3.connect(path)
    connection.executescript(f"CREATE TABLE future (x); PRAGMA user_version = {VERSION + 1};")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(
        LedgerVersionError, match=f"version {VERSION + 1}; this bulkdl supports versions up to {VERSION}"
    ):
        await Ledger.open(path, read_only=read_only)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content", [b"this is not a database, but as long as a database header. " * 40, b"x" * 100]
)
@pytest.mark.parametrize("read_only", [True, False])
async def test_open_file_that_is_not_a_database_raises_error_and_does_not_change_it(path, content, read_only):
    path.write_bytes(content)
    with pytest.raises(LedgerDamagedError) as raised:
        await Ledger.open(path, read_only=read_only)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == content


async def test_open_path_of_a_folder_raises_error(path):
    path.mkdir()
    with pytest.raises((LedgerError, DestinationError), match=str(path)):
        await Ledger.open(path)


async def test_read_of_a_damaged_page_raises_ledger_damaged(path):
    first = await Ledger.open(path)
    await first.write(insert_run("a"))
    page = await first.read(
        lambda connection: connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'runs'"
        ).fetchone()[0]
    )
    await first.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    second = await Ledger.open(path)
    with pytest.raises(LedgerDamagedError, match="damaged or is not a SQLite database"):
        await second.read(read_runs)
    await second.close()


async def test_read_only_ledger_cannot_write_and_reads_new_rows(ledger, path):
    reader = await Ledger.open(path, read_only=True)
    await ledger.write(insert_run("a"))
    assert await reader.read(read_runs) == ["a"]
    with pytest.raises(DestinationError):
        await reader.write(insert_run("b"))
    assert await ledger.read(read_runs) == ["a"]
    await reader.close()


async def test_open_read_only_does_not_create_a_ledger(path):
    with pytest.raises((LedgerError, DestinationError)):
        await Ledger.open(path, read_only=True)
    assert not path.exists()


def record_commits(ledger):
    """Return a list that receives an entry for each later transaction."""
    commits = []
    ledger._connection.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    return commits


async def test_concurrent_writes_share_a_transaction(ledger, path):
    commits = record_commits(ledger)
    await asyncio.gather(*(ledger.write(insert_run(str(number))) for number in range(500)))
    assert len(commits) <= 3
    assert read_runs_elsewhere(path) == [str(number) for number in range(500)]


async def test_write_returns_after_its_transaction_is_visible(ledger, path):
    async def write(number):
        await ledger.write(insert_run(str(number)))
        assert str(number) in read_runs_elsewhere(path)

    await asyncio.gather(*(write(number) for number in range(20)))


async def test_write_whose_statement_fails_is_rolled_back_alone(ledger, path):
    def rejected(connection):
        insert_run("rejected")(connection)
        raise BulkdlError("no")

    results = await asyncio.gather(
        ledger.write(insert_run("a")),
        ledger.write(rejected),
        ledger.write(insert_run("b")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [int, BulkdlError, int]
    assert read_runs_elsewhere(path) == ["a", "b"]


async def test_write_whose_statement_has_a_bug_raises_it_and_other_writes_return(ledger, path):
    def buggy(connection):
        insert_run("buggy")(connection)
        raise KeyError("a bug")

    results = await asyncio.gather(
        ledger.write(insert_run("a")),
        ledger.write(buggy),
        ledger.write(insert_run("b")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [int, KeyError, int]
    await ledger.write(insert_run("c"))
    assert read_runs_elsewhere(path) == ["a", "b", "c"]


def invalid_statement(connection):
    insert_run("invalid")(connection)
    connection.execute("INSERT INTO nowhere VALUES (1)")


async def test_write_with_invalid_sql_fails_alone_and_is_rolled_back(ledger, path):
    results = await asyncio.gather(
        ledger.write(insert_run("a")),
        ledger.write(invalid_statement),
        ledger.write(insert_run("b")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [int, LedgerError, int]
    assert read_runs_elsewhere(path) == ["a", "b"]
    await ledger.write(insert_run("c"))
    assert read_runs_elsewhere(path) == ["a", "b", "c"]


async def test_write_whose_object_cannot_be_flushed_fails_alone(path):
    async def flush(keys):
        if "broken" in keys:
            raise DestinationError(Reason.DISK_ERROR, "fsync failed")

    ledger = await Ledger.open(path, flush=flush)
    results = await asyncio.gather(
        ledger.write(insert_run("a"), keys=["intact"]),
        ledger.write(insert_run("lost"), keys=["broken"]),
        ledger.write(insert_run("b")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [int, DestinationError, int]
    assert read_runs_elsewhere(path) == ["a", "b"]
    await ledger.close()


@pytest.mark.parametrize("statement", [invalid_statement, None])
async def test_write_failures_of_one_batch_are_separate_exception_instances(path, statement):
    async def flush(_keys):
        raise DestinationError(Reason.DISK_ERROR, "fsync failed")

    ledger = await Ledger.open(path, flush=flush)
    results = await asyncio.gather(
        *(ledger.write(statement or insert_run("a"), keys=["a"]) for _ in range(4)),
        return_exceptions=True,
    )
    assert all(isinstance(result, BulkdlError) for result in results)
    assert len({id(result) for result in results}) == 4
    assert len({str(result) for result in results}) == 1
    await ledger.close()


async def test_write_to_a_closed_ledger_raises_a_separate_instance_for_each_caller(path):
    ledger = await Ledger.open(path)
    await ledger.close()
    results = await asyncio.gather(
        *(ledger.write(insert_run(str(number))) for number in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [RuntimeError] * 3
    assert len({id(result) for result in results}) == 3


@contextmanager
def hold_lock(path):
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
    with hold_lock(path):
        writers = [asyncio.create_task(ledger.write(insert_run(name))) for name in ("a", "b")]
        await asyncio.sleep(0.3)
        assert not any(writer.done() for writer in writers)
    await asyncio.gather(*writers)
    assert read_runs_elsewhere(path) == ["a", "b"]
    await ledger.close()


async def test_write_to_a_ledger_locked_too_long_is_a_temporary_failure(path):
    ledger = await Ledger.open(path, lock_timeout_s=0.05)
    with hold_lock(path):
        results = await asyncio.gather(
            ledger.write(insert_run("a")), ledger.write(insert_run("b")), return_exceptions=True
        )
    assert [entry.reason for entry in results] == [Reason.LEDGER_LOCKED] * 2
    assert results[0] is not results[1]
    assert FAILURE_POLICIES[Reason.LEDGER_LOCKED].exit_code is ExitCode.TEMPORARY
    await ledger.write(insert_run("c"))
    assert read_runs_elsewhere(path) == ["c"]
    await ledger.close()


async def test_open_locked_too_long_is_a_temporary_failure_and_changes_nothing(path):
    await (await Ledger.open(path)).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    before = path.read_bytes()
    with hold_lock(path), pytest.raises(DestinationError) as raised:
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
async def test_write_with_a_disk_error_raises_destination_error(ledger, path, code, reason):
    def broken(_):
        error = sqlite3.OperationalError("the disk")
        error.sqlite_errorcode = code
        raise error

    with pytest.raises(DestinationError, match="the disk") as raised:
        await ledger.write(broken)
    assert raised.value.reason is reason
    await ledger.write(insert_run("after"))
    assert read_runs_elsewhere(path) == ["after"]


async def test_write_on_a_full_disk_fails_and_succeeds_after_space_is_freed(ledger, path):
    await ledger.read(lambda connection: connection.execute("PRAGMA max_page_count = 20"))

    def large(connection):
        for number in range(2000):
            insert_run("x" * 500 + str(number))(connection)

    with pytest.raises(DestinationError) as raised:
        await ledger.write(large)
    assert raised.value.reason is Reason.DISK_FULL
    await ledger.read(lambda connection: connection.execute("PRAGMA max_page_count = 100000"))
    await ledger.write(insert_run("a"))
    assert read_runs_elsewhere(path) == ["a"]


async def test_write_whose_caller_was_cancelled_is_committed(ledger, path):
    writer = asyncio.create_task(ledger.write(insert_run("a")))
    await asyncio.sleep(0)
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    await ledger.write(insert_run("b"))
    assert read_runs_elsewhere(path) == ["a", "b"]


async def test_close_finishes_waiting_writes(path):
    ledger = await Ledger.open(path)
    writers = [asyncio.create_task(ledger.write(insert_run(str(number)))) for number in range(20)]
    await asyncio.sleep(0)
    await ledger.close()
    await asyncio.gather(*writers)
    assert len(read_runs_elsewhere(path)) == 20


async def test_write_after_close_raises_error(path):
    ledger = await Ledger.open(path)
    await ledger.close()
    with pytest.raises(RuntimeError):
        await ledger.write(partial(read_runs))
