"""
Restore the records of unpacked archives from their manifests, for a rebuild.

With ``--unpack replace``, an archive is deleted after it was unpacked. Its manifest contains its checksum and
those of its members. If all members are there, the archive counts as present.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection

from bulkdl.destinations.interfaces import FolderStore
from bulkdl.ledger.derived_queries import DerivedRow, ProcessedRow, find_pending, record_processed
from bulkdl.log import get_logger
from bulkdl.models import CommittedFile, Digest, Output, Validator
from bulkdl.processors.unpack.manifest import ManifestError, ManifestHeader, read_header
from bulkdl.processors.unpack.processor import (
    NAME,
    UNPACKED_ELSEWHERE,
    UnpackProcessor,
    list_derived_files,
    unpacked_folder_key,
)
from bulkdl.processors.unpack.verification import find_problems

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RestoredArchive:
    """
    An archive whose members are complete.

    Attributes:
        file: The archive, which can be deleted.
        files: The members. Empty for an archive that is the same object as another one with members.
    """

    output: Output
    file: CommittedFile
    files: tuple[DerivedRow, ...] = ()


class DamagedMemberError(Exception):
    """A member is missing or differs from the manifest. *key* is its key."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key = key


class UnpackedArchives:
    """
    The manifests of one state directory.

    Args:
        stop: Ends the computation of checksums when it is set.
    """

    def __init__(self, folders: FolderStore, state_path: Path, stop: threading.Event) -> None:
        self._folders = folders
        self._manifests = state_path / "processors" / NAME
        self._stop = stop

    def restore(self, output: Output, key: str, digest: Digest | None = None) -> RestoredArchive | None:
        """
        Return the archive *key*; None if it has no manifest. Blocks.

        Args:
            digest: The checksum of the archive; None if it is deleted. The manifest must have the same one.

        Raises:
            DamagedMemberError: A member is missing or damaged.
            OSError: The manifest or a member cannot be read.
        """
        folder_key = unpacked_folder_key(key)
        manifest = self._manifests / f"{key}.jsonl"
        if folder_key is None:
            return None
        folder = self._folders.locate(folder_key)
        try:
            header = read_header(manifest)
            if digest is not None and header.archive != digest:
                return None
            for problem in find_problems(self._stop, folder, manifest, deep=True):
                raise DamagedMemberError(f"{folder_key}/{problem.path}", problem.problem)
            members = list_derived_files(self._stop, folder_key, manifest)
        except ManifestError:
            return None
        rows = tuple(DerivedRow(each.key, each.size_bytes, each.digest, each.detail) for each in members)
        return RestoredArchive(output, _describe_archive(key, header), rows)

    def report_missing(self, keys: Sequence[str]) -> None:
        """Log that an archive cannot be restored, if one of its possible *keys* has an unpacked folder."""
        for folder_key in filter(None, map(unpacked_folder_key, keys)):
            if self._folders.locate(folder_key).is_dir():
                hint = "the next run downloads the archive again"
                log.warning("archive.not_restored", key=folder_key, detail="no valid manifest", hint=hint)
                return


def _describe_archive(key: str, header: ManifestHeader) -> CommittedFile:
    return CommittedFile(key, header.archive_bytes, header.archive, Validator(), None)


def record_archives(connection: Connection, archives: Sequence[RestoredArchive]) -> None:
    """Record the members of *archives*, which are recorded as completed."""
    version = UnpackProcessor.version
    for archive in archives:
        pending = find_pending(connection, archive.output, NAME, version, include_failed=True)
        if pending is None:
            continue
        state, detail = ("completed", "") if archive.files else ("skipped", UNPACKED_ELSEWHERE)
        digest = archive.file.digest
        record_processed(
            connection, ProcessedRow(pending.row_id, NAME, version, state, digest, detail, archive.files)
        )
