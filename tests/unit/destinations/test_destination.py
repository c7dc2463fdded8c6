"""Publication, links and copies, and the errors of the operating system."""

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
def destination(tmp_path):
    created = LocalDestination(tmp_path / "out")
    created.prepare()
    return created


def list_temp_files(destination):
    return [path.name for path in destination.state.partial_folder.iterdir()]


@pytest.fixture
def sync_events(monkeypatch):
    """Record the names of files that are fsynced and renamed, in order."""
    events = []
    fsync, replace = os.fsync, Path.replace

    def recording_fsync(handle):
        events.append(("fsync", Path(f"/proc/self/fd/{handle}").readlink().name))
        fsync(handle)

    def recording_replace(path, target):
        replace(path, target)
        events.append(("replace", target.name))

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(Path, "replace", recording_replace)
    return events


def test_publish_syncs_the_file_before_and_the_folder_after_the_rename(tmp_path, sync_events):
    atomic_files.write_file(tmp_path / "temp", b"bytes")
    atomic_files.publish(tmp_path / "temp", tmp_path / "deep" / "er" / "final")
    assert sync_events == [
        ("fsync", "temp"),
        ("fsync", tmp_path.name),
        ("fsync", "deep"),
        ("replace", "final"),
        ("fsync", "er"),
    ]
    assert (tmp_path / "deep" / "er" / "final").read_bytes() == b"bytes"


def test_sync_file_calls_fsync_and_keeps_the_content(tmp_path, sync_events):
    (tmp_path / "data").write_bytes(b"content")
    atomic_files.sync_file(tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == b"content"
    assert sync_events == [("fsync", "data")]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_allocate_without_file_system_support_writes_nothing(tmp_path, monkeypatch, number):
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


def test_allocate_sets_the_size(tmp_path):
    (tmp_path / "data").touch()
    atomic_files.allocate(tmp_path / "data", 3 << 20)
    assert (tmp_path / "data").stat().st_size == 3 << 20


def test_allocate_on_a_full_disk_fails(tmp_path, monkeypatch):
    error_codes = [errno.EINTR, errno.ENOSPC]

    def full(*_):
        ctypes.set_errno(error_codes.pop(0))
        return -1

    monkeypatch.setattr(atomic_files, "_fallocate", full, raising=False)
    (tmp_path / "data").touch()
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        atomic_files.allocate(tmp_path / "data", 1 << 20)
    assert error_codes == []


async def test_publish_replaces_older_documents_and_leaves_no_temp_files(destination):
    await destination.publish({"p/j/job.json": b"old", "p/j/job_tasks.json": b"{}"})
    await destination.publish({"p/j/job.json": b"new"})
    assert (destination.root / "p/j/job.json").read_bytes() == b"new"
    assert destination.sizes(["p/j/job.json", "p/j/job_tasks.json", "p/none"]) == {
        "p/j/job.json": 3,
        "p/j/job_tasks.json": 2,
    }
    assert list_temp_files(destination) == []


async def test_link_creates_a_hard_link(destination):
    await destination.publish({"a": b"bytes"})
    await destination.link("a", "deep/b")
    assert (destination.root / "a").samefile(destination.root / "deep/b")
    await destination.link("a", "deep/b")
    await destination.link("a", "a")
    assert (destination.root / "a").read_bytes() == b"bytes"
    assert list_temp_files(destination) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV])
async def test_link_rejected_by_the_file_system_creates_a_copy(destination, monkeypatch, sync_events, number):
    def deny(*_, **__):
        raise OSError(number, os.strerror(number))

    await destination.publish({"a": b"bytes", "b": b"older"})
    sync_events.clear()
    monkeypatch.setattr(os, "link", deny)
    await destination.link("a", "b")
    assert (destination.root / "b").read_bytes() == b"bytes"
    assert not (destination.root / "a").samefile(destination.root / "b")
    assert [event for event, _ in sync_events] == [
        "fsync",
        "replace",
    ]  # ``sync`` follows before the ledger row
    assert list_temp_files(destination) == []


async def test_link_whose_copy_fails_leaves_no_files(destination, monkeypatch):
    def deny(*_, **__):
        raise OSError(errno.EPERM, "no")

    def full(source, target, on_block_copied):
        target.write_bytes(b"by")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    await destination.publish({"a": b"bytes"})
    monkeypatch.setattr(os, "link", deny)
    monkeypatch.setattr(atomic_files, "copy_file", full)
    with pytest.raises(DestinationError) as raised:
        await destination.link("a", "b")
    assert raised.value.reason is Reason.DISK_FULL
    assert destination.sizes(["b"]) == {}
    assert list_temp_files(destination) == []


async def test_link_by_copy_reserves_disk_space(destination, monkeypatch):
    """The reservations of other downloads and the headroom stay free."""

    def deny(*_, **__):
        raise OSError(errno.EPERM, "no")

    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - shaped like shutil's
    events = []
    copy_file = atomic_files.copy_file

    def recording(source, target, on_block_copied):
        events.append(destination.state.reservations.reserved_bytes)
        copy_file(source, target, on_block_copied)
        events.append(destination.state.reservations.reserved_bytes)

    monkeypatch.setattr(os, "link", deny)
    monkeypatch.setattr(atomic_files, "copy_file", recording)
    await destination.publish({"a": bytes(5000)})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 0, HEADROOM_BYTES + 4999))
    with pytest.raises(DestinationError) as raised:
        await destination.link("a", "b")
    assert raised.value.reason is Reason.DISK_FULL
    assert events == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 0, HEADROOM_BYTES + 5000))
    await destination.link("a", "b")
    assert events == [5000, 0]
    assert destination.state.reservations.reserved_bytes == 0
    assert destination.sizes(["b"]) == {"b": 5000}
    assert list_temp_files(destination) == []


def test_prepare_accepts_that_another_run_removes_its_probe(tmp_path, monkeypatch):
    touch = Path.touch

    def removing_touch(path, *args, **more):
        touch(path, *args, **more)
        path.unlink()

    monkeypatch.setattr(Path, "touch", removing_touch)
    LocalDestination(tmp_path / "out").prepare()


@pytest.mark.parametrize(
    "key", ["/etc/passwd", "../up", "a/../../up", "a/..", "..", "", ".", "nul\0byte", "//double"]
)
def test_locate_key_outside_the_root_is_rejected(destination, key):
    with pytest.raises(ValueError, match="invalid key"):
        destination.locate(key)


def test_locate_key_returns_a_path_below_the_root(destination):
    assert destination.locate("p/j/final_output.tar.gz") == destination.root / "p/j/final_output.tar.gz"


def test_sizes_contains_only_regular_files(destination):
    (destination.root / "folder").mkdir()
    (destination.root / "link").symlink_to(destination.root / "nowhere")
    (destination.root / "file").write_bytes(b"1234")
    assert destination.sizes(["folder", "link", "file", "file/below"]) == {"file": 4}


def test_sizes_of_an_unreadable_path_is_path_blocked(destination, monkeypatch):
    def deny(_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "lstat", deny)
    with pytest.raises(DestinationError) as raised:
        destination.sizes(["a"])
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
def test_map_os_errors_sets_the_reason_and_names_the_path(tmp_path, number, reason):
    with pytest.raises(DestinationError, match=str(tmp_path)) as raised, map_os_errors(tmp_path):
        raise OSError(number, os.strerror(number))
    assert raised.value.reason is reason
    assert os.strerror(number) in raised.value.detail
    assert raised.value.__cause__ is None


def test_prepare_folder_that_cannot_be_created_raises_config_error(tmp_path):
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(ConfigError, match=f"--output {tmp_path}/file/out: cannot be written"):
        LocalDestination(tmp_path / "file" / "out").prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_prepare_leaves_no_temp_files(destination):
    destination.prepare()
    assert list_temp_files(destination) == []


@pytest.mark.parametrize("max_written", [None, 1, 1000])
def test_pwrite_chunks_writes_all_chunks_after_short_writes(tmp_path, monkeypatch, max_written):
    chunks = [bytes([number % 256]) * (number % 7) for number in range(1500)]
    file = tmp_path / "data"
    file.write_bytes(b"." * 10_000)
    if max_written:
        pwritev = os.pwritev
        monkeypatch.setattr(
            os,
            "pwritev",
            lambda handle, chunks, offset: pwritev(handle, [b"".join(chunks)[:max_written]], offset),
        )
    atomic_files.pwrite_chunks(file, 11, chunks)
    whole = b"".join(chunks)
    assert file.read_bytes() == b"." * 11 + whole + b"." * (10_000 - 11 - len(whole))
