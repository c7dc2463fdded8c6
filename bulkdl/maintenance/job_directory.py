"""
What the files of one job say of it: the half of a rebuild that reads. Blocks, and is called in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.destinations.local.filenames import safe_filenames
from bulkdl.errors import ApiError, TransferError
from bulkdl.ledger.queries import JobListing, PlannedOutput
from bulkdl.maintenance.path_matcher import NotRegularError, ParsedKey, open_regular
from bulkdl.maintenance.verify import VerifyOptions, digest_of
from bulkdl.models import (
    ARCHIVE_SUFFIXES,
    CommittedFile,
    Digest,
    Job,
    Kind,
    Outcome,
    Output,
    Reason,
    Result,
    Task,
    Validator,
)
from bulkdl.report.verification import FileState, Finding
from bulkdl.sources.up42_jobs import decode, planning
from bulkdl.sources.up42_jobs.planning import MissingOutput
from bulkdl.transfer import validation

_NO_DIGEST = Digest("crc32c", "")


@dataclass(slots=True)
class RebuiltJob:
    """What the files of one job say."""

    listing: JobListing
    results: list[Result] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


class JobDirectoryReader:
    """Reads one job's documents and files; blocks."""

    def __init__(self, check: VerifyOptions, sink: LocalDestination) -> None:
        self._names = check.names
        self._stop = check.stop
        self._locate = sink.locate

    def read(self, key: str, place: ParsedKey) -> RebuiltJob:
        """
        What the tree has of the job whose ``job.json`` is at *key*.

        Raises:
            ApiError: A document cannot be read.
            OSError: The disk refuses.
        """
        job = self._job(key, place)
        at = {"project_id": job.project_id, "job_id": job.id}
        tasks_key = self._names.job_tasks.format(**at)
        tasks = decode.tasks(self._document(tasks_key), tasks_key)
        wanted = [MissingOutput(output) for output in planning.expected_outputs(job, tasks)]
        quicklooks, all_listed = self._quicklooks(job, tasks)
        wanted += quicklooks
        listing = JobListing(
            job,
            last_task_id=planning.last_task_id(tasks),
            outputs=tuple(PlannedOutput(each.output, each.filename) for each in wanted),
            quicklooks=all_listed,
        )
        found = RebuiltJob(listing)
        for each in wanted:
            self._take(each, found)
        return found

    def _job(self, key: str, place: ParsedKey) -> Job:
        document = self._document(key)
        data = decode.data_of(document, key)
        named = data.get("projectId") if isinstance(data, dict) else None
        project_id = place.project_id or named
        if not isinstance(project_id, str):
            raise ApiError(Reason.INVALID_RESPONSE, f"{key}: its project is neither in its name nor in it")
        return decode.job(document, project_id, place.job_id, key)

    def _document(self, key: str) -> object:
        try:
            with open_regular(self._locate(key)) as stream:
                return decode.parse_json(stream.read(), key)
        except NotRegularError as error:
            raise ApiError(Reason.INVALID_RESPONSE, f"{key}: {error.strerror}") from None
        except FileNotFoundError:
            raise ApiError(Reason.INVALID_RESPONSE, f"{key}: there is no file") from None

    def _quicklooks(self, job: Job, tasks: Sequence[Task]) -> tuple[list[MissingOutput], bool]:
        """The quicklooks that the lists in the tree name, and whether there is a list for every task."""
        wanted: list[MissingOutput] = []
        all_listed = True
        for task in tasks:
            key = self._names.task_quicklooks.format(
                project_id=job.project_id, job_id=job.id, task_id=task.id
            )
            if not self._locate(key).exists():
                all_listed = False
                continue
            names = decode.quicklooks(self._document(key), key)
            wanted += [
                MissingOutput(Output(job.project_id, job.id, task.id, Kind.QUICKLOOK, name), filename)
                for name, filename in safe_filenames(names).items()
            ]
        return wanted, all_listed

    def _take(self, wanted: MissingOutput, found: RebuiltJob) -> None:
        for key in self._keys(wanted):
            path = self._locate(key)
            if path.is_symlink() or path.is_dir() or not path.exists():
                continue
            try:
                receipt = self._checked(wanted.output.kind, key, path)
            except TransferError as failure:
                found.findings.append(Finding(key, FileState.DAMAGED, failure.detail, wanted.output))
            except NotRegularError as error:
                found.findings.append(Finding(key, FileState.DAMAGED, str(error.strerror), wanted.output))
            except OSError as error:
                detail = error.strerror or str(error)
                found.findings.append(Finding(key, FileState.UNREADABLE, detail, wanted.output))
            else:
                result = Result(wanted.output, Outcome.COMPLETED, Reason.UP_TO_DATE, receipt)
                found.results.append(result)
                return

    def _keys(self, wanted: MissingOutput) -> Iterator[str]:
        key = planning.target_key(wanted, self._names)
        return (key(suffix) for suffix in (ARCHIVE_SUFFIXES if wanted.output.kind is Kind.ARCHIVE else ("",)))

    def _checked(self, kind: Kind, key: str, path: Path) -> CommittedFile:
        """
        A receipt for the file at *path*.

        Raises:
            TransferError: It is not what its name says, or is damaged.
        """
        with open_regular(path) as stream:
            size_bytes = os.fstat(stream.fileno()).st_size
            suffix = validation.check_magic_bytes(
                kind, stream.read(validation.HEAD_BYTES), "image/", has_digest=False
            )
            if not key.endswith(suffix):
                raise TransferError(Reason.UNEXPECTED_CONTENT, f"its bytes are those of a {suffix}")
            stream.seek(0)
            validation.validate_content(kind, stream, size_bytes)
        digest = digest_of(path, _NO_DIGEST, self._stop)
        return CommittedFile(key, size_bytes, digest, Validator(), None)
