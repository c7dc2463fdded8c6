import asyncio
import os
import shutil
import socket
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
from pydantic import SecretStr

from bulkdl import Downloader, Selection, Settings
from bulkdl.destinations.local.state_directory import LEDGER_NAME
from bulkdl.errors import ConfigError, DestinationError, LedgerVersionError, OutputLockedError
from bulkdl.failure_policy import ExitCode
from bulkdl.ledger import lease, maintenance_queries
from bulkdl.maintenance import rebuild as module
from bulkdl.maintenance.rebuild import rebuild
from bulkdl.maintenance.verify import VerifyOptions, verify
from bulkdl.models import Kind, Outcome, Reason
from bulkdl.report.verification import FileState
from bulkdl.settings import CredentialSet
from bulkdl.simulator import SimulatedAccount, Simulator
from support.hand_made_ledger import Folder, archive, done

SCATTERED = {
    "job": "meta/{project_id}-{job_id}.json",
    "job_archive": "archives/{job_id}{suffix}",
    "quicklook": "pictures/{job_id}/{task_id}/{filename}",
}


class Site(Folder):
    """An output directory that a run has filled from a simulator."""

    def __init__(self, root, simulator, **more):
        super().__init__(root)
        self.settings = Settings(output=root, api_url=simulator.api_url, **more)
        keys = {project.id: SecretStr(project.api_key) for project in simulator.projects}
        self.credentials = CredentialSet(by_project=keys, project_ids=tuple(keys))

    async def run(self, **selection):
        async with Downloader(self.settings, credentials=self.credentials) as downloader:
            return await downloader.run(Selection(**selection))

    def options(self, **how):
        return VerifyOptions(self.root, self.settings.path_templates, **how)

    @property
    def path(self):
        return self.root / ".bulkdl" / "ledger.sqlite3"

    def files(self, pattern):
        return sorted(path for path in self.root.glob(pattern) if ".bulkdl" not in path.parts)


@pytest.fixture
async def simulator():
    async with Simulator(SimulatedAccount(seed=3, projects=2, jobs=8)) as running:
        yield running


@pytest.fixture
async def site(tmp_path, simulator):
    filled = Site(tmp_path, simulator)
    assert (await filled.run()).exit_code is ExitCode.OK
    return filled


async def read_completed(site):
    query = (
        "SELECT project_id, job_id, task_id, kind, outputs.name, filename, key, size_bytes, digest"
        " FROM outputs JOIN jobs ON jobs.id = outputs.job WHERE state = 'completed'"
    )
    return await site.read(lambda connection: sorted(map(tuple, connection.execute(query))))


async def run_downloads_nothing(site, simulator):
    request_count = len(simulator.requests)
    summary = await site.run()
    requested = [call.path for call in list(simulator.requests)[request_count:]]
    assert (summary.downloaded_bytes, summary.outputs(Outcome.COMPLETED), summary.exit_code) == (
        0,
        0,
        ExitCode.OK,
    )
    return requested


async def test_rebuild_of_a_lost_ledger_lets_the_next_run_download_nothing(site, simulator):
    before = await read_completed(site)
    shutil.rmtree(site.root / ".bulkdl")
    found = await rebuild(site.options())
    assert (found.exit_code, found.findings, found.untracked, found.damaged_ledger) == (
        ExitCode.OK,
        [],
        [],
        None,
    )
    assert await read_completed(site) == before
    assert (await verify(site.options(deep=True))).exit_code is ExitCode.OK
    requested = await run_downloads_nothing(site, simulator)
    assert not any("/downloads/" in path or path.endswith(".tgz") for path in requested)


async def test_rebuild_with_custom_path_templates_restores_all_outputs(tmp_path, simulator):
    site = Site(tmp_path, simulator, path_templates=SCATTERED)
    await site.run()
    before = await read_completed(site)
    shutil.rmtree(site.root / ".bulkdl")
    assert (await rebuild(site.options())).exit_code is ExitCode.OK
    assert await read_completed(site) == before
    await run_downloads_nothing(site, simulator)


async def test_rebuild_with_damaged_files_reports_them_and_run_downloads_them(site):
    archive = site.files("*/*/*/task_output.*")[0]
    document = site.files("*/*/job_output.json")[0]
    quicklook = site.files("*/*/*/quicklooks/*")[0]
    contents = {path: path.read_bytes() for path in (archive, document, quicklook)}
    data = contents[archive]
    archive.unlink()  # the job's archive, which may be a hard link, stays complete
    archive.write_bytes(data[: len(data) // 2])
    document.write_bytes(b'{"type": "FeatureColl')
    quicklook.write_bytes(b"<html>proxy</html>")
    shutil.rmtree(site.root / ".bulkdl")
    found = await rebuild(site.options())
    keys = {path.relative_to(site.root).as_posix() for path in contents}
    assert {finding.key for finding in found.findings} == keys
    assert {finding.state for finding in found.findings} == {FileState.DAMAGED}
    assert found.exit_code is ExitCode.INTEGRITY
    summary = await site.run()
    assert summary.outputs(Outcome.COMPLETED) == 3
    assert {path: path.read_bytes() for path in contents} == contents


async def test_rebuild_of_an_archive_with_a_wrong_suffix_reports_damage(site):
    archive = site.files("*/*/final_output.tar.gz")[0]
    archive.rename(archive.with_name("final_output.zip"))
    shutil.rmtree(site.root / ".bulkdl")
    (finding,) = (await rebuild(site.options())).findings
    assert (finding.state, finding.detail) == (
        FileState.DAMAGED,
        "unexpected content: the file is a .tar.gz archive",
    )


@pytest.mark.parametrize(
    ("name", "data"),
    [("job.json", b"{"), ("job_tasks.json", b"[]"), ("job_tasks.json", None), ("job.json", b'{"data": {}}')],
)
async def test_rebuild_with_an_invalid_document_records_the_other_jobs(site, name, data):
    path = site.files(f"*/*/{name}")[0]
    path.unlink() if data is None else path.write_bytes(data)
    shutil.rmtree(site.root / ".bulkdl")
    found = await rebuild(site.options())
    assert (found.jobs, found.findings_total, found.exit_code) == (7, 1, ExitCode.INTEGRITY)
    assert path.name in found.findings[0].detail
    assert (await site.run()).exit_code is ExitCode.OK


async def test_rebuild_of_a_ledger_with_jobs_is_rejected(site):
    before = await read_completed(site)
    with pytest.raises(ConfigError, match="a ledger that contains jobs"):
        await rebuild(site.options())
    assert await read_completed(site) == before
    shutil.rmtree(site.root / ".bulkdl")
    await rebuild(site.options())
    with pytest.raises(ConfigError, match="a ledger that contains jobs"):
        await rebuild(site.options())


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


@pytest.mark.parametrize("name", ["job.json", "job_tasks.json", "task_quicklook.json"])
@pytest.mark.parametrize("kind", ["fifo", "socket"])
async def test_rebuild_reports_a_document_that_is_not_a_regular_file(site, name, kind, monkeypatch):
    document = min(path for path in site.root.rglob(name) if ".bulkdl" not in path.parts)
    document.unlink()
    if kind == "fifo":
        os.mkfifo(document)
    else:
        monkeypatch.chdir(document.parent)  # the path of a socket must be short
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(name)
        listener.close()
    shutil.rmtree(site.root / ".bulkdl")
    async with asyncio.timeout(30):
        found = await rebuild(site.options())
    assert (found.jobs, found.findings_total, found.exit_code) == (7, 1, ExitCode.INTEGRITY)
    assert found.findings[0].detail == f"{document.relative_to(site.root)}: not a regular file"


async def test_rebuild_reports_an_output_that_is_not_a_regular_file(site):
    output = site.files("*/*/job_output.json")[0]
    output.unlink()
    os.mkfifo(output)
    shutil.rmtree(site.root / ".bulkdl")
    async with asyncio.timeout(30):
        (finding,) = (await rebuild(site.options())).findings
    assert (finding.key, finding.detail) == (output.relative_to(site.root).as_posix(), "not a regular file")


async def test_rebuild_follows_the_links_that_run_followed(tmp_path, simulator):
    root, disk = tmp_path / "out", tmp_path / "disk"
    root.mkdir()
    disk.mkdir()
    (root / simulator.projects[0].id).symlink_to(disk)
    site = Site(root, simulator)
    await site.run()
    assert list(disk.iterdir())
    before = await read_completed(site)
    shutil.rmtree(root / ".bulkdl")
    (disk / "loop").symlink_to(root)
    (root / "loop").symlink_to(root)
    assert (await rebuild(site.options())).exit_code is ExitCode.OK
    assert await read_completed(site) == before
    await run_downloads_nothing(site, simulator)


async def test_rebuild_of_a_newer_ledger_is_rejected(site):
    connection = sqlite3.connect(site.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LedgerVersionError):
        await rebuild(site.options())
    assert site.path.exists()


async def test_rebuild_during_a_run_is_rejected(site):
    shutil.rmtree(site.root / ".bulkdl")
    owner = lease.Owner.current("other")
    acquire = partial(lease.acquire, owner=owner, path="x", now=datetime.now(UTC))
    await site.write(acquire)
    with pytest.raises(OutputLockedError):
        await rebuild(site.options())


async def test_rebuild_after_an_interruption_resumes(site, simulator, monkeypatch):
    before = await read_completed(site)
    shutil.rmtree(site.root / ".bulkdl")
    write, written = module._write, []

    def fail_at_third_job(connection, job, run_id):
        if len(written) == 2:
            raise KeyError("power cut")
        written.append(job.listing.job.id)
        write(connection, job, run_id)

    monkeypatch.setattr(module, "_write", fail_at_third_job)
    with pytest.raises(KeyError):
        await rebuild(site.options(workers=1))
    monkeypatch.undo()
    assert (await rebuild(site.options())).jobs == 6
    assert await read_completed(site) == before
    await run_downloads_nothing(site, simulator)


async def test_rebuild_after_an_interruption_and_a_run_is_rejected(site):
    await site.write(
        lambda connection: connection.execute(
            "INSERT INTO runs (run_id, started_at) VALUES ('rebuild-1', '')"
        )
    )
    with pytest.raises(ConfigError, match="a ledger that contains jobs"):
        await rebuild(site.options())


async def test_rebuild_leaves_no_last_run(site):
    """Otherwise ``--since last`` would skip all missing outputs."""
    shutil.rmtree(site.root / ".bulkdl")
    await rebuild(site.options())
    assert await site.read(lambda c: c.execute("SELECT count(*) FROM runs").fetchone()[0]) == 0
    assert await site.read(lease.read_lease) is None


@pytest.mark.parametrize("is_list_missing", [False, True])
async def test_rebuild_without_a_file_lets_the_next_run_download_it(site, is_list_missing):
    quicklook = site.files("*/*/*/quicklooks/*")[0]
    quicklook.unlink()
    if is_list_missing:
        (quicklook.parent.parent / "task_quicklook.json").unlink()
    shutil.rmtree(site.root / ".bulkdl")
    assert (await rebuild(site.options())).exit_code is ExitCode.OK
    summary = await site.run()
    assert {kind for kind, outcome, _ in summary.counts if outcome is Outcome.COMPLETED} == {Kind.QUICKLOOK}
    assert quicklook.exists()


async def test_rebuild_of_a_folder_without_jobs_is_rejected(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"contains no .*job\.json"):
        await rebuild(Folder(tmp_path).options())
    with pytest.raises(ConfigError, match="is not a directory"):
        await rebuild(Folder(tmp_path / "typo").options())
    assert not (tmp_path / "typo").exists()
