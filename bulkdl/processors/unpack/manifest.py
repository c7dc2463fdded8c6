"""
The manifest of an unpacked archive: a JSON object in each line.

The first line describes the archive and the totals. Each further line is a file with its checksums, or a
member that was left out. The manifest is written next to the new folder and published after it, so an
existing manifest describes a folder that was complete.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bulkdl.models import Digest

FORMAT = "bulkdl-unpacked"
VERSION = 1
_MAX_NAME_CHARS = 1024
_BUFFER_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class ManifestHeader:
    """
    The first line of a manifest.

    Attributes:
        archive: The checksum of the archive.
        archive_bytes: The size of the archive.
        folder: The folder of the archive that contains all members and is not a part of their paths.
        files: The number of unpacked files.
        size_bytes: The size of all unpacked files.
        left_out: The number of members that were not unpacked.
    """

    archive: Digest
    archive_bytes: int
    folder: str
    files: int
    size_bytes: int
    left_out: int


@dataclass(frozen=True, slots=True)
class UnpackedFile:
    """A file; *path* is relative to the unpacked folder, and *sha256* is hexadecimal."""

    path: str
    size_bytes: int
    crc32c: Digest
    sha256: str


@dataclass(frozen=True, slots=True)
class LeftOutMember:
    """A link, a device or another member that is not a file or a folder."""

    name: str
    why: str


class ManifestError(Exception):
    """A manifest is missing or invalid."""


class ManifestWriter:
    """
    Collects the lines of a manifest in the new file *draft*, in bounded memory.

    Use it as a context manager, which closes the file.
    """

    def __init__(self, draft: Path) -> None:
        self._draft = draft
        self._stream = draft.open("xb", buffering=_BUFFER_BYTES)
        self.files = self.size_bytes = self.left_out = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def add_file(self, path: str, size_bytes: int, crc32c: int, sha256: str) -> None:
        self.files, self.size_bytes = self.files + 1, self.size_bytes + size_bytes
        self._stream.write(
            b'{"path": %s, "size_bytes": %d, "crc32c": "%s", "sha256": "%s"}\n'
            % (json.dumps(path).encode(), size_bytes, encode_crc32c(crc32c).value.encode(), sha256.encode())
        )

    def add_left_out(self, name: str, why: str) -> None:
        self.left_out += 1
        self._stream.write(_line({"left_out": name[:_MAX_NAME_CHARS], "why": why}))

    def write(self, path: Path, archive: Digest, archive_bytes: int, folder: str) -> ManifestHeader:
        """
        Write the manifest to the new file *path*, without fsync, and remove the draft.

        Args:
            folder: The common first part of all paths, which is removed; empty to keep the paths.
        """
        self._stream.close()
        header = ManifestHeader(archive, archive_bytes, folder, self.files, self.size_bytes, self.left_out)
        prefix = b'{"path": "%s/' % json.dumps(folder)[1:-1].encode() if folder else b""
        with self._draft.open("rb") as draft, path.open("xb", buffering=_BUFFER_BYTES) as stream:
            stream.write(_line(_encode_header(header)))
            for line in draft:
                stream.write(
                    b'{"path": "' + line[len(prefix) :] if prefix and line.startswith(prefix) else line
                )
        self._draft.unlink()
        return header


def encode_crc32c(crc32c: int) -> Digest:
    """Return the digest of a CRC32C value."""
    return Digest("crc32c", base64.b64encode(crc32c.to_bytes(4, "big")).decode())


def read_header(path: Path) -> ManifestHeader:
    """
    Read the first line of a manifest.

    Raises:
        ManifestError: The manifest is missing, invalid, or has another version.
        OSError: It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return _decode_header(json.loads(stream.readline()))
    except FileNotFoundError:
        raise ManifestError(f"{path}: not found") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path}: invalid manifest ({error!r})") from None


def read_entries(path: Path) -> Iterator[UnpackedFile | LeftOutMember]:
    """
    Yield the files and the left-out members of a manifest.

    Raises:
        ManifestError: A line is invalid.
        OSError: The manifest cannot be read.
    """
    with path.open("rb") as stream:
        stream.readline()
        try:
            for line in stream:
                yield _decode_entry(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestError(f"{path}: invalid manifest ({error!r})") from None


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"


def _encode_header(header: ManifestHeader) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "archive": {str(header.archive.algorithm): header.archive.value, "size_bytes": header.archive_bytes},
        "folder": header.folder,
        "files": header.files,
        "size_bytes": header.size_bytes,
        "left_out": header.left_out,
    }


def _decode_header(document: dict[str, Any]) -> ManifestHeader:
    if document["format"] != FORMAT or document["version"] != VERSION:
        raise ValueError(f"expected {FORMAT} {VERSION}")
    archive = dict(document["archive"])
    archive_bytes = int(archive.pop("size_bytes"))
    ((algorithm, value),) = archive.items()
    return ManifestHeader(
        Digest(algorithm, value),
        archive_bytes,
        str(document["folder"]),
        int(document["files"]),
        int(document["size_bytes"]),
        int(document["left_out"]),
    )


def _decode_entry(document: dict[str, Any]) -> UnpackedFile | LeftOutMember:
    if "left_out" in document:
        return LeftOutMember(str(document["left_out"]), str(document["why"]))
    return UnpackedFile(
        str(document["path"]),
        int(document["size_bytes"]),
        Digest("crc32c", str(document["crc32c"])),
        str(document["sha256"]),
    )
