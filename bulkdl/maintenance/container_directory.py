"""Read the documents and output files of one container for a rebuild."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from bulkdl.destinations.interfaces import Destination, NotAnObjectError, ObjectInfo
from bulkdl.errors import ApiError, DestinationError, TransferError
from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.maintenance.file_checks import describe_read_error, digest_of, find_objects
from bulkdl.maintenance.unpacked_archives import DamagedMemberError, RestoredArchive, UnpackedArchives
from bulkdl.models import (
    CommittedFile,
    Digest,
    Outcome,
    Output,
    Reason,
    Result,
    Validator,
)
from bulkdl.report.verification import FileState, Finding
from bulkdl.source_spec import HEAD_BYTES, kind_spec
from bulkdl.sources.interfaces import ContainerKey, DocumentMissingError, SourceLayout

_NO_DIGEST = Digest("crc32c", "")


@dataclass(slots=True)
class RebuiltContainer:
    """
    One container, read from its documents and files.

    Attributes:
        results: The output files that were verified.
        findings: The output files that are damaged or unreadable.
        archives: The archives whose unpacked members are complete.
    """

    listing: ContainerListing
    results: list[Result] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    archives: list[RestoredArchive] = field(default_factory=list)


class ContainerDirectoryReader:
    """Reads the documents and files of containers."""

    def __init__(self, destination: Destination, state_path: Path, stop: threading.Event) -> None:
        """After *stop*, the computation of a digest ends with the current block."""
        self._destination = destination
        self._stop = stop
        folders = destination.folders
        self._unpacked = UnpackedArchives(folders, state_path, stop) if folders is not None else None

    async def read(self, layout: SourceLayout, container: ContainerKey) -> RebuiltContainer:
        """
        Read the container with the document *container*.

        Raises:
            ApiError: A document is missing or not valid.
            OSError, DestinationError: A document cannot be read.
        """
        listing = await asyncio.to_thread(
            layout.source_type.read_listing, container, layout.templates, self._read_document
        )
        rebuilt = RebuiltContainer(listing)
        candidates = [(planned, list(_candidate_keys(planned, layout))) for planned in listing.outputs]
        infos = await find_objects(self._destination, [key for _, keys in candidates for key in keys])
        await asyncio.to_thread(self._add_outputs, candidates, infos, rebuilt)
        return rebuilt

    def _read_document(self, key: str) -> bytes:
        try:
            with self._destination.open_reader(key) as stream:
                return stream.read()
        except NotAnObjectError as error:
            raise ApiError(Reason.INVALID_RESPONSE, f"{key}: {error.strerror}") from None
        except FileNotFoundError:
            raise DocumentMissingError(Reason.INVALID_RESPONSE, f"{key}: not found") from None

    def _add_outputs(
        self,
        candidates: Sequence[tuple[PlannedOutput, Sequence[str]]],
        infos: Mapping[str, ObjectInfo],
        rebuilt: RebuiltContainer,
    ) -> None:
        """Add the files of the listed outputs to *rebuilt*; blocks."""
        for planned, keys in candidates:
            self._add_output(planned.output, keys, infos, rebuilt)
        if self._unpacked is not None:
            self._add_unpacked(self._unpacked, candidates, rebuilt)

    def _add_unpacked(
        self,
        unpacked: UnpackedArchives,
        candidates: Sequence[tuple[PlannedOutput, Sequence[str]]],
        rebuilt: RebuiltContainer,
    ) -> None:
        """Add the members of archives, and the archives that were deleted after they were unpacked."""
        for result in rebuilt.results:
            assert result.file is not None  # noqa: S101 - only files are results
            with suppress(DamagedMemberError, OSError):  # they are unpacked again
                archive = unpacked.restore(result.output, result.file.key, result.file.digest)
                rebuilt.archives += [archive] if archive else []
        known = {result.output for result in rebuilt.results} | {each.output for each in rebuilt.findings}
        missing = [(planned, keys) for planned, keys in candidates if planned.output not in known]
        replaced: dict[str, CommittedFile] = {}  # by identity
        for planned, keys in missing:
            archive = self._find_replaced(unpacked, planned.output, keys, rebuilt)
            if archive is not None:
                known.add(planned.output)
                self._add_archive(archive, rebuilt)
                replaced[planned.identity] = archive.file
        for planned, keys in missing:
            same = replaced.get(planned.identity) if planned.identity else None
            if same is not None and planned.output not in known:
                key = next(
                    (key for key in keys if key.endswith(PurePosixPath(same.key).suffixes[-1])), keys[0]
                )
                self._add_archive(RestoredArchive(planned.output, replace(same, key=key)), rebuilt)

    def _find_replaced(
        self, unpacked: UnpackedArchives, output: Output, keys: Sequence[str], rebuilt: RebuiltContainer
    ) -> RestoredArchive | None:
        """Return the deleted archive of *output*. Add a finding if one of its members is damaged."""
        for key in keys:
            try:
                archive = unpacked.restore(output, key)
            except DamagedMemberError as error:
                rebuilt.findings.append(Finding(error.key, FileState.DAMAGED, str(error), output))
                return None
            except OSError as error:
                detail = error.strerror or str(error)
                rebuilt.findings.append(Finding(key, FileState.UNREADABLE, detail, output))
                return None
            if archive is not None:
                return archive
        unpacked.report_missing(keys)
        return None

    def _add_archive(self, archive: RestoredArchive, rebuilt: RebuiltContainer) -> None:
        rebuilt.archives.append(archive)
        rebuilt.results.append(Result(archive.output, Outcome.COMPLETED, Reason.UP_TO_DATE, archive.file))

    def _add_output(
        self,
        output: Output,
        keys: Sequence[str],
        infos: Mapping[str, ObjectInfo],
        rebuilt: RebuiltContainer,
    ) -> None:
        """Add the file of *output* to *rebuilt*: as a result if it is valid, otherwise as a finding."""
        for key in keys:
            try:
                file = self._verify_file(output.kind, key, infos.get(key))
            except TransferError as failure:
                rebuilt.findings.append(Finding(key, FileState.DAMAGED, failure.detail, output))
            except (OSError, DestinationError) as error:
                state, detail = describe_read_error(error)
                if _is_device(error):
                    state = FileState.DAMAGED
                if state is not FileState.MISSING:
                    rebuilt.findings.append(Finding(key, state, detail, output))
            else:
                rebuilt.results.append(Result(output, Outcome.COMPLETED, Reason.UP_TO_DATE, file))
                return

    def _verify_file(self, kind: str, key: str, info: ObjectInfo | None) -> CommittedFile:
        """
        Verify the structure of the object *key* and compute its digest.

        Raises:
            TransferError: The object is damaged, or its content does not match its name.
            NotAnObjectError: *key* is a link (ELOOP), or names something that is not an object.
            OSError, DestinationError: The object cannot be read.
        """
        checks = kind_spec(kind).load_checks(key.rpartition("/")[2])
        with self._destination.open_reader(key) as stream:
            if info is None:
                raise NotAnObjectError(errno.ELOOP, "not a regular file", key)
            suffix = checks.check_head(stream.read(HEAD_BYTES), "image/", has_digest=False)
            if not key.endswith(suffix):
                raise TransferError(
                    Reason.UNEXPECTED_CONTENT, f"unexpected content: the file is a {suffix} archive"
                )
            stream.seek(0)
            checks.validate(stream, info.size_bytes)
        with self._destination.open_reader(key) as stream:
            digest = digest_of(stream, _NO_DIGEST, self._stop)
        return CommittedFile(key, info.size_bytes, digest, Validator(), None, info.version)


def _candidate_keys(planned: PlannedOutput, layout: SourceLayout) -> Iterator[str]:
    """Yield the keys that the file of *planned* can have; the content decides the suffix."""
    return map(layout.make_key(planned), kind_spec(planned.output.kind).suffixes)


def _is_device(error: Exception) -> bool:
    """Return whether a key names a FIFO or a device. A folder and a link count as missing."""
    return isinstance(error, NotAnObjectError) and error.errno == errno.EINVAL
