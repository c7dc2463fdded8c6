"""Runs with an empty, an older or another state directory, and an object store in memory."""

import asyncio
import gzip
import json
import shutil
import sqlite3

import obstore
import pytest

from bulkdl import Settings
from bulkdl.errors import (
    ConfigError,
    LedgerDamagedError,
    LedgerMissingError,
    LedgerVersionError,
    OutputLockedError,
)
from bulkdl.failure_policy import ExitCode
from bulkdl.maintenance.rebuild import rebuild
from bulkdl.maintenance.retry import select_retries
from bulkdl.maintenance.status import all_failures, read_status
from bulkdl.maintenance.verify import VerifyOptions, verify
from bulkdl.models import Outcome, Reason
from bulkdl.selection import Selection
from bulkdl.settings.parsers import Shard
from bulkdl.sources.registry import installed_layouts
from bulkdl.transfer.checksums import Digester
from support.library_runs import TAME, LibraryEnvironment, library_environment
from support.memory_store import use_memory_store

POINTER = ".bulkdl/snapshot.json"


class SharedBucket(LibraryEnvironment):
    """A simulator, a store in memory, and the state directories of several machines."""

    def __init__(self, simulator, store, folder):
        super().__init__(simulator, "memory://bucket/prefix")
        self.store, self.folder, self.machine = store, folder, "first"

    @property
    def state(self):
        return self.folder / self.machine

    def downloader(self, **changes):
        return super().downloader(**{"state": self.state, **changes})

    def read(self, key):
        return bytes(obstore.get(self.store, key).bytes())

    def list_keys(self, prefix=""):
        found = [meta["path"] for page in obstore.list(self.store) for meta in page]
        return sorted(key for key in found if key.startswith(prefix))

    def outputs(self):
        return {key: self.read(key) for key in self.list_keys() if not key.startswith(".bulkdl/")}

    @property
    def pointer(self):
        return json.loads(self.read(POINTER))

    def change_pointer(self, **changes):
        obstore.put(self.store, POINTER, json.dumps({**self.pointer, **changes}).encode())

    def query(self, statement):
        with sqlite3.connect(self.state / "ledger.sqlite3") as connection:
            return connection.execute(statement).fetchall()

    def verify_options(self, **changes):
        return VerifyOptions(self.output, installed_layouts(Settings()), self.state, **changes)


@pytest.fixture
async def site(monkeypatch, tmp_path):
    store, _calls = use_memory_store(monkeypatch)
    async with library_environment(tmp_path, TAME) as site:
        yield SharedBucket(site.simulator, store, tmp_path)


async def test_run_publishes_a_snapshot_that_contains_the_ledger_and_its_end(site, tmp_path):
    summary = await site.run()
    assert summary.exit_code is ExitCode.OK
    assert site.pointer["generation"] == 1
    (tmp_path / "copy").write_bytes(gzip.decompress(site.read(site.pointer["key"])))
    with sqlite3.connect(tmp_path / "copy") as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for table in ("containers", "outputs", "runs", "run_sources", "snapshot"):
            query = f"SELECT * FROM {table} ORDER BY 1"  # noqa: S608 - constants
            assert copy.execute(query).fetchall() == site.query(query), table
        assert copy.execute("SELECT exit_code FROM runs").fetchall() == [(0,)]
        assert copy.execute("SELECT * FROM lease").fetchall() == []
    assert list((site.state / "parts").iterdir()) == []


async def test_run_empty_state_directory_restores_the_snapshot_and_downloads_nothing(site):
    await site.run()
    before = site.outputs()
    for generation, machine in enumerate(["second", "third", "fourth"], 2):
        site.machine = machine
        summary = await site.run()
        assert (summary.exit_code, summary.outputs(Outcome.COMPLETED)) == (ExitCode.OK, 0)
        assert {endpoint for _, endpoint in site.request_counts()} == {"jobs", "token"}
        assert site.pointer["generation"] == generation
    assert site.outputs() == before
    assert len(site.query("SELECT * FROM runs")) == 4
    snapshots = site.list_keys(".bulkdl/ledger-")
    assert snapshots == sorted([site.pointer["previous_key"], site.pointer["key"]])


async def test_run_older_state_directory_is_kept_aside_and_replaced(site):
    await site.run()
    site.machine = "second"
    await site.run()
    site.machine = "first"
    summary = await site.run()
    assert summary.exit_code is ExitCode.OK
    assert len(site.query("SELECT * FROM runs")) == 3
    with sqlite3.connect(site.state / "ledger.sqlite3.stale-1") as former:
        assert len(former.execute("SELECT * FROM runs").fetchall()) == 1
    assert site.pointer["generation"] == 3


async def test_run_state_directory_newer_than_the_snapshot_is_used(site):
    await site.run()
    with sqlite3.connect(site.state / "ledger.sqlite3") as connection:
        connection.execute("UPDATE containers SET name = 'only here'")
    await site.run()
    assert {name for (name,) in site.query("SELECT name FROM containers")} != {None}
    assert not list(site.state.glob("*.stale-*"))


async def test_run_killed_after_the_pointer_was_written_continues_with_its_ledger(site):
    await site.run()
    with sqlite3.connect(site.state / "ledger.sqlite3") as connection:
        connection.execute("UPDATE snapshot SET generation = 0, pending_key = key, key = NULL")
        connection.execute("INSERT INTO runs (run_id, started_at) VALUES ('mine', '2020')")
    await site.run()
    assert len(site.query("SELECT * FROM runs")) == 3
    assert not list(site.state.glob("*.stale-*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generation": 1, "key": "other"}, r"is not newer .* after 2, actual 1; .* delete .bulkdl/snapshot"),
        ({"generation": 2, "key": "other"}, "is not newer than the state directory"),
        ({"generation": 9, "key": "other", "ledger_id": "other"}, "belongs to another ledger"),
    ],
)
async def test_run_snapshot_of_another_history_is_refused_and_not_replaced(site, changes, message):
    await site.run()
    await site.run()
    site.change_pointer(**changes)
    before = site.read(POINTER)
    with pytest.raises(ConfigError, match=message):
        await site.run()
    assert site.read(POINTER) == before
    assert not site.simulator.requests
    obstore.delete(site.store, POINTER)
    assert (await site.run()).exit_code is ExitCode.OK
    assert site.pointer["generation"] == 3


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "checksum mismatch: expected"),
        (lambda data: data[:-10], "unexpected size: expected"),
        (lambda data: data + b"x", "unexpected size: expected"),
        (None, "the object does not exist"),
    ],
)
async def test_run_damaged_snapshot_is_reported_and_rebuild_replaces_it(site, damage, message):
    await site.run()
    before, key = site.outputs(), site.pointer["key"]
    if damage is None:
        obstore.delete(site.store, key)
    else:
        obstore.put(site.store, key, damage(site.read(key)))
    site.machine = "second"
    with pytest.raises(LedgerDamagedError, match=f"ledger-00000001-.* is damaged: {message}.*--rebuild"):
        await site.run()
    with pytest.raises(LedgerDamagedError, match=message):
        await read_status(site.output, site.state)
    verification = await rebuild(site.verify_options())
    assert verification.findings == []
    assert site.pointer["generation"] == 2
    site.machine = "third"
    assert (await site.run()).exit_code is ExitCode.OK
    assert site.outputs() == before


@pytest.mark.parametrize("content", [b"not gzip", gzip.compress(b"not a database" * 1000)])
async def test_run_snapshot_with_invalid_content_is_damaged(site, content):
    await site.run()
    obstore.put(site.store, site.pointer["key"], content)
    digester = Digester()
    digester.update(content)
    site.change_pointer(size_bytes=len(content), crc32c=digester.crc32c.value, ledger_bytes=14_000)
    site.machine = "second"
    with pytest.raises(LedgerDamagedError, match="is damaged"):
        await site.run()
    site.change_pointer(ledger_bytes=100)
    with pytest.raises(LedgerDamagedError, match="is damaged"):
        await site.run()
    assert site.query("SELECT * FROM containers") == []
    assert list((site.state / "parts").iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"generation": "x"}'])
async def test_run_invalid_pointer_is_reported(site, data):
    await site.run()
    obstore.put(site.store, POINTER, data)
    site.machine = "second"
    with pytest.raises(LedgerDamagedError, match="invalid pointer to the state snapshot"):
        await site.run()


async def test_run_snapshot_of_a_newer_version_is_refused(site):
    await site.run()
    site.change_pointer(ledger_version=99)
    site.machine = "second"
    with pytest.raises(LedgerVersionError, match="unexpected ledger version 99"):
        await site.run()


async def test_commands_without_state_directory_read_the_snapshot_and_write_nothing(site):
    await site.run()
    selection = Selection(source="jobs", scopes=(site.simulator.projects[0].id,))
    retries = await select_retries(site.output, [selection], state=site.state)
    store_before = {key: site.read(key) for key in site.list_keys()}
    site.machine = "second"
    async with site.downloader() as downloader:
        assert (await downloader.plan()).outputs == []
    status = await read_status(site.output, site.state)
    assert status.output == site.output
    assert [ledger.output for ledger in status.ledgers] == ["."]
    assert [row async for row in all_failures(site.output, site.state)] == []
    assert (await verify(site.verify_options(deep=True))).findings == []
    assert await select_retries(site.output, [selection], state=site.state) == retries
    assert not site.state.exists()
    assert {key: site.read(key) for key in site.list_keys()} == store_before


async def test_commands_without_state_and_snapshot_report_a_missing_ledger(site):
    with pytest.raises(LedgerMissingError):
        await read_status(site.output, site.state)
    with pytest.raises(LedgerMissingError):
        await verify(site.verify_options())
    with pytest.raises(LedgerMissingError):
        await verify(site.verify_options(repair=True))


async def test_verify_repair_without_state_directory_restores_and_publishes(site):
    await site.run()
    key = next(key for key in site.outputs() if key.endswith("final_output.tar.gz"))
    obstore.delete(site.store, key)
    site.machine = "second"
    assert len((await verify(site.verify_options(repair=True))).findings) == 1
    assert site.pointer["generation"] == 2
    site.machine = "third"
    summary = await site.run()
    assert summary.outputs(Outcome.COMPLETED) == 1
    assert key in site.outputs()


async def test_shards_have_their_own_state_and_their_number_cannot_change(site):
    for index in range(2):
        site.machine = f"shard-{index}"
        assert (await site.run(shard=Shard(index, 2))).exit_code is ExitCode.OK
    prefixes = [f".bulkdl/shards/00{index}-of-002/" for index in range(2)]
    for prefix in prefixes:
        assert [key.removeprefix(prefix)[:8] for key in site.list_keys(prefix)] == [
            "lease.js",
            "ledger-0",
            "snapshot",
        ]
    site.machine = "empty"
    status = await read_status(site.output, site.state)
    assert [ledger.output for ledger in status.ledgers] == ["0/2", "1/2"]
    for shard in (None, Shard(0, 3)):
        with pytest.raises(ConfigError, match=r"number of shards differs .* expected 2 shards"):
            await site.run(shard=shard)
    summary = await site.run(shard=Shard(1, 2))
    assert (summary.exit_code, summary.outputs(Outcome.COMPLETED)) == (ExitCode.OK, 0)


async def test_run_lease_none_publishes_snapshots_without_lease(site):
    await site.run(lease="none")
    assert site.pointer["generation"] == 1
    assert "lease.json" not in "".join(site.list_keys())


async def test_run_snapshots_are_published_at_intervals_while_it_runs(site, monkeypatch):
    published = asyncio.Event()
    put = obstore.put_async

    async def notice(store, key, *args, **more):
        result = await put(store, key, *args, **more)
        if key == POINTER:
            published.set()
        return result

    monkeypatch.setattr(obstore, "put_async", notice)
    async with site.downloader(snapshot_every=1.0) as downloader, downloader.stream() as results:
        async for _ in results:
            if not published.is_set():
                await published.wait()
                assert site.pointer["generation"] >= 1
                site.machine = "second"
                status = await read_status(site.output, site.state)
                assert sum(count.outputs for count in status.ledgers[0].counts.values()) > 0
    assert site.pointer["generation"] >= 2


async def test_run_snapshot_that_cannot_be_published_is_a_temporary_problem(site, monkeypatch):
    put = obstore.put_async

    async def fail(store, key, *args, **more):
        if key.startswith(".bulkdl/ledger-"):
            raise obstore.exceptions.GenericError("Generic S3 error: HTTP error: error sending request")
        return await put(store, key, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(obstore, "put_async", fail)
        summary = await site.run()
    assert summary.exit_code is ExitCode.TEMPORARY
    assert [problem.reason for problem in summary.problems] == [Reason.PUBLISH_FAILED]
    assert site.query("SELECT exit_code FROM runs") == [(5,)]
    assert POINTER not in site.list_keys()
    summary = await site.run()
    assert (summary.exit_code, summary.outputs(Outcome.COMPLETED)) == (ExitCode.OK, 0)
    assert site.pointer["generation"] == 1


async def test_run_another_run_published_meanwhile_ends_with_exit_code_11(site):
    async with site.downloader(lease="none") as downloader, downloader.stream() as results:
        async for _ in results:
            if POINTER not in site.list_keys():
                obstore.put(site.store, POINTER, b"another")
    assert downloader.summary.exit_code is ExitCode.LOCKED
    assert [problem.reason for problem in downloader.summary.problems] == [Reason.LEASE_LOST]
    assert site.read(POINTER) == b"another"


async def test_run_foreign_lease_is_refused_before_the_first_request(site):
    await site.run()
    lease = ".bulkdl/lease.json"
    holder = {"run_id": "a", "host": "there", "pid": 3, "since_at": "2026-01-01T00:00:00Z", "lease_s": 1}
    turn = 0

    async def renew():
        nonlocal turn
        while True:
            turn += 1
            obstore.put(site.store, lease, json.dumps({**holder, "nonce": turn}).encode())
            await asyncio.sleep(0.01)

    renewing = asyncio.ensure_future(renew())
    await asyncio.sleep(0)
    site.simulator.requests.clear()
    with pytest.raises(OutputLockedError, match="host there, pid 3"):
        await site.run()
    assert not site.simulator.requests
    renewing.cancel()
    summary = await site.run()
    assert summary.exit_code is ExitCode.OK


async def test_rebuild_from_the_bucket_ignores_a_snapshot(site):
    await site.run()
    first = site.pointer
    site.machine = "second"
    verification = await rebuild(site.verify_options())
    assert verification.findings == []
    assert (site.pointer["generation"], site.pointer["ledger_id"]) == (2, first["ledger_id"])
    shutil.rmtree(site.state)
    summary = await site.run()
    assert summary.exit_code is ExitCode.OK
