import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from bulkdl.destinations.interfaces import LEDGER_NAME
from bulkdl.errors import DestinationError, OutputLockedError
from bulkdl.ledger import lease, maintenance_queries
from bulkdl.maintenance.rebuild import rebuild
from bulkdl.models import Reason
from support.downloaded_directory import read_completed, run_downloads_nothing
from support.hand_made_ledger import Folder, archive, done


@pytest.mark.parametrize("damage", ["no database", "a page of zeros"])
async def test_rebuild_renames_a_damaged_ledger(site, simulator, damage):
    with sqlite3.connect(site.path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    connection.close()
    data = bytearray(site.path.read_bytes())
    if damage == "no database":
        data[:100] = b"x" * 100
    else:
        data[4096 : 8 * 4096] = bytes(7 * 4096)
    site.path.write_bytes(data)
    found = await rebuild(site.options())
    (renamed_ledger,) = site.path.parent.glob("ledger.sqlite3.damaged-*")
    assert (found.damaged_ledger, renamed_ledger.read_bytes()) == (str(renamed_ledger), bytes(data))
    await run_downloads_nothing(site, simulator)


def is_unchanged(site):
    """Return whether the ledger exists under its name and was not renamed."""
    return site.path.exists() and not list(site.path.parent.glob("*damaged*"))


@contextmanager
def as_unprivileged_user(root):
    """Change the owner of the tree to an unprivileged user, and continue as that user."""
    for path in (root, *root.rglob("*")):
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
@pytest.mark.parametrize("is_held", [False, True])
async def test_rebuild_without_permission_to_read_the_ledger_keeps_it(is_held):
    with tempfile.TemporaryDirectory() as name:  # the other user cannot enter tmp_path
        site = Folder(Path(name))
        await site.record(done(archive(), "k", b"x"))
        if is_held:
            await hold(site, lease.Owner.current("other"))
        path = site.root / ".bulkdl" / LEDGER_NAME
        path.chmod(0)
        with as_unprivileged_user(site.root), pytest.raises(DestinationError) as raised:
            await rebuild(site.options())
        assert raised.value.reason is Reason.DISK_ERROR
        assert sorted(file.name for file in path.parent.glob("ledger*")) == [LEDGER_NAME]


async def test_rebuild_with_a_folder_in_place_of_the_ledger_keeps_it(tmp_path):
    path = tmp_path / ".bulkdl" / LEDGER_NAME
    path.mkdir(parents=True)
    with pytest.raises(DestinationError):
        await rebuild(Folder(tmp_path).options())
    assert path.is_dir()


@pytest.mark.parametrize("code", ["SQLITE_BUSY", "SQLITE_IOERR_READ", "SQLITE_CANTOPEN", "SQLITE_NOMEM"])
async def test_rebuild_of_a_ledger_that_cannot_be_read_now_keeps_it(site, monkeypatch, code):
    def fail(_connection):
        error = sqlite3.OperationalError(code)
        error.sqlite_errorcode = getattr(sqlite3, code)
        raise error

    monkeypatch.setattr(maintenance_queries, "find_integrity_error", fail)
    monkeypatch.setattr("bulkdl.ledger.database.LOCK_TIMEOUT_S", 0.05)
    with pytest.raises(DestinationError):
        await rebuild(site.options())
    monkeypatch.undo()
    assert is_unchanged(site)
    assert await read_completed(site)


async def test_rebuild_of_a_locked_ledger_keeps_it(site, monkeypatch):
    monkeypatch.setattr("bulkdl.ledger.database.LOCK_TIMEOUT_S", 0.05)
    connection = sqlite3.connect(site.path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DestinationError) as raised:
        await rebuild(site.options())
    connection.close()
    assert raised.value.reason is Reason.LEDGER_LOCKED
    assert is_unchanged(site)


def damage(path):
    """Overwrite pages of the tables, and leave the header and the lease readable."""
    with sqlite3.connect(path) as connection:
        pages = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE tbl_name = 'outputs' AND rootpage > 0"
        ).fetchall()
    connection.close()
    with path.open("r+b") as stream:
        for (page,) in pages:
            stream.seek((page - 1) * 4096)
            stream.write(b"\xff" * 4096)


async def hold(site, owner, age_s=0):
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    await site.write(partial(lease.acquire, owner=owner, path="x", now=at))


async def test_rebuild_of_a_damaged_ledger_with_a_live_lease_is_refused(site):
    await hold(site, lease.Owner.current("other"))
    damage(site.path)
    with pytest.raises(OutputLockedError):
        await rebuild(site.options())
    assert is_unchanged(site)


@pytest.mark.parametrize("is_alive", [True, False])
async def test_rebuild_of_a_damaged_ledger_observes_a_stale_lease(site, monkeypatch, is_alive):
    owner = lease.Owner("other", "another-host/1/1", 1)
    await hold(site, owner, age_s=3600)
    damage(site.path)
    monkeypatch.setattr(lease, "OBSERVATION_S", 0.2)
    renew_lease = partial(lease.renew, owner=owner, now=datetime.now(UTC) - timedelta(seconds=3590))
    if not is_alive:
        assert (await rebuild(site.options())).damaged_ledger
        return
    asyncio.get_running_loop().call_later(0.05, lambda: asyncio.ensure_future(site.write(renew_lease)))
    with pytest.raises(OutputLockedError):
        await rebuild(site.options())
    assert is_unchanged(site)


@pytest.mark.parametrize("has_header", [True, False])
async def test_rebuild_of_a_damaged_ledger_that_a_process_has_open_keeps_it(site, has_header):
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "c.execute('PRAGMA journal_mode = WAL').fetchall(); "
        "c.execute('SELECT count(*) FROM runs').fetchall(); print(flush=True); input()"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, str(site.path)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    await process.stdout.readline()
    if has_header:
        damage(site.path)
    else:
        with site.path.open("r+b") as stream:
            stream.write(b"x" * 100)
    try:
        with pytest.raises(DestinationError, match="has it open") as raised:
            await rebuild(site.options())
        assert raised.value.reason is Reason.LEDGER_LOCKED
        assert is_unchanged(site)
    finally:
        await process.communicate(b"\n")
    assert (await rebuild(site.options())).damaged_ledger


async def test_rebuild_renames_the_damaged_ledger_in_a_thread(site, monkeypatch):
    site.path.write_bytes(b"x" * 8192)
    threads, rename = set(), Path.rename

    def record_thread(path, target):
        threads.add(threading.current_thread())
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", record_thread)
    assert (await rebuild(site.options())).damaged_ledger
    assert threads
    assert threading.main_thread() not in threads
