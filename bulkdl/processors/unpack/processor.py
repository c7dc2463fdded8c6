"""
The processor ``unpack``: unpacks each downloaded archive into a folder next to it.

The archives with the default names get the folder ``output``. Other archives get a folder with their own
name, because several of them can be next to each other. The archive of a job is the archive of its last task,
which is unpacked only below the task. The manifest is published after the folder: a folder without a current
manifest is unpacked again.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from bulkdl.disk import atomic_files
from bulkdl.errors import DestinationError
from bulkdl.models import Reason
from bulkdl.os_errors import map_path_errors
from bulkdl.processors.interfaces import (
    BaseProcessor,
    CompletedOutput,
    DerivedFile,
    LocalFile,
    OutputArea,
    PreparationArea,
    ProcessingSkipped,
)
from bulkdl.processors.unpack.engine import (
    ArchiveContent,
    UnpackedArchive,
    unpack_archive,
    unpack_stream,
)
from bulkdl.processors.unpack.manifest import ManifestHeader, UnpackedFile, read_entries, read_header
from bulkdl.processors.unpack.names import UnpackLimits
from bulkdl.processors.unpack.verification import find_foreign_file, is_current

NAME = "unpack"
_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
_DEFAULT_STEMS = frozenset({"final_output", "task_output"})
_DEFAULT_FOLDER = "output"


def create_processor(table: Mapping[str, Any]) -> UnpackProcessor:
    """
    Create the processor with the limits in *table*.

    Raises:
        ValueError: A key is unknown, or a value is not a positive number.
    """
    names = [field.name for field in fields(UnpackLimits)]
    for key, value in table.items():
        if key not in names:
            raise ValueError(f"unknown setting {key!r}; expected one of {', '.join(names)}")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{key}: expected a positive number, got {value!r}")
    return UnpackProcessor(UnpackLimits(**table))


def unpacked_key(record: CompletedOutput) -> str:
    """Return the key of the folder for the members of an archive, which the processor accepts."""
    key = unpacked_folder_key(record.file.key)
    assert key is not None  # noqa: S101 - the processor accepts archives only
    return key


def unpacked_folder_key(archive_key: str) -> str | None:
    """Return the key of the folder for the members of an archive; None if its suffix is not of an archive."""
    archive = PurePosixPath(archive_key)
    suffix = next((suffix for suffix in _SUFFIXES if archive.name.endswith(suffix)), None)
    if suffix is None:
        return None
    stem = archive.name.removesuffix(suffix)
    return str(archive.with_name(_DEFAULT_FOLDER if stem in _DEFAULT_STEMS else f"{stem}_unpacked"))


UNPACKED_ELSEWHERE = "the archive is also that of a part of its container, which is unpacked there"


class UnpackProcessor(BaseProcessor):
    """Unpacks archives and keeps them."""

    name = NAME
    version = 1
    requires_folders = True

    def __init__(self, limits: UnpackLimits | None = None) -> None:
        self._limits = limits or UnpackLimits()

    def accepts(self, record: CompletedOutput) -> bool:
        """Accept files with the suffix of an archive. The suffix is chosen by the content of the file."""
        return record.file.key.endswith(_SUFFIXES)

    def prepare(self, stream: BinaryIO, completed: CompletedOutput, area: PreparationArea) -> UnpackedArchive:
        """Unpack an archive that is not published yet; see ``ContentPreparer.prepare``."""
        file = completed.file
        content = ArchiveContent(file.key, file.size_bytes, file.digest)
        return unpack_stream(stream, content, area.new_path(), area, limits=self._limits, sync=False)

    async def process(
        self, file: LocalFile, record: CompletedOutput, area: OutputArea
    ) -> Sequence[DerivedFile]:
        """Unpack one archive; see ``Processor.process``."""
        if not record.output.parent and await area.run(_has_task_archive, file.path):
            raise ProcessingSkipped(UNPACKED_ELSEWHERE)
        key = unpacked_key(record)
        manifest = area.state_folder / f"{record.file.key}.jsonl"
        folder = file.path.with_name(PurePosixPath(key).name)
        if not await area.run(is_current, folder, manifest, record.file.digest):
            unpacked = await self._unpack(file, record, area)
            await area.run(_check_existing_folder, folder, manifest, unpacked)
            await area.publish_folder(unpacked.folder, key, replace=True)
            await area.run(_publish_manifest, unpacked.manifest, manifest)
        return await area.run(list_derived_files, key, manifest)

    async def _unpack(self, file: LocalFile, record: CompletedOutput, area: OutputArea) -> UnpackedArchive:
        """Return the members that were unpacked during the inspection of the archive, or unpack it."""
        prepared = area.prepared
        if isinstance(prepared, UnpackedArchive) and prepared.header.archive == record.file.digest:
            return prepared
        return await area.run(
            unpack_archive,
            file.path,
            record.file.digest,
            area.new_path(),
            area,
            limits=self._limits,
            sync=False,  # the area syncs the folder and the manifest before it publishes the folder
        )


def _has_task_archive(stop: threading.Event, archive: Path) -> bool:
    """Return whether *archive* has a second name in its folder or in a folder next to it."""
    del stop
    with map_path_errors(archive):
        if archive.stat().st_nlink == 1:
            return False
        pattern = f"*{archive.suffix}"
        others = (*archive.parent.glob(pattern), *archive.parent.glob(f"*/{pattern}"))
        return any(path.samefile(archive) for path in others if path != archive)


def _check_existing_folder(
    stop: threading.Event, folder: Path, manifest: Path, unpacked: UnpackedArchive
) -> None:
    """
    Check that the folder to replace contains only files that bulkdl unpacked.

    Raises:
        DestinationError: PATH_BLOCKED; it is not a folder, or it contains another file.
    """
    del stop
    with map_path_errors(folder):
        try:
            mode = folder.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            raise DestinationError(Reason.PATH_BLOCKED, f"{folder}: is not a folder")
        foreign = find_foreign_file(folder, manifest, unpacked.manifest)
    if foreign is not None:
        raise DestinationError(
            Reason.PATH_BLOCKED, f"{folder}: contains {foreign[:200]!r}, which is not a file of the archive"
        )


def _publish_manifest(stop: threading.Event, path: Path, manifest: Path) -> None:
    del stop
    with map_path_errors(manifest):
        atomic_files.publish(path, manifest)


def list_derived_files(stop: threading.Event, key: str, manifest: Path) -> list[DerivedFile]:
    """Return the folder *key*, which counts no bytes, and the files in it."""
    del stop
    with map_path_errors(manifest):
        header = read_header(manifest)
        entries = (entry for entry in read_entries(manifest) if isinstance(entry, UnpackedFile))
        members = [DerivedFile(f"{key}/{entry.path}", entry.size_bytes, entry.crc32c) for entry in entries]
    return [DerivedFile(key, 0, detail=_describe(header)), *members]


def _describe(header: ManifestHeader) -> str:
    left_out = f"; left out (links, devices): {header.left_out}" if header.left_out else ""
    return f"files: {header.files}{left_out}"
