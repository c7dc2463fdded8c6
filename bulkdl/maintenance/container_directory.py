"""Read the documents and output files of one container for a rebuild."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bulkdl.destinations.interfaces import Destination, NotAnObjectError, ObjectInfo
from bulkdl.errors import ApiError, DestinationError, TransferError
from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.maintenance.file_checks import describe_read_error, digest_of, find_objects
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
    """

    listing: ContainerListing
    results: list[Result] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


class ContainerDirectoryReader:
    """Reads the documents and files of containers."""

    def __init__(self, destination: Destination, stop: threading.Event) -> None:
        """After *stop*, the computation of a digest ends with the current block."""
        self._destination = destination
        self._stop = stop

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
