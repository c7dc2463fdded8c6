"""Errors of one path, of the disk and of the process have different reasons, and are retried if temporary."""

import errno
import os
from pathlib import Path

import pytest

from bulkdl.disk import atomic_files
from bulkdl.errors import ConfigError, DestinationError
from bulkdl.models import CommittedFile, Digest, Reason, RemoteObject, Validator
from bulkdl.os_errors import map_os_errors, map_path_errors
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.state.storage import create_storage

OUTPUT = job_output("p", "j", "t", Kind.ARCHIVE)
COMMITTED = CommittedFile("p/j/a.tar.gz", 4, Digest("crc32c", "x"), Validator('"1"'), "https://s/o")


@pytest.fixture
def storage(tmp_path):
    created = create_storage(tmp_path / "out")
    created.state.prepare()
    return created


@pytest.fixture
def no_delay(monkeypatch):
    monkeypatch.setattr(atomic_files, "OPEN_FILE_RETRY_DELAYS_S", (0, 0))


async def sizes(storage, *keys):
    return {key: info.size_bytes for key, info in (await storage.destination.stat(keys)).items()}


async def create_complete_file(storage):
    partial = storage.partial_file(OUTPUT)
    await partial.create(RemoteObject("https://s/o", Validator('"1"'), 4))
    await partial.write(b"abcd")
    await partial.flush_and_close()
    return partial


def create_folder_at_key(storage):
    (storage.destination.root / COMMITTED.key).mkdir(parents=True)


def create_file_at_parent(storage):
    (storage.destination.root / "p").mkdir()
    (storage.destination.root / "p" / "j").write_bytes(b"in the way")


@pytest.mark.parametrize("put", [create_folder_at_key, create_file_at_parent])
@pytest.mark.parametrize("form", ["part", "small", "document", "link"])
async def test_commit_to_an_occupied_path_fails_with_path_blocked(storage, put, form):
    put(storage)
    await storage.destination.write_documents({"source": b"abcd"})
    work = {
        "part": lambda partial: partial.commit(COMMITTED),
        "small": lambda _: storage.partial_file(OUTPUT).commit(COMMITTED, b"abcd"),
        "document": lambda _: storage.destination.write_documents({COMMITTED.key: b"abcd"}),
        "link": lambda _: storage.destination.copy("source", COMMITTED.key),
    }[form]
    partial = await create_complete_file(storage) if form == "part" else None
    with pytest.raises(DestinationError, match=f"{storage.destination.root}/p/j") as raised:
        await work(partial)
    assert raised.value.reason is Reason.PATH_BLOCKED
    suffixes = {path.suffix for path in storage.state.partial_folder.iterdir()}
    assert suffixes == ({".part", ".json", ".map"} if form == "part" else set())


async def test_commit_after_the_path_is_free_uses_the_existing_bytes(storage):
    create_folder_at_key(storage)
    with pytest.raises(DestinationError):
        await (await create_complete_file(storage)).commit(COMMITTED)
    (storage.destination.root / COMMITTED.key).rmdir()
    again = storage.partial_file(OUTPUT)
    assert (await again.load()).offset == 4
    await again.commit(COMMITTED)
    assert (storage.destination.root / COMMITTED.key).read_bytes() == b"abcd"


@pytest.mark.parametrize(
    ("number", "shared", "of_name"),
    [
        (errno.EACCES, Reason.DISK_ERROR, Reason.PATH_BLOCKED),
        (errno.ENOTDIR, Reason.DISK_ERROR, Reason.PATH_BLOCKED),
        (errno.ENAMETOOLONG, Reason.DISK_ERROR, Reason.PATH_BLOCKED),
        (errno.ENOSPC, Reason.DISK_FULL, Reason.DISK_FULL),
        (errno.EDQUOT, Reason.DISK_FULL, Reason.DISK_FULL),
        (errno.EROFS, Reason.DISK_ERROR, Reason.DISK_ERROR),
        (errno.EIO, Reason.DISK_ERROR, Reason.DISK_ERROR),
        (errno.EMFILE, Reason.TOO_MANY_OPEN_FILES, Reason.TOO_MANY_OPEN_FILES),
        (errno.ENFILE, Reason.TOO_MANY_OPEN_FILES, Reason.TOO_MANY_OPEN_FILES),
    ],
)
def test_mapped_reason_depends_on_the_type_of_path(number, shared, of_name):
    for translate, reason in ((map_os_errors, shared), (map_path_errors, of_name)):
        with pytest.raises(DestinationError) as raised, translate(Path("x")):
            raise OSError(number, os.strerror(number))
        assert raised.value.reason is reason


def test_map_path_errors_with_unencodable_name_is_path_blocked():
    with pytest.raises(DestinationError, match="encoding") as raised, map_path_errors(Path("m\u00fcll")):
        "m\u00fcll".encode("ascii")
    assert raised.value.reason is Reason.PATH_BLOCKED


async def test_stat_omits_paths_that_cannot_be_examined(storage, monkeypatch):
    await storage.destination.write_documents({"a": b"1", "b": b"22"})
    lstat = os.lstat

    def deny(path, **options):
        if Path(path).name == "a":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return lstat(path, **options)

    monkeypatch.setattr(os, "lstat", deny)
    assert await sizes(storage, "a", "b", "c") == {"b": 2}


@pytest.mark.usefixtures("no_delay")
@pytest.mark.parametrize(("times", "ends_well"), [(2, True), (3, False)])
@pytest.mark.parametrize("form", ["part", "document"])
async def test_too_many_open_files_is_retried_and_then_temporary(
    storage, monkeypatch, times, ends_well, form
):
    left = [OSError(errno.EMFILE, os.strerror(errno.EMFILE))] * times
    open_file = os.open

    def exhausted(*args, **more):
        if left:
            raise left.pop()
        return open_file(*args, **more)

    partial = await create_complete_file(storage) if form == "part" else None
    monkeypatch.setattr(atomic_files.os, "open", exhausted)
    work = (
        partial.commit(COMMITTED)
        if partial
        else storage.destination.write_documents({COMMITTED.key: b"abcd"})
    )
    if ends_well:
        await work
        assert (storage.destination.root / COMMITTED.key).read_bytes() == b"abcd"
    else:
        with pytest.raises(DestinationError) as raised:
            await work
        assert raised.value.reason is Reason.TOO_MANY_OPEN_FILES


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_prepare_on_a_full_disk_raises_disk_full(tmp_path, monkeypatch, number):
    def full(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(DestinationError) as raised:
        create_storage(tmp_path / "out").state.prepare()
    assert raised.value.reason is Reason.DISK_FULL


def test_prepare_without_permission_raises_config_error(tmp_path, monkeypatch):
    def deny(*_, **__):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "touch", deny)
    with pytest.raises(ConfigError):
        create_storage(tmp_path / "out").state.prepare()
