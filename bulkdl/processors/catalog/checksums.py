"""
Compute the SHA-256 of all files of a catalogue, and write ``SHA256SUMS`` in the format of ``sha256sum``.

Paths are relative to the output directory, where ``sha256sum -c catalog/SHA256SUMS`` is run. The unpacker has
computed the checksums of unpacked files. Other files are read once: the cache of the catalogue keeps their
checksums as long as their container does not change.
"""

from __future__ import annotations

import hashlib
import json
import stat
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bulkdl.concurrency import open_stoppable
from bulkdl.os_errors import map_path_errors
from bulkdl.processors.catalog.facts import CatalogContainer, CatalogEntry, CatalogFile, CatalogInfo
from bulkdl.processors.catalog.unchanged import TextWriter

FILE = "SHA256SUMS"
_BLOCK_BYTES = 1 << 20
_SHA256 = "sha256="


def add_checksums(
    stop: threading.Event, entries: Sequence[CatalogEntry], output: Path
) -> tuple[CatalogEntry, ...]:
    """
    Return *entries* with the SHA-256 of each file.

    Raises:
        DestinationError: A file cannot be read.
        ReadStopped: *stop* is set.
    """
    known: dict[str, str] = {}  # the features of a task share its archive
    return tuple(
        replace(entry, files=tuple(_add_checksum(stop, file, output, known) for file in entry.files))
        for entry in entries
    )


def _add_checksum(
    stop: threading.Event, file: CatalogFile, output: Path, known: dict[str, str]
) -> CatalogFile:
    if file.checksum.startswith(_SHA256):
        return file
    if file.href not in known:
        known[file.href] = _compute(stop, output / file.href)
    digest = known[file.href]
    return replace(file, checksum=_SHA256 + digest) if digest else file


def _compute(stop: threading.Event, path: Path) -> str:
    """Return the checksum of a file; empty if it is no longer there."""
    digester = hashlib.sha256()
    with map_path_errors(path):
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                return ""
            with open_stoppable(path, stop) as stream:
                while block := stream.read(_BLOCK_BYTES):
                    digester.update(block)
        except FileNotFoundError:
            return ""
    return digester.hexdigest()


class ChecksumsWriter(TextWriter):
    """Writes ``SHA256SUMS``. Files without a SHA-256 are left out."""

    format = "checksums"

    def __init__(self, info: CatalogInfo) -> None:
        self._stream = (info.folder / FILE).open("w", encoding="utf-8")

    def render(self, container: CatalogContainer) -> str:
        digests = {
            file.href: file.checksum.removeprefix(_SHA256)
            for entry in container.entries
            for file in entry.files
            if file.checksum.startswith(_SHA256)
        }
        return json.dumps([_line(digest, href) for href, digest in digests.items()])

    def write(self, text: str) -> None:
        self._stream.writelines(json.loads(text))

    def finish(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


def _line(digest: str, href: str) -> str:
    """Return a line; ``sha256sum`` marks a name with escape sequences by a backslash at the start."""
    escaped = href.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == href else chr(92)}{digest}  {escaped}\n"
