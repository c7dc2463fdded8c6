"""Publication, links, copies and sizes in the output directory."""

import errno
import os
import shutil
from collections import namedtuple

import pytest

from bulkdl.disk import atomic_files
from bulkdl.disk.disk_space import HEADROOM_BYTES
from bulkdl.errors import DestinationError
from bulkdl.models import Reason
from bulkdl.state.storage import create_storage


@pytest.fixture
def storage(tmp_path):
    created = create_storage(tmp_path / "out")
    created.state.prepare()
    return created


async def sizes(storage, *keys):
    return {key: info.size_bytes for key, info in (await storage.destination.stat(keys)).items()}


def list_temp_files(storage):
    return [path.name for path in storage.state.partial_folder.iterdir()]


async def test_publish_replaces_older_documents_and_leaves_no_temp_files(storage):
    await storage.destination.write_documents({"p/j/job.json": b"old", "p/j/job_tasks.json": b"{}"})
    await storage.destination.write_documents({"p/j/job.json": b"new"})
    assert (storage.destination.root / "p/j/job.json").read_bytes() == b"new"
    assert await sizes(storage, "p/j/job.json", "p/j/job_tasks.json", "p/none") == {
        "p/j/job.json": 3,
        "p/j/job_tasks.json": 2,
    }
    assert list_temp_files(storage) == []


async def test_link_creates_a_hard_link(storage):
    await storage.destination.write_documents({"a": b"bytes"})
    await storage.destination.copy("a", "deep/b")
    assert (storage.destination.root / "a").samefile(storage.destination.root / "deep/b")
    await storage.destination.copy("a", "deep/b")
    await storage.destination.copy("a", "a")
    assert (storage.destination.root / "a").read_bytes() == b"bytes"
    assert list_temp_files(storage) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV])
async def test_link_rejected_by_the_file_system_creates_a_copy(storage, monkeypatch, sync_events, number):
    def deny(*_, **__):
        raise OSError(number, os.strerror(number))

    await storage.destination.write_documents({"a": b"bytes", "b": b"older"})
    sync_events.clear()
    monkeypatch.setattr(os, "link", deny)
    await storage.destination.copy("a", "b")
    assert (storage.destination.root / "b").read_bytes() == b"bytes"
    assert not (storage.destination.root / "a").samefile(storage.destination.root / "b")
    assert [event for event, _ in sync_events] == [
        "fsync",
        "replace",
    ]  # ``sync`` follows before the ledger row
    assert list_temp_files(storage) == []


async def test_link_whose_copy_fails_leaves_no_files(storage, monkeypatch):
    def deny(*_, **__):
        raise OSError(errno.EPERM, "no")

    def full(source, target, on_block_copied, *, sync=True):
        target.write_bytes(b"by")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    await storage.destination.write_documents({"a": b"bytes"})
    monkeypatch.setattr(os, "link", deny)
    monkeypatch.setattr(atomic_files, "copy_file", full)
    with pytest.raises(DestinationError) as raised:
        await storage.destination.copy("a", "b")
    assert raised.value.reason is Reason.DISK_FULL
    assert await sizes(storage, "b") == {}
    assert list_temp_files(storage) == []


async def test_link_by_copy_reserves_disk_space(storage, monkeypatch):
    """The reservations of other downloads and the headroom stay free."""

    def deny(*_, **__):
        raise OSError(errno.EPERM, "no")

    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - shaped like shutil's
    events = []
    copy_file = atomic_files.copy_file

    def recording(source, target, on_block_copied, *, sync=True):
        events.append(storage.state.reservations.reserved_bytes)
        copy_file(source, target, on_block_copied)
        events.append(storage.state.reservations.reserved_bytes)

    monkeypatch.setattr(os, "link", deny)
    monkeypatch.setattr(atomic_files, "copy_file", recording)
    await storage.destination.write_documents({"a": bytes(5000)})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 0, HEADROOM_BYTES + 4999))
    with pytest.raises(DestinationError) as raised:
        await storage.destination.copy("a", "b")
    assert raised.value.reason is Reason.DISK_FULL
    assert events == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 0, HEADROOM_BYTES + 5000))
    await storage.destination.copy("a", "b")
    assert events == [5000, 0]
    assert storage.state.reservations.reserved_bytes == 0
    assert await sizes(storage, "b") == {"b": 5000}
    assert list_temp_files(storage) == []


@pytest.mark.parametrize(
    "key", ["/etc/passwd", "../up", "a/../../up", "a/..", "..", "", ".", "nul\0byte", "//double"]
)
def test_locate_key_outside_the_root_is_rejected(storage, key):
    with pytest.raises(ValueError, match="invalid key"):
        storage.destination.locate(key)


def test_locate_key_returns_a_path_below_the_root(storage):
    assert (
        storage.destination.locate("p/j/final_output.tar.gz")
        == storage.destination.root / "p/j/final_output.tar.gz"
    )


async def test_stat_contains_only_regular_files(storage):
    (storage.destination.root / "folder").mkdir()
    (storage.destination.root / "link").symlink_to(storage.destination.root / "nowhere")
    (storage.destination.root / "file").write_bytes(b"1234")
    assert await sizes(storage, "folder", "link", "file", "file/below") == {"file": 4}


async def test_stat_of_a_failing_disk_is_a_disk_error(storage, monkeypatch):
    def deny(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "lstat", deny)
    with pytest.raises(DestinationError) as raised:
        await storage.destination.stat(["a"])
    assert raised.value.reason is Reason.DISK_ERROR
