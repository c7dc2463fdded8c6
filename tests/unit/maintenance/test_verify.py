import asyncio
import json
import os
import threading
from datetime import UTC, datetime

import pytest

from bulkdl.cli.render import show_verification
from bulkdl.errors import ConfigError, OutputLockedError
from bulkdl.failure_policy import ExitCode
from bulkdl.ledger import lease
from bulkdl.maintenance import file_checks
from bulkdl.maintenance import verify as module
from bulkdl.maintenance.file_checks import digest_of
from bulkdl.maintenance.verify import verify
from bulkdl.models import CommittedFile, RemoteObject, Validator
from bulkdl.report.models import MAX_LISTED
from bulkdl.report.verification import FileState, Finding, Verification
from bulkdl.sources.up42_jobs.models import Kind
from bulkdl.state.storage import create_storage
from support.hand_made_ledger import (
    J1,
    J2,
    P1,
    T1,
    Folder,
    a_job,
    archive,
    crc32c,
    done,
    failed,
    md5,
    quicklook,
)

KEY = f"{P1}/{J1}/final_output.tar.gz"


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


class RecordingProgress:
    def __init__(self):
        self.total = None
        self.files = 0

    def start(self, files, size_bytes):
        self.total = files, size_bytes

    def advance(self, files, _size_bytes):
        self.files += files


def file_states(verification):
    return {finding.key: finding.state for finding in verification.findings}


async def test_verify_with_matching_files_exits_with_0(folder):
    folder.put(KEY, b"archive")
    await folder.record(done(archive(), KEY, b"archive"))
    found = await verify(folder.options(deep=True))
    assert (found.exit_code, found.findings, found.untracked) == (ExitCode.OK, [], [])
    assert found.counts[Kind.ARCHIVE, FileState.OK].size_bytes == 7


@pytest.mark.parametrize("digest", [crc32c, md5])
@pytest.mark.parametrize(
    ("there", "quick", "deep"),
    [
        (b"archive", FileState.OK, FileState.OK),
        (b"archivE", FileState.OK, FileState.WRONG_DIGEST),
        (b"archive.", FileState.WRONG_SIZE, FileState.WRONG_SIZE),
        (b"", FileState.WRONG_SIZE, FileState.WRONG_SIZE),
        (None, FileState.MISSING, FileState.MISSING),
    ],
)
async def test_verify_returns_the_state_of_a_file(folder, there, quick, deep, digest):
    if there is not None:
        folder.put(KEY, there)
    await folder.record(done(archive(), KEY, b"archive", digest))
    for is_deep, expected in ((False, quick), (True, deep)):
        found = await verify(folder.options(deep=is_deep))
        assert list(found.counts) == [(Kind.ARCHIVE, expected)]
        assert found.exit_code == (ExitCode.OK if expected is FileState.OK else ExitCode.INTEGRITY)


@pytest.mark.parametrize("kind", ["folder", "link", "file above"])
async def test_verify_of_a_path_that_is_not_a_regular_file_reports_missing(folder, kind):
    path = folder.root / KEY
    if kind == "folder":
        path.mkdir(parents=True)
    elif kind == "link":
        path.parent.mkdir(parents=True)
        path.symlink_to(folder.put("elsewhere", b"archive"))
    else:
        folder.put(f"{P1}/{J1}")
    await folder.record(done(archive(), KEY, b"archive"))
    assert file_states(await verify(folder.options(deep=True))) == {KEY: FileState.MISSING}


async def test_verify_ignores_failed_and_planned_outputs(folder):
    await folder.record(failed(archive()))
    assert (await verify(folder.options(deep=True))).exit_code is ExitCode.OK


async def test_verify_reads_hard_linked_files_once(folder, monkeypatch):
    task_key = f"{P1}/{J1}/{T1}/task_output.tar.gz"
    path = folder.put(task_key, b"archive")
    os.link(path, folder.root / KEY)
    await folder.record(done(archive(task_id=T1), task_key, b"archive"), done(archive(), KEY, b"archive"))
    read = []
    monkeypatch.setattr(file_checks, "digest_of", lambda *args: read.append(args[0]) or digest_of(*args))
    found = await verify(folder.options(deep=True))
    assert (len(read), found.counts[Kind.ARCHIVE, FileState.OK].outputs) == (1, 2)


async def test_verify_of_many_rows_counts_each_row_once(folder):
    keys = [f"{P1}/{J1}/{T1}/quicklooks/{number}.jpg" for number in range(1203)]
    for key in keys:
        folder.put(key, b"x")
    (folder.root / keys[700]).unlink()
    await folder.record(*(done(quicklook(key), key, b"x") for key in keys))
    progress = RecordingProgress()
    found = await verify(folder.options(), progress)
    assert found.counts[Kind.QUICKLOOK, FileState.OK].outputs == 1202
    assert file_states(found) == {keys[700]: FileState.MISSING}
    assert progress.total == (1203, 1203)
    assert (progress.files, found.untracked_total) == (1203, 0)


async def test_verify_lists_untracked_files_and_exits_with_0(folder):
    folder.put(KEY, b"archive")
    old = "old/names/archive.tar.gz"
    folder.put(old, b"archive")
    await folder.record(done(archive(), KEY, b"archive"))
    await folder.record(done(archive(T1), old, b"archive"), job=a_job(T1))
    for document in ("job.json", "job_tasks.json", f"{T1}/task_quicklook.json"):
        folder.put(f"{P1}/{J1}/{document}")
    folder.put("shard-0/.bulkdl/ledger.sqlite3")
    folder.put(f"shard-0/{P1}/{J2}/job.json")
    untracked = ["notes.txt", f"{P1}/{J2}/job.json", f"{P1}/{J1}/final_output.zip", f"{P1}/{J1}/x/.bulkdl/y"]
    for key in untracked:
        folder.put(key)
    found = await verify(folder.options())
    assert sorted(found.untracked) == sorted(untracked)
    assert (found.untracked_total, found.exit_code) == (4, ExitCode.OK)


async def test_verify_with_repair_marks_only_files_that_do_not_match(folder):
    good, missing, short = (f"{P1}/{J1}/{name}" for name in ("a.zip", "b.zip", "c.zip"))
    folder.put(good, b"good")
    folder.put(short, b"sho")
    results = [
        done(quicklook(key), key, data) for key, data in [(good, b"good"), (missing, b"g"), (short, b"short")]
    ]
    await folder.record(*results)
    found = await verify(folder.options(repair=True))
    assert (found.repaired, found.exit_code) == (2, ExitCode.INTEGRITY)
    assert await folder.rows() == {
        good: ("completed", "downloaded", None),
        missing: ("planned", None, "verify: missing: not found"),
        short: ("planned", None, "verify: wrong_size: 3 bytes instead of 5"),
    }
    assert (await verify(folder.options(repair=True))).exit_code is ExitCode.OK


async def test_verify_without_repair_does_not_write(folder):
    await folder.record(done(archive(), KEY, b"archive"))
    before = await folder.rows()
    assert (await verify(folder.options())).repaired == 0
    assert await folder.rows() == before


async def test_verify_with_repair_does_not_mark_an_unreadable_file(folder, monkeypatch):
    def fail(*_args):
        raise OSError(5, "Input/output error")

    folder.put(KEY, b"archive")
    await folder.record(done(archive(), KEY, b"archive"))
    monkeypatch.setattr(file_checks, "digest_of", fail)
    found = await verify(folder.options(deep=True, repair=True))
    assert (file_states(found), found.repaired) == ({KEY: FileState.UNREADABLE}, 0)
    assert (await folder.rows())[KEY][0] == "completed"


async def test_verify_with_repair_discards_a_committed_partial_file(folder):
    """A committed partial file without a ledger row is adopted, so the damaged file would be recorded."""
    folder.put(KEY, b"archivE")
    result = done(archive(), KEY, b"archive")
    await folder.record(result)
    storage = create_storage(folder.root)
    storage.state.prepare()
    partial_file = storage.partial_file(archive())
    await partial_file.create(RemoteObject(None, Validator(), 7))
    await partial_file.write(b"archive")
    await partial_file.commit(result.file)
    folder.put(KEY, b"archivE")
    assert isinstance(await partial_file.load(), CommittedFile), "precondition"
    await verify(folder.options(deep=True, repair=True))
    assert await storage.partial_file(archive()).load() is None


async def hold(folder):
    owner = lease.Owner.current("other")
    now = datetime.now(UTC)
    await folder.write(lambda connection: lease.acquire(connection, owner, str(folder.root), now))


async def test_verify_during_a_run_rejects_only_repair(folder):
    await folder.record(done(archive(), KEY, b"archive"))
    await hold(folder)
    with pytest.raises(OutputLockedError):
        await verify(folder.options(repair=True))
    assert (await folder.rows())[KEY][0] == "completed"
    assert file_states(await verify(folder.options())) == {KEY: FileState.MISSING}


async def leases(folder):
    return await folder.read(
        lambda connection: connection.execute("SELECT count(*) FROM lease").fetchone()[0]
    )


async def test_verify_with_repair_releases_the_lease_on_cancellation(folder, monkeypatch):
    await folder.record(done(archive(), KEY, b"archive"))
    await verify(folder.options(repair=True))
    assert await leases(folder) == 0
    await folder.record(done(archive(J2), KEY, b"archive"), job=a_job(J2))
    reached, stop = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait_for_stop(*_args, **_options):
        loop.call_soon_threadsafe(reached.set)
        assert stop.wait(30)
        return []

    monkeypatch.setattr(module, "check_files", wait_for_stop)
    task = asyncio.create_task(verify(folder.options(repair=True), stop=stop))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stop.is_set()
    assert await leases(folder) == 0


def test_digest_of_after_a_stop_reads_no_data(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(b"x" * (3 << 20))
    stop = threading.Event()
    stop.set()
    with path.open("rb") as stream:
        assert digest_of(stream, crc32c(b"other"), stop) == crc32c(b"")


async def test_verify_without_a_ledger_raises_config_error(folder):
    with pytest.raises(ConfigError, match="contains no ledger"):
        await verify(folder.options())
    assert list(folder.root.iterdir()) == []


def test_verification_limits_the_listed_findings():
    found = Verification("out", "quick")
    for number in range(MAX_LISTED + 5):
        found.add_finding(Finding(str(number), FileState.MISSING, ""))
        found.add_untracked([str(number)])
    assert (len(found.findings), found.findings_total) == (MAX_LISTED, MAX_LISTED + 5)
    assert (len(found.untracked), found.untracked_total) == (MAX_LISTED, MAX_LISTED + 5)


UNDECODABLE = os.fsdecode(b"caf\xe9\n.txt")


@pytest.mark.parametrize("deep", [False, True])
async def test_verify_lists_an_untracked_file_whose_name_is_not_utf8(folder, deep, capsys):
    folder.put(KEY, b"archive")
    folder.put(UNDECODABLE)
    folder.put(f"{P1}/{J1}/{T1}/quicklooks/{UNDECODABLE}")
    await folder.record(done(archive(), KEY, b"archive"))
    found = await verify(folder.options(deep=deep))
    assert (found.exit_code, found.untracked_total) == (ExitCode.OK, 2)
    show_verification(found)
    assert "untracked: caf\\xe9\\n.txt\n" in capsys.readouterr().out
    show_verification(found, "json")
    untracked = json.loads(capsys.readouterr().out)["untracked"]
    assert untracked[0] == "caf\\xe9\n.txt"


async def test_verify_of_a_directory_whose_name_is_not_utf8(tmp_path, capsys):
    folder = Folder(tmp_path / UNDECODABLE)
    await folder.record(done(archive(), KEY, b"archive"))
    found = await verify(folder.options())
    for result_format in ("table", "json"):
        show_verification(found, result_format)
        assert "caf\\xe9" in capsys.readouterr().out.replace("\\\\", "\\")
