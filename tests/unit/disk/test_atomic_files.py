"""Order of fsync and rename, allocation, and mapping of operating system errors."""

import ctypes
import errno
import os

import pytest

from bulkdl.disk import atomic_files
from bulkdl.errors import DestinationError
from bulkdl.models import Reason
from bulkdl.os_errors import map_os_errors


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
