"""
Access to the files of an output directory.

A file counts as present if it is a regular file. Every function returns None for a file that is missing or
cannot be read: one unreadable file must not prevent the catalogue of the others.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bulkdl.processors.unpack.manifest import (
    LeftOutMember,
    ManifestError,
    ManifestHeader,
    UnpackedFile,
    read_entries,
    read_header,
)
from bulkdl.processors.unpack.processor import unpacked_folder_key

MAX_DOCUMENT_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class UnpackedFolder:
    """
    The unpacked members of an archive.

    Attributes:
        key: The path of the folder relative to the output directory.
        files: The members by their path relative to the folder.
    """

    key: str
    header: ManifestHeader
    files: Mapping[str, UnpackedFile]


class OutputTree:
    """
    The files of one output directory.

    Args:
        root: The output directory.
        prefix: The path of the directory of a shard with a slash at its end; empty for other directories.
            All keys of its ledger are relative to it.
        manifests: The folder with the manifests of unpacked archives.
    """

    def __init__(self, root: Path, prefix: str, manifests: Path) -> None:
        self._root = root / prefix if prefix else root
        self._folder = os.fspath(self._root)
        self.prefix = prefix
        self._manifests = manifests

    def path(self, key: str) -> Path:
        """Return the path of *key*."""
        return self._root / key

    def locate(self, key: str) -> str:
        """Return the path of *key* as text, which is faster."""
        return f"{self._folder}/{key}"

    def href(self, key: str) -> str:
        """Return *key* relative to the directory of the catalogue."""
        return self.prefix + key

    def stamp(self, key: str) -> tuple[int, int] | None:
        """Return the size and the modification time (ns) of a file."""
        try:
            found = os.stat(f"{self._folder}/{key}")  # noqa: PTH116 - called for every file, pathlib is slower
        except (OSError, ValueError):
            return None
        return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None

    def exists(self, key: str) -> bool:
        return bool(key) and self.stamp(key) is not None

    def has_unpacked_folder(self, archive_key: str) -> bool:
        """Return whether the folder for the members of an archive exists."""
        folder = unpacked_folder_key(archive_key)
        return folder is not None and os.path.isdir(f"{self._folder}/{folder}")  # noqa: PTH112 - see stamp

    def read_document(self, key: str) -> Any:
        """Return the JSON document *key*; None if it is too large or not valid JSON."""
        stamp = self.stamp(key)
        if stamp is None or stamp[0] > MAX_DOCUMENT_BYTES:
            return None
        try:
            return parse_json(self.path(key).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None

    def unpacked(self, archive_key: str) -> UnpackedFolder | None:
        """Return the unpacked members of an archive; None if its manifest is missing or invalid."""
        manifest = self._manifests / f"{archive_key}.jsonl"
        folder = unpacked_folder_key(archive_key)
        if folder is None or not self.has_unpacked_folder(archive_key):
            return None
        try:
            header = read_header(manifest)
            files = {
                entry.path: entry for entry in read_entries(manifest) if not isinstance(entry, LeftOutMember)
            }
        except (ManifestError, OSError):
            return None
        return UnpackedFolder(folder, header, files)


def parse_json(data: bytes) -> Any:
    """
    Parse a JSON document. Numbers that are not finite become None, and invalid Unicode is replaced.

    Raises:
        ValueError, RecursionError: It is not valid.
    """
    text = data.decode("utf-8-sig")
    document = json.loads(text, parse_constant=_ignore, parse_float=_parse_float)
    return clean(document) if "\\ud" in text.lower() else document


def _ignore(_constant: str) -> None:
    return None


def _parse_float(text: str) -> float | None:
    number = float(text)
    return number if abs(number) != float("inf") else None


def clean(value: Any) -> Any:
    """Return *value* with the surrogates in its text replaced, which UTF-8 cannot represent."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [clean(entry) for entry in value]
    if isinstance(value, dict):
        return {clean(key): clean(entry) for key, entry in value.items()}
    return value
