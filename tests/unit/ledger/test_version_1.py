"""Ledgers of version 1: the migration to the current version, and reading without a migration."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bulkdl.errors import DestinationError
from bulkdl.ledger import migrations, version_1
from bulkdl.ledger.database import Ledger
from bulkdl.models import Reason

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
TABLES = ("containers", "outputs", "runs", "run_sources", "derived")
INSERT_JOB = """
INSERT INTO jobs (
    id, project_id, job_id, status, created_at, finished_at, mode, name, workflow_id,
    last_task_id, reason, detail, tasks_listed_at, quicklooks_listed_at
) VALUES (
    :id, 'p', :job_id, :status, '2024-01-01T00:00:00+00:00', :finished_at, 'DEFAULT', 'name', :workflow_id,
    :last_task_id, :reason, :detail, :tasks_listed_at, :quicklooks_listed_at
)
"""
INSERT_OUTPUT = """
INSERT INTO outputs (job, task_id, kind, name, filename, state, reason, source, attempts)
VALUES (:job, :task_id, :kind, :name, :filename, :state, :reason, :source, 3)
"""
JOB = {
    "status": "SUCCEEDED",
    "finished_at": "2024-01-02T00:00:00+00:00",
    "workflow_id": "w",
    "last_task_id": "t2",
    "reason": None,
    "detail": None,
    "tasks_listed_at": "2024-01-03T00:00:00+00:00",
    "quicklooks_listed_at": "2024-01-03T00:00:00+00:00",
}
OUTPUT = {"job": 1, "name": "", "filename": "", "state": "planned", "reason": None, "source": None}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def old(path):
    """Create an empty ledger of version 1."""
    connection = connect(path)
    connection.executescript((FIXTURES / "ledger-version-1.sql").read_text())
    connection.execute("PRAGMA user_version = 1")
    yield connection
    connection.close()


def connect(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def add_job(connection, **values):
    connection.execute(INSERT_JOB, {"id": 1, "job_id": "j", **JOB, **values})


def add_output(connection, **values):
    connection.execute(INSERT_OUTPUT, {**OUTPUT, **values})


def fill(connection, jobs):
    """Add *jobs* jobs with one archive each."""
    connection.execute("BEGIN")
    for number in range(1, jobs + 1):
        add_job(connection, id=number, job_id=f"j{number}")
        add_output(connection, job=number, task_id="", kind="archive")
    connection.execute("COMMIT")


def read_all(connection):
    return {name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")] for name in TABLES}  # noqa: S608 - constants


def count_rows(connection, table):
    return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - constants


def read_one(connection, table):
    [row] = connection.execute(f"SELECT * FROM {table}")  # noqa: S608 - constants
    return dict(row)


def read_schema(connection):
    """Return the columns, indexes and foreign keys of each table."""
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {
        name: [
            [tuple(row) for row in connection.execute(f"PRAGMA {pragma}({name})")]
            for pragma in ("table_xinfo", "index_list", "foreign_key_list")
        ]
        for name in names
    }


def version_of(connection):
    return connection.execute("PRAGMA user_version").fetchone()[0]


def test_migrated_ledger_has_the_schema_of_a_new_ledger(old, path):
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    migrations.migrate(fresh, path)
    migrations.migrate(old, path)
    assert read_schema(old) == read_schema(fresh)
    assert version_of(old) == migrations.VERSION
    fresh.close()


def test_migrated_ledger_of_an_earlier_revision_has_intact_references(tmp_path):
    with tarfile.open(FIXTURES / "directory-version-1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    path = tmp_path / "out/.bulkdl/ledger.sqlite3"
    connection = connect(path)
    counts = [count_rows(connection, name) for name in ("jobs", "outputs")]
    migrations.migrate(connection, path)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    rows = read_all(connection)
    assert [len(rows["containers"]), len(rows["outputs"])] == counts == [8, 53]
    connection.execute("DELETE FROM containers")
    assert read_all(connection)["outputs"] == []
    connection.close()


def test_views_of_an_old_ledger_have_the_rows_of_a_migrated_ledger(tmp_path):
    with tarfile.open(FIXTURES / "directory-version-1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    path = tmp_path / "out/.bulkdl/ledger.sqlite3"
    viewed, migrated = connect(path), connect(tmp_path / "copy.sqlite3")
    viewed.backup(migrated)
    version_1.create_views(viewed)
    migrations.migrate(migrated, tmp_path / "copy.sqlite3")
    assert read_all(viewed) == read_all(migrated)
    viewed.close()
    migrated.close()


def test_migrated_job_is_a_container_of_the_source_jobs(old, path):
    add_job(old)
    migrations.migrate(old, path)
    container = read_one(old, "containers")
    attributes, kinds = json.loads(container.pop("attributes")), json.loads(container.pop("listed_kinds"))
    assert container == {
        "id": 1,
        "source": "jobs",
        "scope": "p",
        "container_id": "j",
        "status": "SUCCEEDED",
        "is_final": 1,
        "revision": "SUCCEEDED 2024-01-02T00:00:00+00:00",
        "created_at": "2024-01-01T00:00:00+00:00",
        "finished_at": "2024-01-02T00:00:00+00:00",
        "name": "name",
        "reason": None,
        "detail": None,
        "path_values": "{}",
    }
    assert (attributes, kinds) == (
        {"mode": "DEFAULT", "workflow": "w"},
        ["archive", "geojson", "quicklook"],
    )


def test_migrated_unfinished_job_is_not_final(old, path):
    add_job(old, status="RUNNING", finished_at=None, workflow_id=None, reason="job_unfinished")
    migrations.migrate(old, path)
    container = read_one(old, "containers")
    assert (container["is_final"], container["revision"]) == (0, "RUNNING")
    assert (container["reason"], json.loads(container["attributes"])) == (
        "container_unfinished",
        {"mode": "DEFAULT"},
    )


@pytest.mark.parametrize(
    ("tasks", "quicklooks", "kinds"),
    [
        (None, None, []),
        (None, "2024", []),
        ("2024", None, ["archive", "geojson"]),
        ("2024", "2024", ["archive", "geojson", "quicklook"]),
    ],
)
def test_migrated_container_has_the_kinds_that_were_listed(old, path, tasks, quicklooks, kinds):
    add_job(old, tasks_listed_at=tasks, quicklooks_listed_at=quicklooks)
    migrations.migrate(old, path)
    assert json.loads(read_one(old, "containers")["listed_kinds"]) == kinds


@pytest.mark.parametrize(("former", "reason"), version_1.FORMER_REASONS.items())
def test_migrated_rows_have_the_current_names_of_reasons(old, path, former, reason):
    add_job(old, reason=former)
    add_output(old, task_id="", kind="archive", state="failed", reason=former)
    migrations.migrate(old, path)
    assert read_one(old, "containers")["reason"] == read_one(old, "outputs")["reason"] == Reason(reason).value


def test_migrated_archives_of_the_job_and_of_its_last_task_can_be_one_object(old, path):
    add_job(old)
    for task, kind in (
        ("", "archive"),
        ("t1", "archive"),
        ("t2", "archive"),
        ("", "geojson"),
        ("t2", "geojson"),
    ):
        add_output(old, task_id=task, kind=kind, source="https://s/o" if kind == "archive" else None)
    migrations.migrate(old, path)
    rows = read_all(old)["outputs"]
    assert [row["parent"] for row in rows if row["identity"]] == ["", "t2"]
    assert {row["identity"] for row in rows if row["identity"]} == {"result"}
    assert all(row["kind"] == "archive" for row in rows if row["identity"])
    assert {row["object_url"] for row in rows} == {"https://s/o", None}
    assert {row["attempts"] for row in rows} == {3}


def test_migration_keeps_runs_and_the_lease(old, path):
    old.execute("INSERT INTO runs (run_id, started_at, exit_code, scope) VALUES ('r', '2024', 3, 'abc')")
    old.execute(
        "INSERT INTO lease (id, run_id, host, pid, since_at, beat_at) VALUES (1, 'r', 'h', 7, '2024', '2024')"
    )
    migrations.migrate(old, path)
    run = read_one(old, "runs")
    assert (run["run_id"], run["exit_code"]) == ("r", 3)
    assert read_one(old, "run_sources") == {
        "run_id": "r",
        "source": "jobs",
        "scope": "abc",
        "exit_code": 3,
    }
    assert read_one(old, "lease")["pid"] == 7


def test_migration_without_disk_space_does_not_change_the_ledger(old, path):
    fill(old, 200)
    before = [dict(row) for row in old.execute("SELECT * FROM outputs")]
    pages = old.execute("PRAGMA page_count").fetchone()[0]
    old.execute(f"PRAGMA max_page_count = {pages + 2}")  # SQLite reports a full disk
    with pytest.raises(sqlite3.OperationalError, match="full"):
        migrations.migrate(old, path)
    assert version_of(old) == 1
    assert [dict(row) for row in old.execute("SELECT * FROM outputs")] == before


_KILLED_MIGRATION = """
import os, signal, sqlite3, sys
from pathlib import Path
from bulkdl.ledger import migrations
path, steps = Path(sys.argv[1]), int(sys.argv[2])
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("PRAGMA foreign_keys = ON")
connection.execute("PRAGMA cache_size = 10")  # pages reach the disk during the transaction
calls = 0
def count():
    global calls
    calls += 1
    if calls == steps:
        os.kill(os.getpid(), signal.SIGKILL)
connection.set_progress_handler(count, 500)
migrations.migrate(connection, path)
print(calls)
"""


def migrate_in_process(path, kill_at):
    return subprocess.run(
        [sys.executable, "-c", _KILLED_MIGRATION, str(path), str(kill_at)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(FIXTURES.parents[1])},
    )


def test_migration_that_is_killed_leaves_the_old_version_or_the_new_one(old, path, tmp_path):
    fill(old, 500)
    old.close()
    content = path.read_bytes()
    done = migrate_in_process(path, 0)
    assert done.returncode == 0, done.stderr
    expected = connect(path)
    rows, calls = read_all(expected), int(done.stdout)
    expected.close()
    assert calls > 20
    for share in (1, 5, 10, 15, 19):
        for name in tmp_path.iterdir():
            name.unlink()
        path.write_bytes(content)
        killed = migrate_in_process(path, max(1, calls * share // 20))
        assert killed.returncode == -signal.SIGKILL
        connection = connect(path)
        assert version_of(connection) == 1
        migrations.migrate(connection, path)
        assert read_all(connection) == rows
        connection.close()


async def test_open_read_only_reads_an_old_ledger_without_a_write(old, path):
    fill(old, 3)
    old.close()
    before = path.read_bytes()
    ledger = await Ledger.open(path, read_only=True)
    try:
        assert len((await ledger.read(read_all))["outputs"]) == 3
        with pytest.raises(DestinationError, match="readonly"):
            await ledger.read(lambda connection: connection.execute("DELETE FROM main.jobs"))
    finally:
        await ledger.close()
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


async def test_remove_copies_removes_the_copy_of_the_old_version(old, path):
    fill(old, 1)
    old.close()
    ledger = await Ledger.open(path)
    copy = path.with_name(f"{path.name}.version-1")
    assert await asyncio.to_thread(copy.exists)
    await ledger.remove_copies()
    assert not await asyncio.to_thread(copy.exists)
    await ledger.remove_copies()
    await ledger.close()
