"""Ledgers of version 2: the migration to the current version, and reading without a migration."""

import sqlite3
from functools import partial

import pytest

from bulkdl.ledger import migrations, queries, version_1
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.rows import parse_timestamp
from support.filled_directory import ROOT

VERSION_1 = ROOT / "tests" / "fixtures" / "ledger-version-1.sql"
STARTED_AT = "2024-01-31T00:00:00+00:00"


@pytest.fixture
def path(tmp_path):
    """Create a ledger of version 2 with a run of each source and a run of processors."""
    path = tmp_path / "ledger.sqlite3"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(f"{VERSION_1.read_text()}; {version_1.MIGRATION}; PRAGMA user_version = 2;")
    connection.executemany(
        "INSERT INTO runs (run_id, started_at, exit_code, scope, source) VALUES (?, ?, 0, ?, ?)",
        [
            ("r1", STARTED_AT, "a", None),
            ("r2", STARTED_AT, "b", "storage"),
            ("r3", STARTED_AT, None, ""),
        ],
    )
    connection.close()
    return path


@pytest.mark.parametrize("read_only", [False, True], ids=["migrated", "read only"])
async def test_open_ledger_of_version_2_keeps_the_watermark_of_each_source(path, read_only):
    ledger = await Ledger.open(path, read_only=read_only)
    try:
        for source, scope, expected in (
            ("jobs", "a", parse_timestamp(STARTED_AT)),
            ("storage", "b", parse_timestamp(STARTED_AT)),
            ("jobs", "b", None),
        ):
            find = partial(queries.find_watermark, source=source, scope=scope)
            assert await ledger.read(find) == expected
        assert (
            await ledger.read(lambda each: each.execute("SELECT count(*) FROM run_sources").fetchone()[0])
            == 2
        )
    finally:
        await ledger.close()


async def test_open_read_only_does_not_change_a_ledger_of_version_2(path):
    before = path.read_bytes()
    ledger = await Ledger.open(path, read_only=True)
    await ledger.close()
    assert path.read_bytes() == before


def test_migrated_ledger_of_version_2_has_the_columns_of_a_new_ledger(path, tmp_path):
    migrated, fresh = (sqlite3.connect(name, isolation_level=None) for name in (path, ":memory:"))
    for connection in (migrated, fresh):
        migrations.migrate(connection, path)
    for table in ("runs", "run_sources"):
        columns = [list(each.execute(f"PRAGMA table_xinfo({table})")) for each in (migrated, fresh)]
        assert columns[0] == columns[1]
    assert migrated.execute("SELECT count(*) FROM runs").fetchone()[0] == 3
    migrated.close()
    fresh.close()
