"""
Peak memory of hostile archives, in a process for each of them.

The peak is read from ``/proc``: ``ru_maxrss`` includes the memory of the process that started this one.
"""

from __future__ import annotations

import gzip
import re
import struct
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from support.archive_bytes import END, header, member, pax

MIB = 1 << 20
MAX_PEAK_BYTES = 200 * MIB

CHILD = textwrap.dedent(
    """
    import sys, threading
    from pathlib import Path
    from bulkdl.errors import ProcessingError
    from bulkdl.models import Digest
    from bulkdl.processors.unpack.engine import unpack_archive

    class Space:
        def reserve(self, size_bytes): pass
        def consume(self, size_bytes): pass

    archive, work = map(Path, sys.argv[1:])
    try:
        unpack_archive(threading.Event(), archive, Digest("crc32c", ""), work, Space(), sync=False)
        reason = "unpacked"
    except ProcessingError as failure:
        reason = failure.reason.value
    print(reason)
    print(Path("/proc/self/status").read_text())
    """
)


def run_child(code: str, *arguments: Path) -> tuple[str, int]:
    """Return the first line of the output of *code*, and the peak memory of its process in bytes."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    completed = subprocess.run(command, capture_output=True, text=True, check=True)
    (peak_kib,) = re.findall(r"VmHWM:\s+([0-9]+) kB", completed.stdout)
    return completed.stdout.splitlines()[0], int(peak_kib) * 1024


def write_large_pax_header(stream: BinaryIO) -> None:
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1) as packed:
        packed.write(header("x", 300 * MIB, tarfile.XHDTYPE))
        for _ in range(300):
            packed.write(bytes(MIB))
        packed.write(header() + END)


def write_many_pax_records(stream: BinaryIO) -> None:
    """Each member has an extended header of the maximum size with as many records as possible."""
    records = b"".join(b"%d %x=\n" % (len(b"%x" % key) + 5, key) for key in range(1 << 16, 150_000))
    block = pax(records[: 10 * (1 << 16)]) + header("link", 0, tarfile.SYMTYPE, "x")
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1) as packed:
        for _ in range(10):
            packed.write(block)
        packed.write(END)


def write_many_long_names(stream: BinaryIO) -> None:
    block = pax({"path": "\U0001f600" * 250}) + header("x", 0, tarfile.SYMTYPE, "y")
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1) as packed:
        for _ in range(10):
            packed.write(block * 10_000)
        packed.write(END)


def write_bomb(stream: BinaryIO) -> None:
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1) as packed:
        packed.write(header("bomb", 400 * MIB))
        for _ in range(400):
            packed.write(bytes(MIB))
        packed.write(END)


def write_bomb_behind_the_end(stream: BinaryIO) -> None:
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1) as packed:
        packed.write(member() + END)
        for _ in range(400):
            packed.write(bytes(MIB))


def write_large_zip_directory(stream: BinaryIO) -> None:
    """A central directory of 130 MB: entries with comments of the maximum size."""
    fields = struct.pack("<6H3L5H2L", 0, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xFFFF, 0, 0, 0, 0)
    entry = b"PK\x01\x02" + fields + b"a" + bytes(0xFFFF)
    stream.write(b"PK\x03\x04" + bytes(27))
    stream.writelines(entry for _ in range(2000))
    size = 2000 * len(entry)
    stream.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2000, 2000, size, 31, 0))


def write_many_zip_members(stream: BinaryIO) -> None:
    """100,000 entries with long names. The last of them is invalid, so that no file is created."""
    stream.write(b"PK\x03\x04" + bytes(27))
    name = b"n" * 1000
    fields = struct.pack("<6H3L5H2L", 0, 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0)
    stream.writelines(b"PK\x01\x02" + fields + name for _ in range(100_000))
    size = 100_000 * (46 + len(name))
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 31 + size, 1)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 100_000, 100_000, size, 31)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, size, 31, 0)
    stream.write(end64 + locator + end)


ARCHIVES: dict[str, tuple[Callable[[BinaryIO], None], str]] = {
    "large pax header": (write_large_pax_header, "refused_content"),
    "many pax records": (write_many_pax_records, "unpacked"),
    "many long names": (write_many_long_names, "unpacked"),
    "bomb": (write_bomb, "unpacked"),
    "bomb behind the end": (write_bomb_behind_the_end, "unpacked"),
    "large zip directory": (write_large_zip_directory, "corrupt_content"),
    "many zip members": (write_many_zip_members, "corrupt_content"),
}


@pytest.mark.parametrize(("write", "expected"), ARCHIVES.values(), ids=ARCHIVES)
def test_unpack_hostile_archive_uses_bounded_memory(
    tmp_path: Path, write: Callable[[BinaryIO], None], expected: str
) -> None:
    archive = tmp_path / "archive"
    with archive.open("wb") as stream:
        write(stream)
    reason, peak_bytes = run_child(CHILD, archive, tmp_path / "work")
    assert reason == expected
    assert peak_bytes < MAX_PEAK_BYTES


def test_name_claims_of_many_long_names_use_bounded_memory() -> None:
    code = textwrap.dedent(
        """
        from pathlib import Path
        from bulkdl.processors.unpack.names import NameClaims
        claims = NameClaims(100_000)
        for number in range(99_999):
            claims.claim_file((str(number) + "\\U0001f600" * 250,))
        print("claimed")
        print(Path("/proc/self/status").read_text())
        """
    )
    assert run_child(code)[1] < MAX_PEAK_BYTES // 2
