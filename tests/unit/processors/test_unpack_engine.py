"""Ordinary archives: the files, the manifest, the reservations, and the equality with other readers."""

from __future__ import annotations

import base64
import errno
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import threading
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkdl import syscalls
from bulkdl.concurrency import ReadStopped
from bulkdl.errors import DestinationError
from bulkdl.models import Digest, Reason
from bulkdl.processors.unpack import engine
from bulkdl.processors.unpack.manifest import ManifestHeader, UnpackedFile, read_entries, read_header
from support.archive_bytes import END, header, member, pax, zipped
from support.unpack_calls import DIGEST, UnpackCalls, read_tree

FILES = {"output/data.json": b"{}", "output/a/b/scene.tif": os.urandom(700_000), "output/empty": b""}


def tar_of(files: dict[str, bytes], **options: Any) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", **options) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_600_000_000
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


FORMS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "tar.gz": tar_of,
    "pax tar.gz": lambda files: tar_of(files, format=tarfile.PAX_FORMAT, pax_headers={"comment": "x"}),
    "GNU tar.gz": lambda files: tar_of(files, format=tarfile.GNU_FORMAT),
    "ustar tar.gz": lambda files: tar_of(files, format=tarfile.USTAR_FORMAT),
    "tar": lambda files: gzip.decompress(tar_of(files)),
    "zip": zipped,
    "stored zip": lambda files: zipped(files, zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_unpack_archive_of_each_format_writes_all_files(
    calls: UnpackCalls, form: Callable[[dict[str, bytes]], bytes]
) -> None:
    unpacked = calls.unpack(form(FILES))
    assert read_tree(unpacked.folder) == {name.removeprefix("output/"): data for name, data in FILES.items()}
    assert calls.space.consumed_bytes == sum(calls.space.reserved) == 700_002


def test_unpack_archive_writes_a_manifest_with_checksums(calls: UnpackCalls) -> None:
    data = tar_of(FILES)
    unpacked = calls.unpack(data)
    expected = ManifestHeader(DIGEST, len(data), "output", 3, 700_002, 0)
    assert unpacked.header == read_header(unpacked.manifest) == expected
    entries = {
        entry.path: entry for entry in read_entries(unpacked.manifest) if isinstance(entry, UnpackedFile)
    }
    assert len(entries) == 3
    for name, content in FILES.items():
        entry = entries[name.removeprefix("output/")]
        assert entry.size_bytes == len(content)
        assert entry.sha256 == hashlib.sha256(content).hexdigest()
        checksum = google_crc32c.value(content).to_bytes(4, "big")
        assert entry.crc32c == Digest("crc32c", base64.b64encode(checksum).decode())
    assert sorted(path.name for path in unpacked.manifest.parent.iterdir()) == ["manifest.jsonl", "tree"]


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        (["output/a", "output/b/c"], "output"),
        (["output/output/a"], "output"),
        (["output/a", "data.json"], ""),
        (["data.json", "output/a"], ""),
        (["output"], ""),
        (["outputs/a"], ""),
        (["Output/a"], ""),
        (['output/"a"', "output/ä"], "output"),
    ],
)
def test_unpack_archive_removes_the_folder_output_only_around_all_members(
    calls: UnpackCalls, names: list[str], folder: str
) -> None:
    unpacked = calls.unpack(tar_of(dict.fromkeys(names, b"abc")))
    assert unpacked.header.folder == folder
    expected = {name.removeprefix("output/") if folder else name for name in names}
    assert set(read_tree(unpacked.folder)) == expected
    paths = {entry.path for entry in read_entries(unpacked.manifest) if isinstance(entry, UnpackedFile)}
    assert paths == expected


def test_unpack_archive_without_members_creates_an_empty_folder(calls: UnpackCalls) -> None:
    for data in (tar_of({}), zipped({})):
        unpacked = calls.unpack(data)
        assert read_tree(unpacked.folder) == {}
        assert unpacked.header.files == 0


def test_unpack_archive_keeps_times_of_files_within_the_range(calls: UnpackCalls) -> None:
    folder = calls.unpack(tar_of({"a": b"x"})).folder
    assert (folder / "a").stat().st_mtime == 1_600_000_000
    info = tarfile.TarInfo("b")
    info.mtime = 1 << 40
    assert (calls.unpack(info.tobuf() + END).folder / "b").stat().st_mtime < 1 << 32


def test_unpack_archive_repeated_folders_and_old_folder_names_are_created_once(calls: UnpackCalls) -> None:
    folder = header("a/b/", 0, tarfile.DIRTYPE)
    data = folder * 3 + member("a/b/c") + folder + header("old/", 0, tarfile.AREGTYPE) + END
    root = calls.unpack(data).folder
    assert read_tree(root) == {"a/b/c": b"abc"}
    assert (root / "old").is_dir()


def test_unpack_archive_uses_the_size_of_a_pax_header(calls: UnpackCalls) -> None:
    data = pax({"size": "3"}) + header("a") + b"abc".ljust(512, b"\0") + member("b") + END
    assert read_tree(calls.unpack(data).folder) == {"a": b"abc", "b": b"abc"}


def test_unpack_archive_with_several_gzip_members_reads_all(calls: UnpackCalls) -> None:
    data = gzip.compress(member("a")) + gzip.compress(member("b") + END)
    assert read_tree(calls.unpack(data).folder) == {"a": b"abc", "b": b"abc"}


def test_unpack_streamed_zip_with_data_descriptors_writes_all_files(calls: UnpackCalls) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

    stream = Pipe()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    assert set(read_tree(calls.unpack(stream.getvalue()).folder)) == {"data.json", "a/b/scene.tif", "empty"}


def test_unpack_zip64_writes_all_files(calls: UnpackCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    data = zipped({"a": b"abc" * 100, "b": b"abc" * 100})
    assert b"PK\x06\x06" in data
    assert read_tree(calls.unpack(data).folder) == {"a": b"abc" * 100, "b": b"abc" * 100}


def test_unpack_zip_with_an_end_record_in_its_comment_writes_all_files(calls: UnpackCalls) -> None:
    stream = io.BytesIO(zipped({"a": b"abc"}))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.comment = b"PK\x05\x06 in the comment"
    assert read_tree(calls.unpack(stream.getvalue()).folder) == {"a": b"abc"}


def test_unpack_archive_that_is_stopped_raises_and_leaves_nothing(calls: UnpackCalls) -> None:
    stop = threading.Event()
    data = tar_of({f"f{number}": os.urandom(200_000) for number in range(5)})
    written = []

    def consume(size_bytes: int) -> None:
        written.append(size_bytes)
        stop.set()

    calls.space.consume = consume  # type: ignore[method-assign]
    with pytest.raises(ReadStopped):
        calls.unpack(data, stop=stop)
    assert len(written) == 1
    assert list((calls.root / "work").iterdir()) == []


def test_unpack_bomb_that_is_stopped_raises_within_one_block(calls: UnpackCalls) -> None:
    """One block of input decompresses to megabytes: the flag is checked for each block of output."""
    stop = threading.Event()
    reads = 0

    def consume(size_bytes: int) -> None:
        nonlocal reads
        reads += 1
        stop.set()

    calls.space.consume = consume  # type: ignore[method-assign]
    with pytest.raises(ReadStopped):
        calls.unpack(tar_of({"a": bytes(8 << 20)}), stop=stop)
    assert reads == 1


def test_unpack_archive_without_disk_space_fails_and_leaves_nothing(calls: UnpackCalls) -> None:
    def reserve(size_bytes: int) -> None:
        raise DestinationError(Reason.DISK_FULL, f"{size_bytes} bytes needed")

    calls.space.reserve = reserve  # type: ignore[method-assign]
    for data in (tar_of(FILES), zipped(FILES)):
        with pytest.raises(DestinationError) as failure:
            calls.unpack(data)
        assert failure.value.reason is Reason.DISK_FULL
    assert list((calls.root / "work").iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EROFS])
@pytest.mark.parametrize("function", ["open", "write", "mkdir"])
def test_unpack_archive_with_a_failing_disk_fails_and_leaves_nothing(
    calls: UnpackCalls, monkeypatch: pytest.MonkeyPatch, function: str, code: int
) -> None:
    reasons = {errno.ENOSPC: Reason.DISK_FULL, errno.EMFILE: Reason.TOO_MANY_OPEN_FILES}
    real = getattr(os, function)

    def fail(first: Any, *args: Any, **options: Any) -> Any:
        if function == "write" or first in (b"scene.tif", b"a"):
            raise OSError(code, os.strerror(code))
        return real(first, *args, **options)

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(DestinationError) as failure:
        calls.unpack(tar_of(FILES))
    assert failure.value.reason is reasons.get(code, Reason.DISK_ERROR)
    assert list((calls.root / "work").iterdir()) == []


@pytest.mark.parametrize("form", sorted(FORMS))
def test_unpack_large_member_writes_all_blocks_in_order(calls: UnpackCalls, form: str) -> None:
    """A large member is written in a second thread."""
    data = b"".join(number.to_bytes(4, "big") * 1024 for number in range(2600))
    unpacked = calls.unpack(FORMS[form]({"output/scene.tif": data, "output/b": b"after"}))
    assert read_tree(unpacked.folder) == {"scene.tif": data, "b": b"after"}
    first = next(read_entries(unpacked.manifest))
    assert isinstance(first, UnpackedFile)
    assert (first.sha256, first.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert calls.space.consumed_bytes == len(data) + 5
    assert [thread.name for thread in threading.enumerate() if "unpack-writer" in thread.name] == []


@pytest.mark.parametrize("failing_write", [1, 2, 30, 40])
def test_unpack_large_member_on_a_full_disk_fails_and_leaves_nothing(
    calls: UnpackCalls, monkeypatch: pytest.MonkeyPatch, failing_write: int
) -> None:
    writes, real = 0, os.write

    def write(handle: int, block: bytes) -> int:
        nonlocal writes
        writes += 1
        if writes >= failing_write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, block)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(DestinationError) as failure:
        calls.unpack(tar_of({"output/scene.tif": bytes(10 << 20)}))
    assert failure.value.reason is Reason.DISK_FULL
    assert writes == failing_write  # nothing is written after the failure
    assert list((calls.root / "work").iterdir()) == []
    assert [thread.name for thread in threading.enumerate() if "unpack-writer" in thread.name] == []


def test_unpack_truncated_large_member_fails_and_leaves_nothing(calls: UnpackCalls) -> None:
    data = tar_of({"output/scene.tif": os.urandom(6 << 20)})
    for size in (1 << 20, 5 << 20, len(data) - 1):
        assert calls.reason_of(data[:size]) is Reason.CORRUPT_CONTENT
    assert [thread.name for thread in threading.enumerate() if "unpack-writer" in thread.name] == []


def test_unpack_large_member_stopped_while_it_is_written_raises(calls: UnpackCalls) -> None:
    """The flag can be set after the last block was read: the incomplete file must not count as complete."""
    stop = threading.Event()

    def consume(size_bytes: int) -> None:
        if (consumed := sum(seen)) + size_bytes > 10 << 20:
            stop.set()
        seen.append(size_bytes)
        assert consumed <= 11 << 20

    seen: list[int] = []
    calls.space.consume = consume  # type: ignore[method-assign]
    with pytest.raises(ReadStopped):
        calls.unpack(tar_of({"a": bytes((10 << 20) + (512 << 10))}), stop=stop)
    assert list((calls.root / "work").iterdir()) == []


@pytest.mark.parametrize("code", [errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ])
def test_unpack_name_that_the_file_system_cannot_create_is_refused(
    calls: UnpackCalls, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = os.open

    def fail(path: Any, *args: Any, **options: Any) -> Any:
        if path == b"scene.tif":
            raise OSError(code, os.strerror(code))
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", fail)
    assert calls.reason_of(tar_of(FILES)) is Reason.REFUSED_CONTENT


def test_unpack_missing_archive_fails_and_leaves_nothing(tmp_path: Path, calls: UnpackCalls) -> None:
    with pytest.raises(DestinationError):
        engine.unpack_archive(
            threading.Event(), tmp_path / "missing", DIGEST, tmp_path / "work/1", calls.space
        )
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("sync", [True, False])
def test_unpack_archive_with_sync_syncs_the_file_system_once(
    calls: UnpackCalls, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    syncs = []

    def record(handle: int) -> None:
        syncs.append(sorted(os.listdir(Path(f"/proc/self/fd/{handle}").readlink())))  # noqa: PTH208

    monkeypatch.setattr(syscalls, "sync_file_system", record)
    calls.unpack(tar_of(FILES), sync=sync)
    assert syncs == [["output"]] * sync


NAME_CHARS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="/\\:")
PRINTABLE_CHARS = NAME_CHARS.filter(str.isprintable)
SAFE_PART = st.text(PRINTABLE_CHARS, min_size=1, max_size=20).filter(lambda part: part not in (".", ".."))
PATHS = st.lists(SAFE_PART, min_size=1, max_size=4).map("/".join)
SHORT_PATHS = st.lists(st.sampled_from(["a", "A", "b", "\u00e9", "e\u0301"]), min_size=1, max_size=3).map(
    "/".join
)
CONTENTS = st.dictionaries(st.one_of(PATHS, SHORT_PATHS), st.binary(max_size=2000), min_size=1, max_size=6)


def has_conflict(files: dict[str, bytes]) -> bool:
    """Return whether two paths, or a path and a parent folder, are equal without case and accents."""
    spellings: dict[str, set[tuple[str, bool]]] = {}
    for path in files:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            prefix = "/".join(parts[:depth])
            folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", prefix).casefold())
            spellings.setdefault(folded, set()).add((prefix, depth == len(parts)))
    return any(len(found) > 1 for found in spellings.values())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(files=CONTENTS, form=st.sampled_from(sorted(FORMS)))
def test_unpack_random_files_equals_the_data_filter_of_tarfile(
    calls: UnpackCalls, tmp_path: Path, files: dict[str, bytes], form: str
) -> None:
    """Names that conflict are refused. All other archives give the files that the standard library writes."""
    try:
        data = FORMS[form](files)
    except ValueError:  # the name is too long for ustar
        return
    reason = calls.reason_of(data)
    if reason is not None:
        assert reason is Reason.REFUSED_CONTENT
        assert has_conflict(files)
        return
    assert not has_conflict(files)
    tree = calls.root / f"work/{calls.count}/tree"
    reference = tmp_path / "work/reference"
    if "zip" in form:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(reference)  # noqa: S202
    else:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extractall(reference, filter="data")
    try:
        assert read_tree(tree) == (read_tree(reference) if reference.exists() else {})
    finally:
        shutil.rmtree(reference, ignore_errors=True)


def test_unpack_archive_of_gnu_tar_equals_gnu_tar(calls: UnpackCalls, tmp_path: Path) -> None:
    source, expected = tmp_path / "work/source", tmp_path / "work/expected"
    deep = source / "output" / ("long-folder-name-" * 8) / ("second-folder-name-" * 8)
    deep.mkdir(parents=True)
    expected.mkdir()
    for number in range(30):
        (deep / f"scene-{number}-ä.tif").write_bytes(os.urandom(number * 1000))
    (source / "output/empty folder").mkdir()
    for options in (["--format=gnu"], ["--format=pax"], ["--format=posix", "--sort=name"]):
        archive = tmp_path / "work/archive.tar.gz"
        subprocess.run(["tar", *options, "-czf", archive, "-C", source, "output"], check=True)
        subprocess.run(["tar", "-xzf", archive, "-C", expected], check=True)
        unpacked = calls.unpack(archive.read_bytes())
        assert read_tree(unpacked.folder) == read_tree(expected / "output")
        assert (unpacked.folder / "empty folder").is_dir()
