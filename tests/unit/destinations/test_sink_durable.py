"""Publishing, linking, and what the operating system says about it."""

import ctypes
import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from bulkdl.destinations.local import atomic_files
from bulkdl.destinations.local.atomic_files import map_os_errors
from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.destinations.local.disk_space import HEADROOM_BYTES
from bulkdl.errors import ConfigError, DestinationError
from bulkdl.models import Reason


@pytest.fixture
def sink(tmp_path):
    made = LocalDestination(tmp_path / "out")
    made.prepare()
    return made


def parts(sink):
    return [path.name for path in sink.state.partial_folder.iterdir()]


@pytest.fixture
def synced(monkeypatch):
    """Names of what was fsynced and renamed, in order."""
    seen = []
    fsync, replace = os.fsync, Path.replace

    def noting_fsync(handle):
        seen.append(("fsync", Path(f"/proc/self/fd/{handle}").readlink().name))
        fsync(handle)

    def noting_replace(path, target):
        replace(path, target)
        seen.append(("replace", target.name))

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(Path, "replace", noting_replace)
    return seen


def test_a_name_is_given_to_synced_bytes_and_is_synced_itself(tmp_path, synced):
    atomic_files.write_file(tmp_path / "aside", b"bytes")
    atomic_files.publish(tmp_path / "aside", tmp_path / "deep" / "er" / "final")
    assert synced == [
        ("fsync", "aside"),
        ("fsync", tmp_path.name),
        ("fsync", "deep"),
        ("replace", "final"),
        ("fsync", "er"),
    ]
    assert (tmp_path / "deep" / "er" / "final").read_bytes() == b"bytes"


def test_sync_file_makes_the_content_durable_and_keeps_it(tmp_path, synced):
    (tmp_path / "data").write_bytes(b"content")
    atomic_files.sync_file(tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == b"content"
    assert synced == [("fsync", "data")]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_allocate_without_support_of_the_file_system_writes_nothing(tmp_path, monkeypatch, number):
    def unsupported(*_):
        ctypes.set_errno(number)
        return -1

    def emulated(*_):
        pytest.fail("posix_fallocate writes the whole length where the file system cannot allocate")

    monkeypatch.setattr(atomic_files, "_fallocate", unsupported, raising=False)
    monkeypatch.setattr(os, "posix_fallocate", emulated)
    (tmp_path / "data").touch()
    atomic_files.allocate(tmp_path / "data", 1 << 40)
    entry = (tmp_path / "data").stat()
    assert (entry.st_size, entry.st_blocks) == (1 << 40, 0)


def test_allocate_takes_the_disk_space_where_the_file_system_can(tmp_path):
    (tmp_path / "data").touch()
    atomic_files.allocate(tmp_path / "data", 3 << 20)
    assert (tmp_path / "data").stat().st_size == 3 << 20


def test_allocate_on_a_full_disk_fails(tmp_path, monkeypatch):
    answers = [errno.EINTR, errno.ENOSPC]

    def full(*_):
        ctypes.set_errno(answers.pop(0))
        return -1

    monkeypatch.setattr(atomic_files, "_fallocate", full, raising=False)
    (tmp_path / "data").touch()
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        atomic_files.allocate(tmp_path / "data", 1 << 20)
    assert answers == []


async def test_documents_replace_older_ones_and_leave_nothing_aside(sink):
    await sink.publish({"p/j/job.json": b"old", "p/j/job_tasks.json": b"{}"})
    await sink.publish({"p/j/job.json": b"new"})
    assert (sink.root / "p/j/job.json").read_bytes() == b"new"
    assert sink.sizes(["p/j/job.json", "p/j/job_tasks.json", "p/none"]) == {
        "p/j/job.json": 3,
        "p/j/job_tasks.json": 2,
    }
    assert parts(sink) == []


async def test_a_link_is_the_same_file(sink):
    await sink.publish({"a": b"bytes"})
    await sink.link("a", "deep/b")
    assert (sink.root / "a").samefile(sink.root / "deep/b")
    await sink.link("a", "deep/b")
    await sink.link("a", "a")
    assert (sink.root / "a").read_bytes() == b"bytes"
    assert parts(sink) == []


async def test_where_links_are_refused_a_copy_is_made(sink, monkeypatch, synced):
    def refused(*_, **__):
        raise OSError(errno.EPERM, "links are refused")

    await sink.publish({"a": b"bytes", "b": b"older"})
    synced.clear()
    monkeypatch.setattr(os, "link", refused)
    await sink.link("a", "b")
    assert (sink.root / "b").read_bytes() == b"bytes"
    assert not (sink.root / "a").samefile(sink.root / "b")
    assert [what for what, _ in synced] == ["fsync", "replace"]  # the folder is synced before it is recorded
    assert parts(sink) == []


async def test_a_copy_that_fails_leaves_nothing(sink, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EPERM, "no")

    def full(source, target, copied):
        target.write_bytes(b"by")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    await sink.publish({"a": b"bytes"})
    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(atomic_files, "copy_file", full)
    with pytest.raises(DestinationError) as raised:
        await sink.link("a", "b")
    assert raised.value.reason is Reason.DISK_FULL
    assert sink.sizes(["b"]) == {}
    assert parts(sink) == []


async def test_link_by_copy_reserves_disk_space(sink, monkeypatch):
    """As much as other transfers have reserved, and the headroom, stays free."""

    def refused(*_, **__):
        raise OSError(errno.EPERM, "no")

    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - shaped like shutil's
    seen = []
    copy_file = atomic_files.copy_file

    def seeing(source, target, copied):
        seen.append(sink.state.reservations.reserved_bytes)
        copy_file(source, target, copied)
        seen.append(sink.state.reservations.reserved_bytes)

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(atomic_files, "copy_file", seeing)
    await sink.publish({"a": bytes(5000)})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 0, HEADROOM_BYTES + 4999))
    with pytest.raises(DestinationError) as raised:
        await sink.link("a", "b")
    assert raised.value.reason is Reason.DISK_FULL
    assert seen == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 0, HEADROOM_BYTES + 5000))
    await sink.link("a", "b")
    assert seen == [5000, 0]
    assert sink.state.reservations.reserved_bytes == 0
    assert sink.sizes(["b"]) == {"b": 5000}
    assert parts(sink) == []


def test_prepare_accepts_that_another_run_sweeps_its_probe(tmp_path, monkeypatch):
    touch = Path.touch

    def swept(path, *args, **more):
        touch(path, *args, **more)
        path.unlink()

    monkeypatch.setattr(Path, "touch", swept)
    LocalDestination(tmp_path / "out").prepare()


@pytest.mark.parametrize(
    "key", ["/etc/passwd", "../up", "a/../../up", "a/..", "..", "", ".", "nul\0byte", "//double"]
)
def test_a_key_cannot_leave_the_root(sink, key):
    with pytest.raises(ValueError, match="invalid key"):
        sink.locate(key)


def test_a_key_lies_below_the_root(sink):
    assert sink.locate("p/j/final_output.tar.gz") == sink.root / "p/j/final_output.tar.gz"


def test_only_regular_files_have_a_size(sink):
    (sink.root / "folder").mkdir()
    (sink.root / "link").symlink_to(sink.root / "nowhere")
    (sink.root / "file").write_bytes(b"1234")
    assert sink.sizes(["folder", "link", "file", "file/below"]) == {"file": 4}


def test_a_folder_that_may_not_be_read_is_no_crash(sink, monkeypatch):
    def refused(_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "lstat", refused)
    with pytest.raises(DestinationError) as raised:
        sink.sizes(["a"])
    assert raised.value.reason is Reason.PATH_BLOCKED


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, Reason.DISK_FULL),
        (errno.EDQUOT, Reason.DISK_FULL),
        (errno.EROFS, Reason.DISK_ERROR),
        (errno.EACCES, Reason.DISK_ERROR),
        (errno.EIO, Reason.DISK_ERROR),
        (errno.ENOENT, Reason.DISK_ERROR),
        (errno.ENOTDIR, Reason.DISK_ERROR),
    ],
)
def test_what_the_system_says_becomes_a_reason_and_names_the_path(tmp_path, number, reason):
    with pytest.raises(DestinationError, match=str(tmp_path)) as raised, map_os_errors(tmp_path):
        raise OSError(number, os.strerror(number))
    assert raised.value.reason is reason
    assert os.strerror(number) in raised.value.detail
    assert raised.value.__cause__ is None


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(ConfigError, match=f"--output {tmp_path}/file/out: cannot be written"):
        LocalDestination(tmp_path / "file" / "out").prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_preparing_leaves_no_trace_but_the_folders(sink):
    sink.prepare()
    assert parts(sink) == []


@pytest.mark.parametrize("takes", [None, 1, 1000])
def test_chunks_go_into_their_place_however_many_and_however_little_is_taken(tmp_path, monkeypatch, takes):
    chunks = [bytes([number % 256]) * (number % 7) for number in range(1500)]
    file = tmp_path / "data"
    file.write_bytes(b"." * 10_000)
    if takes:
        pwritev = os.pwritev
        monkeypatch.setattr(
            os, "pwritev", lambda handle, some, at: pwritev(handle, [b"".join(some)[:takes]], at)
        )
    atomic_files.pwrite_chunks(file, 11, chunks)
    whole = b"".join(chunks)
    assert file.read_bytes() == b"." * 11 + whole + b"." * (10_000 - 11 - len(whole))
