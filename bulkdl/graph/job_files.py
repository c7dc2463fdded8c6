"""
What the files of one job say of it: the half of a rebuild that reads. Blocks, and is called in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bulkdl.errors import ApiFailure, TransferFailure
from bulkdl.graph import planning
from bulkdl.graph.planning import Wanted
from bulkdl.graph.tree import NotRegularError, Place, open_regular
from bulkdl.graph.verify import Check, digest_of
from bulkdl.ledger.queries import Listing, PlannedOutput
from bulkdl.model import (
    ARCHIVE_SUFFIXES,
    Digest,
    Job,
    Kind,
    Outcome,
    Output,
    Reason,
    Receipt,
    Result,
    Task,
    Validator,
)
from bulkdl.report.verification import Finding, Verdict
from bulkdl.sink.keys import safe_filenames
from bulkdl.sink.local import LocalSink
from bulkdl.transfer import gates
from bulkdl.up42 import decode

_NO_DIGEST = Digest("crc32c", "")


@dataclass(slots=True)
class Found:
    """What the files of one job say."""

    listing: Listing
    results: list[Result] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


class JobReader:
    """Reads one job's documents and files; blocks."""

    def __init__(self, check: Check, sink: LocalSink) -> None:
        self._names = check.names
        self._stop = check.stop
        self._locate = sink.locate

    def read(self, key: str, place: Place) -> Found:
        """
        What the tree has of the job whose ``job.json`` is at *key*.

        Raises:
            ApiFailure: A document cannot be read.
            OSError: The disk refuses.
        """
        job = self._job(key, place)
        at = {"project_id": job.project_id, "job_id": job.id}
        tasks_key = self._names.job_tasks.format(**at)
        tasks = decode.tasks(self._document(tasks_key), tasks_key)
        wanted = [Wanted(output) for output in planning.files_of(job, tasks)]
        quicklooks, all_listed = self._quicklooks(job, tasks)
        wanted += quicklooks
        listing = Listing(
            job,
            last_task_id=planning.last_task_id(tasks),
            outputs=tuple(PlannedOutput(each.output, each.filename) for each in wanted),
            quicklooks=all_listed,
        )
        found = Found(listing)
        for each in wanted:
            self._take(each, found)
        return found

    def _job(self, key: str, place: Place) -> Job:
        document = self._document(key)
        data = decode.data_of(document, key)
        named = data.get("projectId") if isinstance(data, dict) else None
        project_id = place.project_id or named
        if not isinstance(project_id, str):
            raise ApiFailure(Reason.BAD_ANSWER, f"{key}: its project is neither in its name nor in it")
        return decode.job(document, project_id, place.job_id, key)

    def _document(self, key: str) -> object:
        try:
            with open_regular(self._locate(key)) as stream:
                return decode.parsed(stream.read(), key)
        except NotRegularError as error:
            raise ApiFailure(Reason.BAD_ANSWER, f"{key}: {error.strerror}") from None
        except FileNotFoundError:
            raise ApiFailure(Reason.BAD_ANSWER, f"{key}: there is no file") from None

    def _quicklooks(self, job: Job, tasks: Sequence[Task]) -> tuple[list[Wanted], bool]:
        """The quicklooks that the lists in the tree name, and whether there is a list for every task."""
        wanted: list[Wanted] = []
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
                Wanted(Output(job.project_id, job.id, task.id, Kind.QUICKLOOK, name), filename)
                for name, filename in safe_filenames(names).items()
            ]
        return wanted, all_listed

    def _take(self, wanted: Wanted, found: Found) -> None:
        for key in self._keys(wanted):
            path = self._locate(key)
            if path.is_symlink() or path.is_dir() or not path.exists():
                continue
            try:
                receipt = self._checked(wanted.output.kind, key, path)
            except TransferFailure as failure:
                found.findings.append(Finding(key, Verdict.DAMAGED, failure.detail, wanted.output))
            except NotRegularError as error:
                found.findings.append(Finding(key, Verdict.DAMAGED, str(error.strerror), wanted.output))
            except OSError as error:
                detail = error.strerror or str(error)
                found.findings.append(Finding(key, Verdict.UNREADABLE, detail, wanted.output))
            else:
                result = Result(wanted.output, Outcome.COMPLETED, Reason.ALREADY_THERE, receipt)
                found.results.append(result)
                return

    def _keys(self, wanted: Wanted) -> Iterator[str]:
        key = planning.key_of(wanted, self._names)
        return (key(suffix) for suffix in (ARCHIVE_SUFFIXES if wanted.output.kind is Kind.ARCHIVE else ("",)))

    def _checked(self, kind: Kind, key: str, path: Path) -> Receipt:
        """
        A receipt for the file at *path*.

        Raises:
            TransferFailure: It is not what its name says, or is damaged.
        """
        with open_regular(path) as stream:
            size_bytes = os.fstat(stream.fileno()).st_size
            suffix = gates.admit(kind, stream.read(gates.HEAD_BYTES), "image/", has_digest=False)
            if not key.endswith(suffix):
                raise TransferFailure(Reason.WRONG_CONTENT, f"its bytes are those of a {suffix}")
            stream.seek(0)
            gates.inspect(kind, stream, size_bytes)
        digest = digest_of(path, _NO_DIGEST, self._stop)
        return Receipt(key, size_bytes, digest, Validator(), None)
