"""Random sequences of hostile members: the result equals a simple model, and nothing outside changes."""

from __future__ import annotations

import gzip
import tarfile
import unicodedata
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkdl.models import Reason
from support.archive_bytes import END, header, member, pax
from support.unpack_calls import UnpackCalls, read_tree, snapshot

PARTS = [
    "a",
    "A",
    "b",
    "..",
    ".",
    "",
    "\u00e9",
    "e\u0301",
    "x" * 300,
    "n\nl",
    "output",
    "victim",
    "c\\d",
    "\udcff",
]
NAMES = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("/".join)
TARGETS = st.sampled_from(["/", "..", "../../victim", "../../victim/secret", "a", "output/a"])
LINKS = (tarfile.SYMTYPE, tarfile.LNKTYPE)
OTHERS = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)


@dataclass(frozen=True)
class Member:
    name: str
    kind: bytes
    target: str
    data: bytes

    def encode(self) -> bytes:
        data = self.data if self.kind == tarfile.REGTYPE else b""
        return pax({"path": self.name}) + member("x", data, self.kind, self.target)


MEMBERS = st.builds(
    Member,
    NAMES,
    st.sampled_from([tarfile.REGTYPE] * 4 + [tarfile.DIRTYPE, *LINKS, *OTHERS]),
    TARGETS,
    st.binary(max_size=20),
)


def fold(path: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())


class RefusedError(Exception):
    """The archive must be refused."""


def split(name: str) -> list[str]:
    parts = name.split("/")
    is_safe = not name.startswith("/") and ".." not in parts and name.isprintable() and "\\" not in name
    if not is_safe or any(len(part.encode()) > 255 for part in parts):
        raise RefusedError
    return [part for part in parts if part not in ("", ".")]


class Model:
    """The files that the unpacker must write."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.paths: dict[str, tuple[str, bool]] = {}  # folded path: spelling and whether it is a file

    def add(self, each: Member) -> None:
        if each.kind == tarfile.DIRTYPE or (each.kind == tarfile.REGTYPE and each.name.endswith("/")):
            if each.kind == tarfile.REGTYPE and each.data:
                raise RefusedError
            self.claim(split(each.name), is_file=False)
        elif each.kind == tarfile.REGTYPE:
            parts = split(each.name)
            if not parts or "/".join(parts) in self.files:
                raise RefusedError
            self.claim(parts, is_file=True)
            self.files["/".join(parts)] = each.data

    def claim(self, parts: list[str], *, is_file: bool) -> None:
        for depth in range(1, len(parts) + 1):
            path, is_leaf = "/".join(parts[:depth]), is_file and depth == len(parts)
            if self.paths.setdefault(fold(path), (path, is_leaf)) != (path, is_leaf):
                raise RefusedError


def expect(members: list[Member]) -> dict[str, bytes] | None:
    """Return the files of the model; None if the archive must be refused."""
    model = Model()
    try:
        for each in members:
            model.add(each)
    except RefusedError:
        return None
    return model.files


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(MEMBERS, max_size=6), st.booleans())
def test_unpack_random_members_equals_the_model(
    calls: UnpackCalls, members: list[Member], is_compressed: bool
) -> None:
    before = snapshot(calls.victim)
    data = header("first", 0, tarfile.DIRTYPE) + b"".join(each.encode() for each in members) + END
    reason = calls.reason_of(gzip.compress(data, 1) if is_compressed else data)
    expected = expect(members)
    if expected is None:
        assert reason is Reason.REFUSED_CONTENT
    else:
        assert reason is None
        assert read_tree(calls.root / f"work/{calls.count}/tree") == expected
    assert snapshot(calls.victim) == before
