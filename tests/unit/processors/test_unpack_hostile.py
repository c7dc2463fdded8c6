"""Hostile archives: nothing outside of the target changes, and only files and folders are created."""

from __future__ import annotations

import gzip
import struct
import tarfile
import zlib

import pytest

from bulkdl.models import Reason
from bulkdl.processors.unpack.manifest import LeftOutMember, read_entries
from bulkdl.processors.unpack.names import UnpackLimits
from support.archive_bytes import (
    END,
    SYMLINK_MODE,
    deflated,
    header,
    long_name,
    member,
    padded,
    patched,
    pax,
    zip_archive,
    zip_entry,
    zipped,
)
from support.unpack_calls import UnpackCalls, read_tree

REFUSED, CORRUPT = Reason.REFUSED_CONTENT, Reason.CORRUPT_CONTENT
VICTIM = "../../victim/secret"

UNSAFE_NAMES = {
    "parent": VICTIM,
    "parent inside": "output/../../../victim/secret",
    "parent at the end": "output/..",
    "only the parent": "..",
    "absolute": "/tmp/victim",  # noqa: S108
    "absolute with two slashes": "//victim/secret",
    "backslash": "..\\..\\victim\\secret",
    "drive": "C:secret",
    "drive with slash": "c:/secret",
    "newline": "output/a\nb",
    "escape": "output/\x1b[2J",
    "delete": "output/\x7f",
    "C1 control": "output/\x9b1m",
    "right to left": "output/\u202egpj.tif",
    "zero width": "output/a\u200bb",
    "not UTF-8": "output/\udcff",
    "long part": "output/" + "p" * 256,
    "long part in UTF-8": "output/" + "ä" * 128,
    "long name": "/".join(["output", *["part" * 40] * 7]),
    "deep": "/".join("a" * 65),
    "very deep": "/".join("a" * 500),
    "root": ".",
    "root with dots": "./.",
}


@pytest.mark.parametrize("name", UNSAFE_NAMES.values(), ids=UNSAFE_NAMES)
def test_unpack_tar_with_an_unsafe_name_is_refused(calls: UnpackCalls, name: str) -> None:
    data = member("output/good") + pax({"path": name}) + member() + END
    assert calls.reason_of(data) is REFUSED
    assert calls.reason_of(gzip.compress(data, 1)) is REFUSED


PRINTABLE_NAMES = {key: name for key, name in UNSAFE_NAMES.items() if name.isprintable()}


@pytest.mark.parametrize("name", PRINTABLE_NAMES.values(), ids=PRINTABLE_NAMES)
def test_unpack_zip_with_an_unsafe_name_is_refused(calls: UnpackCalls, name: str) -> None:
    entry = zip_entry(name.encode(), deflated(b"abc"), 3, zlib.crc32(b"abc"))
    assert calls.reason_of(zip_archive(entry)) is REFUSED


def test_unpack_tar_with_a_very_deep_name_is_refused(calls: UnpackCalls) -> None:
    limits = UnpackLimits(max_name_bytes=10_000)
    assert calls.reason_of(pax({"path": "a/" * 1200 + "b"}) + member() + END, limits=limits) is REFUSED


def test_unpack_tar_with_a_nul_in_a_pax_name_is_refused(calls: UnpackCalls) -> None:
    assert calls.reason_of(pax({"path": "a\0bc"}) + member() + END) is REFUSED


CONFLICTS = {
    "twice": ("a", "a"),
    "twice with a dot": ("a", "./a"),
    "case": ("output/Scene.tif", "output/scene.tif"),
    "case of a folder": ("Output/a", "output/b"),
    "accents": ("caf\u00e9", "cafe\u0301"),
    "case and accents": ("CAF\u00c9", "cafe\u0301"),
    "sharp s": ("stra\u00dfe", "STRASSE"),
    "file and folder": ("a", "a/b"),
    "folder and file": ("a/b", "a"),
    "file and folder in another case": ("a/b", "A"),
}


@pytest.mark.parametrize("names", CONFLICTS.values(), ids=CONFLICTS)
def test_unpack_conflicting_names_are_refused(calls: UnpackCalls, names: tuple[str, str]) -> None:
    tar = b"".join(pax({"path": name}) + member() for name in names) + END
    assert calls.reason_of(gzip.compress(tar, 1)) is REFUSED
    second_offset = 30 + len(names[0].encode())
    entries = (
        zip_entry(name.encode(), b"", 0, 0, method=0, offset=offset)
        for name, offset in zip(names, (0, second_offset), strict=True)
    )
    assert calls.reason_of(zip_archive(*entries)) is REFUSED


def unpack_with_left_out(calls: UnpackCalls, data: bytes) -> tuple[dict[str, bytes], list[LeftOutMember]]:
    unpacked = calls.unpack(data)
    entries = [entry for entry in read_entries(unpacked.manifest) if isinstance(entry, LeftOutMember)]
    assert len(entries) == unpacked.header.left_out
    return read_tree(unpacked.folder), entries


def test_unpack_tar_links_and_devices_are_left_out_and_reported(calls: UnpackCalls) -> None:
    kinds = {
        tarfile.SYMTYPE: "symbolic link",
        tarfile.LNKTYPE: "hard link",
        tarfile.CHRTYPE: "character device",
        tarfile.BLKTYPE: "block device",
        tarfile.FIFOTYPE: "FIFO",
        b"Z": "unknown type b'Z'",
    }
    data = b"".join(header(f"special-{number}", 0, kind, VICTIM) for number, kind in enumerate(kinds))
    tree, members = unpack_with_left_out(calls, data + member("good") + END)
    assert tree == {"good": b"abc"}
    assert [member.why for member in members] == list(kinds.values())


def test_unpack_tar_file_below_a_symbolic_link_stays_inside(calls: UnpackCalls) -> None:
    link = header("output/link", 0, tarfile.SYMTYPE, "../../victim")
    tree, members = unpack_with_left_out(calls, link + member("output/link/secret", b"bad") + END)
    assert tree == {"link/secret": b"bad"}
    assert members == [LeftOutMember("output/link", "symbolic link")]


def test_unpack_tar_file_with_the_name_of_a_symbolic_link_stays_inside(calls: UnpackCalls) -> None:
    data = header("link", 0, tarfile.SYMTYPE, VICTIM) + member("link", b"bad") + END
    assert unpack_with_left_out(calls, data)[0] == {"link": b"bad"}


def test_unpack_tar_chain_of_links_beyond_the_path_limit_creates_no_link(calls: UnpackCalls) -> None:
    """The chain of CVE-2025-4517: the resolved path of the links is longer than the limit of a path."""
    folder, path, data = "d" * 247, "", b""
    for letter in "abcdefghijklmnop":
        data += pax({"path": f"{path}{folder}"}) + header("x", 0, tarfile.DIRTYPE)
        data += pax({"path": f"{path}{letter}", "linkpath": folder}) + header("x", 0, tarfile.SYMTYPE)
        path += f"{folder}/"
    chain = "/".join("abcdefghijklmnop") + "/" + "l" * 254
    data += pax({"path": chain, "linkpath": "../" * 16}) + header("x", 0, tarfile.SYMTYPE)
    data += pax({"path": "escape", "linkpath": f"{chain}/../../victim"}) + header("x", 0, tarfile.SYMTYPE)
    data += header("flag", 0, tarfile.LNKTYPE, "escape/secret") + member("flag", b"bad") + END
    unpacked = calls.unpack(data, limits=UnpackLimits(max_name_bytes=100_000))
    assert read_tree(unpacked.folder) == {"flag": b"bad"}
    assert unpacked.header.left_out == 19
    assert calls.reason_of(data) is REFUSED


HARD_LINKS = {
    "to a symbolic link": header("link", 0, tarfile.SYMTYPE, VICTIM)
    + header("hard", 0, tarfile.LNKTYPE, "link"),
    "to a missing file": header("hard", 0, tarfile.LNKTYPE, "missing"),
    "to a file outside": header("hard", 0, tarfile.LNKTYPE, VICTIM),
    "to itself": header("hard", 0, tarfile.LNKTYPE, "hard"),
    "to a later file": header("hard", 0, tarfile.LNKTYPE, "later") + member("later", b"later"),
}


@pytest.mark.parametrize("links", HARD_LINKS.values(), ids=HARD_LINKS)
def test_unpack_tar_file_with_the_name_of_a_hard_link_stays_inside(calls: UnpackCalls, links: bytes) -> None:
    """In other readers, a link to a link, and a copy in place of a link, led to files outside."""
    tree, members = unpack_with_left_out(calls, links + member("hard", b"bad") + END)
    assert tree["hard"] == b"bad"
    assert members[-1] == LeftOutMember("hard", "hard link")


def test_unpack_zip_symbolic_link_is_left_out(calls: UnpackCalls) -> None:
    target = b"../../victim"
    link = zip_entry(b"link", target, len(target), zlib.crc32(target), method=0, unix_mode=SYMLINK_MODE)
    good = zip_entry(b"link/secret", b"bad", 3, zlib.crc32(b"bad"), method=0, offset=len(link[0]))
    tree, members = unpack_with_left_out(calls, zip_archive(link, good))
    assert tree == {"link/secret": b"bad"}
    assert members == [LeftOutMember("link", "symbolic link")]


def test_unpack_tar_modes_of_the_archive_are_ignored(calls: UnpackCalls) -> None:
    data = header("folder", 0, tarfile.DIRTYPE, mode=0) + header("folder/suid", 0, mode=0o7777) + END
    folder = calls.unpack(data).folder / "folder"
    assert (folder / "suid").stat().st_mode & 0o7111 == 0
    assert folder.stat().st_mode & 0o700 == 0o700


OLD_SPARSE = patched(header(size=512, kind=tarfile.GNUTYPE_SPARSE), 483, b"20000000000\0")
SPARSE = {
    "old GNU": OLD_SPARSE + bytes(512),
    "pax 0.0": pax({"GNU.sparse.size": "9", "GNU.sparse.numblocks": "1"}) + member(),
    "pax 0.1": pax({"GNU.sparse.map": "0,3", "GNU.sparse.name": "a"}) + member(),
    "pax 1.0": pax({"GNU.sparse.major": "1", "GNU.sparse.realsize": "1099511627776"}) + member(),
    "global": pax({"GNU.sparse.major": "1"}, tarfile.XGLTYPE) + member(),
}


@pytest.mark.parametrize("data", SPARSE.values(), ids=SPARSE)
def test_unpack_tar_sparse_member_is_refused(calls: UnpackCalls, data: bytes) -> None:
    assert calls.reason_of(member("first") + data + END) is REFUSED


AMBIGUOUS = {
    "global name": pax({"path": "b"}, tarfile.XGLTYPE) + member(),
    "global size": pax({"size": "1"}, tarfile.XGLTYPE) + member(),
    "two names": pax({"path": "b"}) + long_name("c") + member(),
    "unreadable record": pax(b"11 path=bc\n" + b"x" * 2000) + member(),
    "folder with content": member("a/"),
}


@pytest.mark.parametrize("data", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_unpack_tar_ambiguous_member_is_refused(calls: UnpackCalls, data: bytes) -> None:
    assert calls.reason_of(data + END) is REFUSED


def test_unpack_tar_equal_names_in_two_headers_are_unpacked(calls: UnpackCalls) -> None:
    data = pax({"path": "b" * 150}) + long_name("b" * 150) + member() + END
    assert read_tree(calls.unpack(data).folder) == {"b" * 150: b"abc"}


HEADERS = {
    "pax": header("x", (1 << 20) + 1, tarfile.XHDTYPE) + bytes((1 << 20) + 512),
    "long name": header("x", (1 << 20) + 1, tarfile.GNUTYPE_LONGNAME) + bytes((1 << 20) + 512),
    "many in a row": pax({"comment": "x"}) * 40,
}


@pytest.mark.parametrize("data", HEADERS.values(), ids=HEADERS)
def test_unpack_tar_oversized_extended_header_is_refused(calls: UnpackCalls, data: bytes) -> None:
    assert calls.reason_of(gzip.compress(data + member() + END, 1)) is REFUSED


@pytest.mark.parametrize("size", [b"\xff" * 12, b"\x80" + b"\x7f" * 11, b"77777777777\0"])
def test_unpack_tar_size_that_the_archive_cannot_contain_is_corrupt(calls: UnpackCalls, size: bytes) -> None:
    data = patched(header(), 124, size) + bytes(512) + END
    assert calls.reason_of(data) is CORRUPT
    assert calls.reason_of(gzip.compress(data, 1)) is CORRUPT
    assert not calls.space.reserved


@pytest.mark.parametrize("size", ["99999999999999999999", "-1", "1e9", ""])
def test_unpack_tar_invalid_pax_size_is_corrupt(calls: UnpackCalls, size: str) -> None:
    assert calls.reason_of(pax({"size": size}) + member() + END) is CORRUPT


def test_unpack_more_members_than_allowed_is_refused(calls: UnpackCalls) -> None:
    limits = UnpackLimits(max_members=10)
    files = b"".join(member(f"f{number}") for number in range(11))
    folders = member("/".join("abcdefghijk"))
    repeated = header("folder", 0, tarfile.DIRTYPE) * 11
    links = header("link", 0, tarfile.SYMTYPE, "x") * 11
    for data in (files, folders, repeated, links):
        assert calls.reason_of(data + END, limits=limits) is REFUSED
    assert calls.reason_of(zipped({f"f{number}": b"" for number in range(11)}), limits=limits) is REFUSED
    assert calls.reason_of(zipped({f"f{number}": b"" for number in range(10)}), limits=limits) is None


def test_unpack_more_bytes_than_allowed_is_refused(calls: UnpackCalls) -> None:
    limits = UnpackLimits(max_bytes=5)
    tar = member("a") + member("b") + END
    assert calls.reason_of(tar, limits=limits) is REFUSED
    assert calls.reason_of(zipped({"a": b"abc", "b": b"abc"}), limits=limits) is REFUSED
    assert calls.reason_of(tar, limits=UnpackLimits(max_bytes=6)) is None


DAMAGED = {
    "not a tar": b"x" * 2048,
    "empty": b"",
    "end within data": header(size=600) + bytes(512),
    "end within a header": member() + header()[:100],
    "wrong header checksum": member() + b"y" + header()[1:] + padded(b"abc") + END,
    "extended header without a member": pax({"path": "a"}) + END,
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_unpack_damaged_tar_in_gzip_is_corrupt(calls: UnpackCalls, data: bytes) -> None:
    assert calls.reason_of(gzip.compress(data, 1)) is CORRUPT


def test_unpack_tar_without_end_mark_is_corrupt(calls: UnpackCalls) -> None:
    assert calls.reason_of(member()) is CORRUPT


def test_unpack_each_cut_of_a_gzipped_tar_is_corrupt(calls: UnpackCalls) -> None:
    data = gzip.compress(member() + END)
    for size in range(2, len(data)):
        assert calls.reason_of(data[:size]) is CORRUPT


def test_unpack_gzipped_tar_with_wrong_checksum_is_corrupt(calls: UnpackCalls) -> None:
    data = bytearray(gzip.compress(member() + END))
    data[-8] ^= 1
    assert calls.reason_of(bytes(data)) is CORRUPT
    assert calls.reason_of(gzip.compress(member() + END) + b"trailing") is CORRUPT


def test_unpack_unknown_format_is_refused(calls: UnpackCalls) -> None:
    assert calls.reason_of(b"7z\xbc\xaf\x27\x1c" + bytes(1000)) is REFUSED


ABC = zlib.crc32(b"abc")


def zip_of(size: int = 3, crc32: int = ABC, **options: int) -> bytes:
    return zip_archive(zip_entry(b"a", deflated(b"abc"), size, crc32, **options))


DAMAGED_ZIPS = {
    "wrong checksum": zip_of(crc32=1),
    "larger than stated": zip_of(size=2),
    "smaller than stated": zip_of(size=4),
    "stored with another size": zip_archive(zip_entry(b"a", b"abc", 4, ABC, method=0)),
    "invalid deflate data": zip_archive(zip_entry(b"a", b"\xff" * 9, 3, ABC)),
    "cut deflate data": zip_archive(zip_entry(b"a", deflated(b"abc" * 99)[:5], 297, 0)),
    "data behind the end": zip_archive(zip_entry(b"a", deflated(b"abc") + b"x", 3, ABC)),
    "other name in the local header": zip_of().replace(b"\0\0a", b"\0\0b", 1),
    "without directory": zip_of()[:-22],
    "cut directory": zip_of()[:-30],
    "local header outside": zip_of(offset=9999),
    "local header elsewhere": zip_of(offset=1),
}


@pytest.mark.parametrize("data", DAMAGED_ZIPS.values(), ids=DAMAGED_ZIPS)
def test_unpack_damaged_zip_is_corrupt(calls: UnpackCalls, data: bytes) -> None:
    assert calls.reason_of(data) is CORRUPT


UNSUPPORTED_ZIPS = {
    "encrypted": zip_of(flags=0x801),
    "strong encryption": zip_of(flags=0x841),
    "unknown method": zip_of(method=99),
    "folder with content": zip_archive(zip_entry(b"a/", b"abc", 3, ABC, method=0)),
    "several files": zip_of()[:-18] + struct.pack("<4H2LH", 1, 1, 1, 1, 47, 36, 0),
}


@pytest.mark.parametrize("data", UNSUPPORTED_ZIPS.values(), ids=UNSUPPORTED_ZIPS)
def test_unpack_unsupported_zip_is_refused(calls: UnpackCalls, data: bytes) -> None:
    assert calls.reason_of(data) is REFUSED


def test_unpack_zip_with_overlapping_members_is_corrupt(calls: UnpackCalls) -> None:
    """A bomb: many entries of the central directory share the data of one member."""
    entry = zip_entry(b"a", deflated(bytes(1 << 20)), 1 << 20, zlib.crc32(bytes(1 << 20)))
    assert calls.reason_of(zip_archive(entry, *[(b"", entry[1])] * 30)) is CORRUPT


def test_unpack_zip_with_a_quoted_header_is_corrupt(calls: UnpackCalls) -> None:
    """A bomb: the data of the first member contains the local header and the data of the second."""
    inner, directory = zip_entry(b"b", deflated(b"abc"), 3, ABC, offset=31)
    outer = zip_entry(b"a", inner, len(inner), zlib.crc32(inner), method=0)
    assert calls.reason_of(zip_archive(outer, (b"", directory))) is CORRUPT
