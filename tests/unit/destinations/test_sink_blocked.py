"""Errors of one path, of the whole disk, and of the process: told apart, and repeated where that helps."""

import errno
import os
from pathlib import Path

import pytest

from bulkdl.destinations.local import atomic_files
from bulkdl.destinations.local.atomic_files import map_os_errors, map_path_errors
from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.errors import ConfigError, DestinationError
from bulkdl.models import CommittedFile, Digest, Kind, Output, Reason, RemoteObject, Validator

OUTPUT = Output("p", "j", "t", Kind.ARCHIVE)
RECEIPT = CommittedFile("p/j/a.tar.gz", 4, Digest("crc32c", "x"), Validator('"1"'), "https://s/o")


@pytest.fixture
def sink(tmp_path):
    made = LocalDestination(tmp_path / "out")
    made.prepare()
    yield made
    made.close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(atomic_files, "OPEN_FILE_RETRY_DELAYS_S", (0, 0))


async def written_part(sink):
    part = sink.partial_file(OUTPUT)
    await part.create(RemoteObject("https://s/o", Validator('"1"'), 4))
    await part.write(b"abcd")
    await part.flush_and_close()
    return part


def put_folder(sink):
    (sink.root / RECEIPT.key).mkdir(parents=True)


def put_file(sink):
    (sink.root / "p").mkdir()
    (sink.root / "p" / "j").write_bytes(b"in the way")


@pytest.mark.parametrize("put", [put_folder, put_file])
@pytest.mark.parametrize("form", ["part", "small", "document", "link"])
async def test_path_in_the_way_fails_with_path_blocked(sink, put, form):
    put(sink)
    await sink.publish({"source": b"abcd"})
    work = {
        "part": lambda part: part.commit(RECEIPT),
        "small": lambda _: sink.partial_file(OUTPUT).commit(RECEIPT, b"abcd"),
        "document": lambda _: sink.publish({RECEIPT.key: b"abcd"}),
        "link": lambda _: sink.link("source", RECEIPT.key),
    }[form]
    part = await written_part(sink) if form == "part" else None
    with pytest.raises(DestinationError, match=f"{sink.root}/p/j") as raised:
        await work(part)
    assert raised.value.reason is Reason.PATH_BLOCKED
    left = {path.suffix for path in sink.state.partial_folder.iterdir()}
    assert left == ({".part", ".json"} if form == "part" else set())


async def test_commit_after_the_path_is_free_again_uses_the_bytes_that_are_there(sink):
    put_folder(sink)
    with pytest.raises(DestinationError):
        await (await written_part(sink)).commit(RECEIPT)
    (sink.root / RECEIPT.key).rmdir()
    again = sink.partial_file(OUTPUT)
    assert (await again.load()).offset == 4
    await again.commit(RECEIPT)
    assert (sink.root / RECEIPT.key).read_bytes() == b"abcd"


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
def test_translated_reason_depends_on_what_the_path_is(number, shared, of_name):
    for translate, reason in ((map_os_errors, shared), (map_path_errors, of_name)):
        with pytest.raises(DestinationError) as raised, translate(Path("x")):
            raise OSError(number, os.strerror(number))
        assert raised.value.reason is reason


def test_map_path_errors_that_cannot_be_encoded_is_path_blocked():
    with pytest.raises(DestinationError, match="encoding") as raised, map_path_errors(Path("m\u00fcll")):
        "m\u00fcll".encode("ascii")
    assert raised.value.reason is Reason.PATH_BLOCKED


async def test_find_sizes_leaves_out_what_cannot_be_examined(sink, monkeypatch):
    await sink.publish({"a": b"1", "b": b"22"})
    lstat = Path.lstat

    def refused(path):
        if path.name == "a":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", refused)
    assert await sink.find_sizes(["a", "b", "c"]) == {"b": 2}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("times", "ends_well"), [(2, True), (3, False)])
@pytest.mark.parametrize("form", ["part", "document"])
async def test_too_many_open_files_is_repeated_and_then_temporary(sink, monkeypatch, times, ends_well, form):
    left = [OSError(errno.EMFILE, os.strerror(errno.EMFILE))] * times
    open_file = os.open

    def exhausted(*args, **more):
        if left:
            raise left.pop()
        return open_file(*args, **more)

    part = await written_part(sink) if form == "part" else None
    monkeypatch.setattr(atomic_files.os, "open", exhausted)
    work = part.commit(RECEIPT) if part else sink.publish({RECEIPT.key: b"abcd"})
    if ends_well:
        await work
        assert (sink.root / RECEIPT.key).read_bytes() == b"abcd"
    else:
        with pytest.raises(DestinationError) as raised:
            await work
        assert raised.value.reason is Reason.TOO_MANY_OPEN_FILES


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_prepare_on_a_full_disk_is_disk_full(tmp_path, monkeypatch, number):
    def full(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(DestinationError) as raised:
        LocalDestination(tmp_path / "out").prepare()
    assert raised.value.reason is Reason.DISK_FULL


def test_prepare_without_permission_stays_a_usage_error(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "touch", refused)
    with pytest.raises(ConfigError):
        LocalDestination(tmp_path / "out").prepare()
