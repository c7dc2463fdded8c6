"""Publication, links, copies and sizes in the output directory."""

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.disk import atomic_files
from bulkdl.disk.disk_space import HEADROOM_BYTES
from bulkdl.errors import DestinationError
from bulkdl.models import Reason


@pytest.fixture
def destination(tmp_path):
    created = LocalDestination(tmp_path / "out")
    created.prepare()
    return created


def list_temp_files(destination):
    return [path.name for path in destination.state.partial_folder.iterdir()]


async def test_publish_replaces_older_documents_and_leaves_no_temp_files(destination):
    await destination.publish({"p/j/job.json": b"old", "p/j/job_tasks.json": b"{}"})
    await destination.publish({"p/j/job.json": b"new"})
    assert (destination.root / "p/j/job.json").read_bytes() == b"new"
    assert destination.read_sizes(["p/j/job.json", "p/j/job_tasks.json", "p/none"]) == {
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
    assert destination.read_sizes(["b"]) == {}
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
    assert destination.read_sizes(["b"]) == {"b": 5000}
    assert list_temp_files(destination) == []


@pytest.mark.parametrize(
    "key", ["/etc/passwd", "../up", "a/../../up", "a/..", "..", "", ".", "nul\0byte", "//double"]
)
def test_locate_key_outside_the_root_is_rejected(destination, key):
    with pytest.raises(ValueError, match="invalid key"):
        destination.locate(key)


def test_locate_key_returns_a_path_below_the_root(destination):
    assert destination.locate("p/j/final_output.tar.gz") == destination.root / "p/j/final_output.tar.gz"


def test_read_sizes_contains_only_regular_files(destination):
    (destination.root / "folder").mkdir()
    (destination.root / "link").symlink_to(destination.root / "nowhere")
    (destination.root / "file").write_bytes(b"1234")
    assert destination.read_sizes(["folder", "link", "file", "file/below"]) == {"file": 4}


def test_read_sizes_of_an_unreadable_path_is_path_blocked(destination, monkeypatch):
    def deny(_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "lstat", deny)
    with pytest.raises(DestinationError) as raised:
        destination.read_sizes(["a"])
    assert raised.value.reason is Reason.PATH_BLOCKED
