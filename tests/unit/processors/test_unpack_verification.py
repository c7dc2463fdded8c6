"""Comparison of an unpacked folder with its manifest."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bulkdl.concurrency import ReadStopped
from bulkdl.models import Digest
from bulkdl.processors.unpack.engine import UnpackedArchive
from bulkdl.processors.unpack.manifest import ManifestError, read_entries, read_header
from bulkdl.processors.unpack.verification import find_foreign_file, find_problems, is_current
from support.archive_bytes import END, header, member
from support.unpack_calls import DIGEST, UnpackCalls

SYMLINK = b"2"


@pytest.fixture
def unpacked(calls: UnpackCalls) -> UnpackedArchive:
    names = ("output/a", "output/b/c", "output/b/ä")
    return calls.unpack(b"".join(map(member, names)) + header("output/link", 0, SYMLINK) + END)


def problems_of(unpacked: UnpackedArchive, *, deep: bool = False) -> dict[str, str]:
    found = find_problems(threading.Event(), unpacked.folder, unpacked.manifest, deep=deep)
    return {check.path: check.problem for check in found}


@pytest.mark.parametrize("deep", [False, True])
def test_find_problems_of_an_unchanged_folder_finds_none(unpacked: UnpackedArchive, deep: bool) -> None:
    assert problems_of(unpacked, deep=deep) == {}


@pytest.mark.parametrize("deep", [False, True])
def test_find_problems_reports_missing_and_changed_files(unpacked: UnpackedArchive, deep: bool) -> None:
    (unpacked.folder / "a").write_bytes(b"abcd")
    (unpacked.folder / "b/c").unlink()
    (unpacked.folder / "b/ä").write_bytes(b"xyz")
    found = problems_of(unpacked, deep=deep)
    mismatch = found.pop("b/ä", "")
    assert found == {"a": "unexpected size: 4 bytes, expected 3", "b/c": "not found"}
    assert mismatch.startswith("checksum mismatch: expected crc32c=") == deep


def test_find_problems_reports_a_folder_in_place_of_a_file(unpacked: UnpackedArchive) -> None:
    (unpacked.folder / "a").unlink()
    (unpacked.folder / "a").mkdir()
    (unpacked.folder / "b/c").unlink()
    (unpacked.folder / "b/ä").unlink()
    (unpacked.folder / "b").rmdir()
    (unpacked.folder / "b").touch()
    assert problems_of(unpacked) == {"a": "not a regular file", "b/c": "not found", "b/ä": "not found"}


def test_find_problems_that_is_stopped_raises(unpacked: UnpackedArchive) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(ReadStopped):
        list(find_problems(stop, unpacked.folder, unpacked.manifest))


def test_is_current_only_for_the_same_archive_with_all_files(unpacked: UnpackedArchive) -> None:
    stop = threading.Event()
    assert is_current(stop, unpacked.folder, unpacked.manifest, DIGEST)
    assert not is_current(stop, unpacked.folder, unpacked.manifest, Digest("crc32c", "BBBBBB=="))
    assert not is_current(stop, unpacked.folder, unpacked.manifest.with_name("missing"), DIGEST)
    (unpacked.folder / "a").write_bytes(b"xyz")
    assert not is_current(stop, unpacked.folder, unpacked.manifest, DIGEST)


@pytest.mark.parametrize("content", ["", "x", "[]", "{}", '{"format": "bulkdl-unpacked", "version": 99}'])
def test_read_header_of_an_invalid_manifest_raises(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest"
    path.write_text(content)
    with pytest.raises(ManifestError):
        read_header(path)
    assert not is_current(threading.Event(), tmp_path, path, DIGEST)
    path.write_text("\n" + content)
    if content:
        with pytest.raises(ManifestError):
            list(read_entries(path))


def test_find_foreign_file_returns_a_file_that_no_manifest_contains(unpacked: UnpackedArchive) -> None:
    missing = unpacked.manifest.with_name("missing")
    assert find_foreign_file(unpacked.folder, missing, unpacked.manifest) is None
    (unpacked.folder / "b/a.tif.aux.xml").touch()
    assert find_foreign_file(unpacked.folder, unpacked.manifest) == "b/a.tif.aux.xml"
