"""
Write a catalogue aside and publish it as a whole.

The new catalogue is in a work folder in the state folder of the output directory. Its folder and that of the
old catalogue exchange their names. A process that is killed leaves only its work folder, which the next
catalogue removes. One process at a time writes a catalogue of a directory: it holds a lock that ends with it.
If the file system does not support locks, another process may remove the folder of this one. Then this
process fails, and the published catalogue is complete.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from bulkdl.concurrency import check_stop
from bulkdl.disk import atomic_files
from bulkdl.errors import DestinationError
from bulkdl.log import get_logger
from bulkdl.models import Reason

log = get_logger(__name__)

CATALOG_FOLDER, INDEX, MARKER = "catalog", "index.html", "bulkdl.json"
GEOREFERENCE_SUFFIX = ".aux.xml"
_CACHE = "entries.jsonl"
_FORMAT = "bulkdl-catalog"
# The page contains this text in its first bytes.
GENERATOR = b'<meta name="generator" content="bulkdl'
_HEAD_BYTES = 4096
_LOCK_INTERVAL_S = 0.1


class WorkFolder:
    """
    The place of a new catalogue.

    Args:
        output: The output directory.
        work: The folder for all catalogues that are being written; on the same file system as *output*.
    """

    def __init__(self, output: Path, work: Path) -> None:
        self._output = output
        self._work = work
        self.build = secrets.token_hex(8)
        self._folder = work / f"new-{self.build}"
        self.catalog = self._folder / CATALOG_FOLDER
        self.index = self._folder / INDEX
        self.cache = self._folder / _CACHE
        self.previous_cache = work / _CACHE
        self._lock = -1

    @property
    def published(self) -> Path:
        """The folder of the published catalogue."""
        return self._output / CATALOG_FOLDER

    @property
    def published_index(self) -> Path:
        return self._output / INDEX

    def prepare(self, stop: threading.Event) -> None:
        """
        Wait until no other process writes a catalogue of this directory, and create the work folder.

        Raises:
            DestinationError: PATH_BLOCKED; the names of the catalogue belong to other files.
            OSError: A folder cannot be written.
            ReadStopped: *stop* is set.
        """
        self._check_targets()
        self._work.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._work, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):  # not every file system has locks
            self._acquire_lock(stop)
        for abandoned in self._work.glob("new-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        self.catalog.mkdir(parents=True)

    def _acquire_lock(self, stop: threading.Event) -> None:
        is_waiting = False
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not is_waiting:
                    log.info("catalog.waiting", path=str(self._work))
                is_waiting = True
                stop.wait(_LOCK_INTERVAL_S)
                check_stop(stop)
            else:
                return

    def _check_targets(self) -> None:
        folder = self.published
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise DestinationError(Reason.PATH_BLOCKED, f"{folder}: is not a folder")
        if folder.is_dir() and read_marker(folder) is None and any(folder.iterdir()):
            raise DestinationError(Reason.PATH_BLOCKED, f"{folder}: exists and is not a catalogue of bulkdl")

    def check_index(self) -> None:
        """
        Check that the page may replace an existing file.

        Raises:
            DestinationError: PATH_BLOCKED; the file is not a page of bulkdl.
        """
        if self.published_index.exists() and not self._has_own_index():
            raise DestinationError(
                Reason.PATH_BLOCKED, f"{self.published_index}: exists and is not a page of bulkdl"
            )

    def _has_own_index(self) -> bool:
        try:
            with self.published_index.open("rb") as stream:
                return GENERATOR in stream.read(_HEAD_BYTES)
        except OSError:
            return False

    def publish(self, marker: dict[str, Any], *, sync: bool) -> None:
        """
        Publish the catalogue, then the page and the cache.

        Args:
            marker: Facts about the catalogue, which ``bulkdl.json`` contains.
        """
        document = {"format": _FORMAT, "version": 1, "build": self.build, **marker}
        (self.catalog / MARKER).write_text(json.dumps(document, indent=1), encoding="utf-8")
        if sync:
            atomic_files.sync_file_system(self._folder)
        if not self.published.exists():
            self.catalog.rename(self.published)
        elif not atomic_files.exchange_folders(self.catalog, self.published):
            self.published.rename(self._folder / "old")
            self.catalog.rename(self.published)
        if self.index.exists():
            self.index.replace(self.published_index)
        elif self._has_own_index():
            self.published_index.unlink()  # the page belongs to the old catalogue
        self.cache.replace(self.previous_cache)
        if sync:
            atomic_files.sync_folder(self._output)

    def close(self) -> None:
        """Remove the work folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def read_marker(folder: Path) -> dict[str, Any] | None:
    """Return the facts about the catalogue in *folder*; None if it is not a catalogue of bulkdl."""
    try:
        document = json.loads((folder / MARKER).read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and document.get("format") == _FORMAT else None


def has_catalogue(output: Path | str) -> bool:
    """Return whether *output* is a local directory with a catalogue of bulkdl."""
    return isinstance(output, Path) and read_marker(output / CATALOG_FOLDER) is not None


def is_part_of_catalogue(key: str) -> bool:
    """Return whether the file *key* of a directory with a catalogue belongs to it, or is a georeference."""
    return key == INDEX or key.startswith(f"{CATALOG_FOLDER}/") or key.endswith(GEOREFERENCE_SUFFIX)
