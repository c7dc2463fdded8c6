import asyncio
import os
import shutil
import socket
import sqlite3
from datetime import UTC, datetime
from functools import partial

import pytest

from bulkdl.errors import ConfigError, LedgerVersionError, OutputLockedError
from bulkdl.failure_policy import ExitCode
from bulkdl.ledger import lease
from bulkdl.maintenance import rebuild as module
from bulkdl.maintenance.rebuild import rebuild
from bulkdl.maintenance.verify import verify
from bulkdl.models import Outcome
from bulkdl.report.verification import FileState
from bulkdl.sources.up42_jobs.models import Kind
from support.downloaded_directory import DownloadedDirectory, read_completed, run_downloads_nothing
from support.hand_made_ledger import Folder

SCATTERED = {
    "job": "meta/{project_id}-{job_id}.json",
    "job_archive": "archives/{job_id}{suffix}",
    "quicklook": "pictures/{job_id}/{task_id}/{filename}",
}


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
    site = DownloadedDirectory(tmp_path, simulator, path_templates=SCATTERED)
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
    assert (found.containers["jobs"], found.findings_total, found.exit_code) == (7, 1, ExitCode.INTEGRITY)
    assert path.name in found.findings[0].detail
    assert (await site.run()).exit_code is ExitCode.OK


async def test_rebuild_of_a_ledger_with_jobs_is_rejected(site):
    before = await read_completed(site)
    with pytest.raises(ConfigError, match="a ledger that is not empty"):
        await rebuild(site.options())
    assert await read_completed(site) == before
    shutil.rmtree(site.root / ".bulkdl")
    await rebuild(site.options())
    with pytest.raises(ConfigError, match="a ledger that is not empty"):
        await rebuild(site.options())


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
    assert (found.containers["jobs"], found.findings_total, found.exit_code) == (7, 1, ExitCode.INTEGRITY)
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
    site = DownloadedDirectory(root, simulator)
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

    def fail_at_third_job(connection, rebuilt, run_id):
        if len(written) == 2:
            raise KeyError("power cut")
        written.append(rebuilt.listing.container.ref.id)
        write(connection, rebuilt, run_id)

    monkeypatch.setattr(module, "_write", fail_at_third_job)
    with pytest.raises(KeyError):
        await rebuild(site.options(workers=1))
    monkeypatch.undo()
    assert (await rebuild(site.options())).containers == {"jobs": 6}
    assert await read_completed(site) == before
    await run_downloads_nothing(site, simulator)


async def test_rebuild_after_an_interruption_and_a_run_is_rejected(site):
    await site.write(
        lambda connection: connection.execute(
            "INSERT INTO runs (run_id, started_at) VALUES ('rebuild-1', '')"
        )
    )
    with pytest.raises(ConfigError, match="a ledger that is not empty"):
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
