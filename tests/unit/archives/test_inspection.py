"""Inspection of archives without a checksum: hostile headers, memory, and time over many members."""

import gzip
import io
import subprocess
import sys
import tarfile
import textwrap
import time
import zipfile

import pytest

from bulkdl.archives import inspection
from bulkdl.archives.inspection import inspect_archive
from bulkdl.archives.tar_headers import MAX_EXTENDED_HEADER_BYTES
from bulkdl.errors import TransferError
from bulkdl.models import Reason

MIB = 1 << 20


def header(name="output/a", size=0, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(data):
    return data + bytes(-len(data) % 512)


def pax(records, kind=tarfile.XHDTYPE):
    return header("PaxHeader", len(records), kind) + padded(records)


END = bytes(1024)


def reason_of(data):
    for form in (data, gzip.compress(data, 1)):
        try:
            inspect_archive(io.BytesIO(form))
        except TransferError as failure:
            yield failure.reason
        else:
            yield None


def is_damaged(data):
    reasons = set(reason_of(data))
    assert len(reasons) == 1
    return reasons == {Reason.CORRUPT_CONTENT}


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_inspect_archive_thousands_of_extended_headers_in_a_row_is_damaged(kind):
    data = header("x", 20, kind) + padded(b"20 comment=abcdefgh\n")
    assert is_damaged(data * 5000 + header() + END)


def test_inspect_archive_extended_headers_of_one_member_pass():
    data = pax(b"13 path=a/b/c\n") + header("long", 9, tarfile.GNUTYPE_LONGNAME) + padded(b"a/b/c/d/e")
    assert not is_damaged((data + header(size=3) + padded(b"abc")) * 100 + END)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_inspect_archive_extended_header_above_the_limit_is_damaged(kind):
    fits, exceeds = (
        header("x", size, kind) + padded(b"x" * size) + header() + END
        for size in (MAX_EXTENDED_HEADER_BYTES, MAX_EXTENDED_HEADER_BYTES + 1)
    )
    assert not is_damaged(fits)
    assert is_damaged(exceeds)


def test_inspect_archive_pax_header_of_300_mb_uses_little_memory(tmp_path):
    """In a process of its own: the peak memory of this one is that of all tests before."""
    path = tmp_path / "archive.tar.gz"
    with gzip.open(path, "wb", 1) as packed:
        packed.write(header("x", 300 * MIB, tarfile.XHDTYPE))
        for _ in range(300):
            packed.write(bytes(MIB))
        packed.write(header() + END)
    code = textwrap.dedent(
        """
        import resource, sys
        from bulkdl.archives.inspection import inspect_archive
        from bulkdl.errors import TransferError
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with open(sys.argv[1], "rb") as stream:
            try:
                inspect_archive(stream)
            except TransferError as failure:
                print(failure.reason.value)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        """
    )
    completed = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    reason, grown_kib = completed.stdout.split()
    assert reason == "corrupt_content"
    assert int(grown_kib) < 100 * 1024


def test_inspect_archive_zip_with_a_central_directory_above_the_limit_is_damaged(monkeypatch):
    """The members are intact. Only the directory, which is read in one call, is too large."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(300):
            archive.writestr(f"output/{number}", b"abc")
    monkeypatch.setattr(inspection, "_MAX_ZIP_READ_BYTES", 300 * 64)
    inspect_archive(io.BytesIO(packed.getvalue()))
    monkeypatch.setattr(inspection, "_MAX_ZIP_READ_BYTES", 300 * 48)
    with pytest.raises(TransferError, match=r"central directory of \d+ bytes; expected at most 14400"):
        inspect_archive(io.BytesIO(packed.getvalue()))


def test_inspect_archive_many_members_takes_linear_time():
    few, many = (header("output/a", 3) + padded(b"abc") for _ in range(2))
    seconds = []
    for data in (few * 2_000 + END, many * 20_000 + END):
        packed = io.BytesIO(gzip.compress(data, 1))
        before = time.process_time()
        inspect_archive(packed)
        seconds.append(time.process_time() - before)
    assert seconds[1] < 30 * seconds[0]


def test_inspect_archive_uses_the_size_of_a_pax_header():
    member = pax(b"12 size=600\n") + header(size=0) + padded(b"x" * 600)
    assert not is_damaged(member + header() + END)
    assert is_damaged(pax(b"12 size=9x9\n") + header() + END)
    assert is_damaged(pax(b"3 size=600\n") + header() + END)


def test_inspect_archive_without_a_member_behind_an_extended_header_is_damaged():
    assert is_damaged(pax(b"13 path=a/b/c\n") + END)
    assert is_damaged(pax(b"13 path=a/b/c\n"))


@pytest.mark.parametrize("size", [b"\xff" * 12, b"\x80" + b"\x7f" * 11])
def test_inspect_archive_size_that_no_file_can_have_is_damaged(size):
    block = bytearray(header())
    block[124:136] = size
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    assert is_damaged(bytes(block) + END)


def test_inspect_archive_old_sparse_member_passes():
    block = bytearray(header(size=5, kind=tarfile.GNUTYPE_SPARSE))
    block[482] = 1
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    extension = bytearray(512)
    extension[504] = 1
    data = bytes(block) + bytes(extension) + bytes(512) + padded(b"hello") + header(size=1) + padded(b"a")
    assert not is_damaged(data + END)
    assert is_damaged(bytes(block) + bytes(extension))


def test_inspect_archive_invalid_header_between_members_is_damaged():
    assert is_damaged(header(size=3) + padded(b"abc") + b"x" * 512 + header() + END)


def test_inspect_archive_gzipped_tar_with_wrong_checksum_is_damaged():
    data = bytearray(gzip.compress(header(size=3) + padded(b"abc") + END))
    data[-8] ^= 1
    with pytest.raises(TransferError):
        inspect_archive(io.BytesIO(bytes(data)))
