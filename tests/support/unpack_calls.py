"""Calls of the unpacker next to a victim folder, which must never change."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bulkdl.archives.gzip_reader import InflateLibrary
from bulkdl.errors import ProcessingError
from bulkdl.models import Digest, Reason
from bulkdl.processors.unpack.engine import UnpackedArchive, unpack_archive

DIGEST = Digest("crc32c", "AAAAAA==")


@dataclass
class CountedSpace:
    """Records the reservations of one call."""

    reserved: list[int] = field(default_factory=list)
    consumed_bytes: int = 0

    def reserve(self, size_bytes: int) -> None:
        self.reserved.append(size_bytes)

    def consume(self, size_bytes: int) -> None:
        self.consumed_bytes += size_bytes


@dataclass
class UnpackCalls:
    """
    Unpacks archives into folders below *root*.

    Attributes:
        victim: A folder next to the unpacked folders, with files that hostile archives attack.
    """

    root: Path
    library: InflateLibrary
    space: CountedSpace = field(default_factory=CountedSpace)
    count: int = 0

    @property
    def victim(self) -> Path:
        return self.root / "victim"

    def unpack(self, data: bytes, **options: Any) -> UnpackedArchive:
        self.count += 1
        archive = self.root / f"archive-{self.count}"
        archive.write_bytes(data)
        options = {"stop": threading.Event(), "sync": False, "library": self.library} | options
        stop = options.pop("stop")
        return unpack_archive(stop, archive, DIGEST, self.root / f"work/{self.count}", self.space, **options)

    def reason_of(self, data: bytes, **options: Any) -> Reason | None:
        """Unpack *data*; check that a failure leaves nothing; return its reason, or None if it succeeded."""
        try:
            self.unpack(data, **options)
        except ProcessingError as failure:
            assert not (self.root / f"work/{self.count}").exists()
            return failure.reason
        return None


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return inode, mode, links, time, link target and content of everything below *folder*."""
    return {
        str(path.relative_to(folder)): (*_identity(path), _content(path))
        for path in [folder, *sorted(folder.rglob("*"))]
    }


def _identity(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    return status.st_ino, status.st_mode, status.st_nlink, status.st_mtime_ns


def _content(path: Path) -> object:
    if path.is_symlink():
        return path.readlink()
    return path.read_bytes() if path.is_file() else sorted(path.iterdir())


def read_tree(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below *folder*, which must contain only files and folders."""
    found = {}
    for path in folder.rglob("*"):
        assert not path.is_symlink()
        assert path.is_dir() or path.is_file()
        if path.is_file():
            assert path.stat().st_nlink == 1
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found
