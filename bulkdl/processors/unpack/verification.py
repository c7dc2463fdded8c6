"""Compare an unpacked folder with its manifest."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from bulkdl.concurrency import check_stop
from bulkdl.models import Digest
from bulkdl.processors.unpack.manifest import (
    LeftOutMember,
    ManifestError,
    UnpackedFile,
    encode_crc32c,
    read_entries,
    read_header,
)

_BLOCK_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class MemberProblem:
    """A file of the manifest that is missing or differs; *problem* is one line for the user."""

    path: str
    problem: str


def find_problems(
    stop: threading.Event, folder: Path, manifest: Path, *, deep: bool = False
) -> Iterator[MemberProblem]:
    """
    Yield the files that are missing or have another size; with *deep*, or another checksum.

    Raises:
        ReadStopped: *stop* is set.
        ManifestError: The manifest is missing or invalid.
        OSError: A file cannot be read.
    """
    read_header(manifest)
    for entry in read_entries(manifest):
        check_stop(stop)
        if isinstance(entry, LeftOutMember):
            continue
        problem = _find_problem(stop, folder / entry.path, entry, deep=deep)
        if problem:
            yield MemberProblem(entry.path, problem)


def is_current(stop: threading.Event, folder: Path, manifest: Path, archive: Digest) -> bool:
    """
    Return whether *folder* was unpacked from the archive with the checksum *archive* and has all its files.

    The checksums of the files are compared. An invalid manifest is not current.
    """
    try:
        if read_header(manifest).archive != archive:
            return False
        return next(find_problems(stop, folder, manifest, deep=True), None) is None
    except ManifestError:
        return False


def find_foreign_file(folder: Path, *manifests: Path) -> str | None:
    """
    Return the path of a file in *folder* that none of the *manifests* contains, relative to it; None without.

    A user or another program created it, so *folder* must not be replaced. Manifests that are missing or
    invalid are ignored.
    """
    known = {_digest(path) for manifest in manifests for path in _read_paths(manifest)}
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                path = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{path}/")
                elif _digest(path) not in known:
                    return path
    return None


def _read_paths(manifest: Path) -> Iterator[str]:
    with suppress(ManifestError, FileNotFoundError):
        read_header(manifest)
        for entry in read_entries(manifest):
            if isinstance(entry, UnpackedFile):
                yield entry.path


def _digest(path: str) -> bytes:
    """Return a short digest: a set of the paths themselves could need much more memory."""
    return hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _find_problem(stop: threading.Event, path: Path, entry: UnpackedFile, *, deep: bool) -> str:
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "not found"
    if not stat.S_ISREG(found.st_mode):
        return "not a regular file"
    if found.st_size != entry.size_bytes:
        return f"unexpected size: {found.st_size} bytes, expected {entry.size_bytes}"
    if deep and encode_crc32c(_read_crc32c(stop, path)) != entry.crc32c:
        return f"checksum mismatch: expected {entry.crc32c}"
    return ""


def _read_crc32c(stop: threading.Event, path: Path) -> int:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        checksum = 0
        while block := os.read(handle, _BLOCK_BYTES):
            check_stop(stop)
            checksum = google_crc32c.extend(checksum, block)
        return checksum
    finally:
        os.close(handle)
