"""
Read the documents and output files of one job for a rebuild. All functions block; call them in a thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.disk.filenames import safe_filenames
from bulkdl.errors import ApiError, TransferError
from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.maintenance.path_matcher import NotRegularError, ParsedKey, open_regular
from bulkdl.maintenance.verify import digest_of
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
    """Reads the documents and files of jobs; blocks."""

    def __init__(
        self, path_templates: PathTemplates, destination: LocalDestination, stop: threading.Event
    ) -> None:
        """After *stop*, the computation of a digest ends with the current block."""
        self._path_templates = path_templates
        self._templates = dict(path_templates)
        self._locate = destination.locate
        self._stop = stop

    def read(self, key: str, parsed: ParsedKey) -> RebuiltJob:
        """
        Read the job whose ``job.json`` has the key *key*.

        Raises:
            ApiError: A document is missing or not valid.
            OSError: A document cannot be read.
        """
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
        rebuilt = RebuiltJob(listing)
        for planned in listing.outputs:
            self._add_output(planned, rebuilt)
        return rebuilt

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
            with open_regular(self._locate(key)) as stream:
                return parse_json(stream.read(), key)
        except NotRegularError as error:
            raise ApiError(Reason.INVALID_RESPONSE, f"{key}: {error.strerror}") from None
        except FileNotFoundError:
            raise ApiError(Reason.INVALID_RESPONSE, f"{key}: not found") from None

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
            if not self._locate(key).exists():
                are_all_listed = False
                continue
            names = decode.quicklooks(self._read_document(key), key)
            quicklooks += [
                PlannedOutput(job_output(job.ref.scope, job.ref.id, task.id, Kind.QUICKLOOK, name), filename)
                for name, filename in safe_filenames(names).items()
            ]
        return quicklooks, are_all_listed

    def _add_output(self, planned: PlannedOutput, rebuilt: RebuiltJob) -> None:
        """Add the file of *planned* to *rebuilt*: as a result if it is valid, otherwise as a finding."""
        output = planned.output
        for key in self._candidate_keys(planned):
            path = self._locate(key)
            if path.is_symlink() or path.is_dir() or not path.exists():
                continue
            try:
                file = self._verify_file(output.kind, key, path)
            except TransferError as failure:
                rebuilt.findings.append(Finding(key, FileState.DAMAGED, failure.detail, output))
            except NotRegularError as error:
                rebuilt.findings.append(Finding(key, FileState.DAMAGED, str(error.strerror), output))
            except OSError as error:
                detail = error.strerror or str(error)
                rebuilt.findings.append(Finding(key, FileState.UNREADABLE, detail, output))
            else:
                rebuilt.results.append(Result(output, Outcome.COMPLETED, Reason.UP_TO_DATE, file))
                return

    def _candidate_keys(self, planned: PlannedOutput) -> Iterator[str]:
        """Yield the keys that the file of *planned* can have; the content decides the suffix."""
        key = planning.target_key(planned, self._templates)
        return (key(suffix) for suffix in kind_spec(planned.output.kind).suffixes)

    def _verify_file(self, kind: str, key: str, path: Path) -> CommittedFile:
        """
        Verify the structure of the file at *path* and compute its digest.

        Raises:
            TransferError: The file is damaged, or its content does not match its name.
        """
        checks = kind_spec(kind).load_checks(key.rpartition("/")[2])
        with open_regular(path) as stream:
            size_bytes = os.fstat(stream.fileno()).st_size
            suffix = checks.check_head(stream.read(HEAD_BYTES), "image/", has_digest=False)
            if not key.endswith(suffix):
                raise TransferError(
                    Reason.UNEXPECTED_CONTENT, f"unexpected content: the file is a {suffix} archive"
                )
            stream.seek(0)
            checks.validate(stream, size_bytes)
        digest = digest_of(path, _NO_DIGEST, self._stop)
        return CommittedFile(key, size_bytes, digest, Validator(), None)
