"""Read the documents and output files of one job for a rebuild."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bulkdl.destinations.interfaces import Destination, NotAnObjectError, ObjectInfo
from bulkdl.disk.filenames import safe_filenames
from bulkdl.errors import ApiError, DestinationError, TransferError
from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.maintenance.path_matcher import ParsedKey
from bulkdl.maintenance.verify import describe_read_error, digest_of, find_objects
from bulkdl.models import (
    CommittedFile,
    Container,
    Digest,
    Outcome,
    Reason,
    Result,
    Validator,
)
from bulkdl.report.verification import FileState, Finding
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.source_spec import HEAD_BYTES, kind_spec
from bulkdl.sources.up42_common.json_documents import parse_json
from bulkdl.sources.up42_jobs import decode, planning
from bulkdl.sources.up42_jobs.models import Kind, Task, job_output

_NO_DIGEST = Digest("crc32c", "")
_ALL_KINDS = frozenset(kind.value for kind in Kind)


class _DocumentMissingError(ApiError):
    """A document does not exist."""


@dataclass(slots=True)
class RebuiltJob:
    """
    One job, read from its documents and files.

    Attributes:
        results: The output files that were verified.
        findings: The output files that are damaged or unreadable.
    """

    listing: ContainerListing
    results: list[Result] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


class JobDirectoryReader:
    """Reads the documents and files of jobs."""

    def __init__(
        self, path_templates: PathTemplates, destination: Destination, stop: threading.Event
    ) -> None:
        """After *stop*, the computation of a digest ends with the current block."""
        self._path_templates = path_templates
        self._templates = dict(path_templates)
        self._destination = destination
        self._stop = stop

    async def read(self, key: str, parsed: ParsedKey) -> RebuiltJob:
        """
        Read the job whose ``job.json`` has the key *key*.

        Raises:
            ApiError: A document is missing or not valid.
            OSError, DestinationError: A document cannot be read.
        """
        rebuilt = await asyncio.to_thread(self._read_documents, key, parsed)
        keys = [key for planned in rebuilt.listing.outputs for key in self._candidate_keys(planned)]
        infos = await find_objects(self._destination, keys)
        await asyncio.to_thread(self._add_outputs, infos, rebuilt)
        return rebuilt

    def _read_documents(self, key: str, parsed: ParsedKey) -> RebuiltJob:
        """Return the job without its files; blocks."""
        job = self._read_job(key, parsed)
        tasks_key = self._path_templates.job_tasks.format(project_id=job.ref.scope, job_id=job.ref.id)
        tasks = decode.tasks(self._read_document(tasks_key), tasks_key)
        quicklooks, are_all_listed = self._read_quicklook_lists(job, tasks)
        listing = ContainerListing(
            job,
            outputs=(*planning.expected_outputs(job, tasks), *quicklooks),
            listed_kinds=_ALL_KINDS if are_all_listed else _ALL_KINDS - {Kind.QUICKLOOK.value},
            documents={},
        )
        return RebuiltJob(listing)

    def _read_job(self, key: str, parsed: ParsedKey) -> Container:
        document = self._read_document(key)
        data = decode.get_data(document, key)
        project_id = parsed.project_id or (data.get("projectId") if isinstance(data, dict) else None)
        if not isinstance(project_id, str):
            detail = f"{key}: cannot determine the project ID (not in the path, not in the document)"
            raise ApiError(Reason.INVALID_RESPONSE, detail)
        return decode.job(document, project_id, parsed.job_id, key)

    def _read_document(self, key: str) -> object:
        try:
            with self._destination.open_reader(key) as stream:
                return parse_json(stream.read(), key)
        except NotAnObjectError as error:
            raise ApiError(Reason.INVALID_RESPONSE, f"{key}: {error.strerror}") from None
        except FileNotFoundError:
            raise _DocumentMissingError(Reason.INVALID_RESPONSE, f"{key}: not found") from None

    def _read_quicklook_lists(
        self, job: Container, tasks: Sequence[Task]
    ) -> tuple[list[PlannedOutput], bool]:
        """Return the quicklooks of all lists that exist, and whether each task has a list."""
        quicklooks: list[PlannedOutput] = []
        are_all_listed = True
        for task in tasks:
            key = self._path_templates.task_quicklooks.format(
                project_id=job.ref.scope, job_id=job.ref.id, task_id=task.id
            )
            try:
                document = self._read_document(key)
            except _DocumentMissingError:
                are_all_listed = False
                continue
            names = decode.quicklooks(document, key)
            quicklooks += [
                PlannedOutput(job_output(job.ref.scope, job.ref.id, task.id, Kind.QUICKLOOK, name), filename)
                for name, filename in safe_filenames(names).items()
            ]
        return quicklooks, are_all_listed

    def _add_outputs(self, infos: Mapping[str, ObjectInfo], rebuilt: RebuiltJob) -> None:
        """Add the files of the listed outputs to *rebuilt*; blocks."""
        for planned in rebuilt.listing.outputs:
            self._add_output(planned, infos, rebuilt)

    def _add_output(
        self, planned: PlannedOutput, infos: Mapping[str, ObjectInfo], rebuilt: RebuiltJob
    ) -> None:
        """Add the file of *planned* to *rebuilt*: as a result if it is valid, otherwise as a finding."""
        output = planned.output
        for key in self._candidate_keys(planned):
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

    def _candidate_keys(self, planned: PlannedOutput) -> Iterator[str]:
        """Yield the keys that the file of *planned* can have; the content decides the suffix."""
        key = planning.target_key(planned, self._templates)
        return (key(suffix) for suffix in kind_spec(planned.output.kind).suffixes)

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
        return CommittedFile(key, info.size_bytes, digest, Validator(), None)


def _is_device(error: Exception) -> bool:
    """Return whether a key names a FIFO or a device. A folder and a link count as missing."""
    return isinstance(error, NotAnObjectError) and error.errno == errno.EINVAL
