"""Test the lease of a directory with real processes: PID namespaces, other paths, older ledgers."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bulkdl.destinations.interfaces import LEDGER_NAME
from bulkdl.errors import OutputLockedError
from bulkdl.ledger import migrations
from bulkdl.ledger.locked import open_locked_ledger
from bulkdl.state.storage import create_storage
from support.run_processes import ROOT

# Acquires the lease of the directory argv[1], reports it, and keeps it until stdin is closed.
HOLDER = """
import asyncio, sys
from pathlib import Path
from bulkdl.errors import OutputLockedError
from bulkdl.ledger.locked import open_locked_ledger
from bulkdl.state.storage import create_storage

async def hold():
    try:
        async with open_locked_ledger(create_storage(Path(sys.argv[1])), sys.argv[2]):
            print("held", flush=True)
            await asyncio.to_thread(sys.stdin.read)
    except OutputLockedError as error:
        print(f"refused: {error}", flush=True)

asyncio.run(hold())
"""


def can_run(*command):
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


PID_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")
MOUNT_NAMESPACE = ("unshare", "--mount")


@asynccontextmanager
async def holder(root, run_id, *prefix):
    """Start a process that holds the lease, yield its first line, and stop the process."""
    process = await asyncio.create_subprocess_exec(
        *(*prefix, sys.executable, "-c", HOLDER, str(root), run_id),
        stdin=PIPE,
        stdout=PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


def refused(line):
    return line.startswith("refused: ") and "another run locks" in line


@pytest.mark.skipif(not can_run(*PID_NAMESPACE, "true"), reason="needs the right to create a PID namespace")
async def test_second_container_with_the_same_host_name_is_refused(tmp_path):
    async with holder(tmp_path, "first", *PID_NAMESPACE) as first:
        assert first == "held"
        async with holder(tmp_path, "second", *PID_NAMESPACE) as second:
            assert refused(second)
        async with holder(tmp_path, "third") as third:
            assert refused(third)
    async with holder(tmp_path, "fourth", *PID_NAMESPACE) as fourth:
        assert fourth == "held"


@pytest.mark.parametrize("how", ["symbolic link", "parent folder"])
async def test_second_run_through_another_path_is_refused(tmp_path, how):
    root = tmp_path / "out"
    root.mkdir()
    (tmp_path / "link").symlink_to(root)
    other = {"symbolic link": tmp_path / "link", "parent folder": root / "x" / ".." / ".." / "out"}[how]
    (root / "x").mkdir()
    async with holder(root, "first") as first, holder(other, "second") as second:
        assert first == "held"
        assert refused(second)


@pytest.mark.skipif(not can_run(*MOUNT_NAMESPACE, "true"), reason="needs the right to mount")
async def test_second_run_through_a_bind_mount_is_refused(tmp_path):
    root, other = tmp_path / "out", tmp_path / "mounted"
    root.mkdir()
    other.mkdir()
    script = f'mount --bind "{root}" "{other}" && exec "$@"'
    async with holder(root, "first") as first:
        assert first == "held"
        async with holder(other, "second", *MOUNT_NAMESPACE, "sh", "-c", script, "sh") as second:
            assert refused(second)


def snapshot(path: Path):
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall()
        return version, tables, connection.execute("SELECT * FROM lease").fetchall()
    finally:
        connection.close()


async def test_ledger_of_an_older_version_is_not_migrated_under_a_live_lease(tmp_path, monkeypatch):
    path = tmp_path / ".bulkdl" / LEDGER_NAME
    async with holder(tmp_path, "old") as first:
        assert first == "held"
        newer = migrations.VERSION + 1
        monkeypatch.setattr(migrations, "VERSION", newer)
        monkeypatch.setattr(migrations, "MIGRATIONS", {newer: "ALTER TABLE runs ADD COLUMN host TEXT;"})
        before, data = snapshot(path), path.read_bytes()
        with pytest.raises(OutputLockedError):
            async with open_locked_ledger(create_storage(tmp_path), "new"):
                pass
        assert snapshot(path) == before
        assert path.read_bytes() == data
    async with open_locked_ledger(create_storage(tmp_path), "new"):
        assert snapshot(path)[0] == newer
    assert "host TEXT" in str(snapshot(path)[1])
