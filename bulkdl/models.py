"""
The values everything else speaks of: projects, jobs, tasks, outputs, and what became of them.

Nothing here does I/O or knows UP42's JSON; the words are those of ``docs/architecture.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from bulkdl.printable import printable


class Kind(StrEnum):
    """What an output is."""

    ARCHIVE = "archive"
    QUICKLOOK = "quicklook"
    GEOJSON = "geojson"


ARCHIVE_SUFFIXES = (".tar.gz", ".tar", ".zip", ".bin")
"""The suffixes of an archive's file name; ``.bin`` is an unknown format with a checksum."""


class Level(StrEnum):
    """Whose output it is: the whole job's (that of its last task) or one task's."""

    JOB = "job"
    TASK = "task"


class Durability(StrEnum):
    """When what was fetched is proof against a power cut (``kill -9`` loses nothing in any case)."""

    FULL = "full"  # each file is synced as it is committed, its folder before it is recorded
    BATCH = "batch"  # the whole file system is synced before each transaction of the ledger
    NONE = "none"  # the operating system writes when it likes


class Outcome(StrEnum):
    """How one transfer ended."""

    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """Why a transfer ended as it did; ``failure_policy.py`` says what follows from each."""

    # completed
    DOWNLOADED = "downloaded"
    LINKED = "linked"
    # skipped
    UP_TO_DATE = "up_to_date"
    NOT_AVAILABLE = "not_available"
    JOB_UNFINISHED = "job_unfinished"
    # cancelled
    STOPPED = "stopped"
    # failed: may pass by itself
    UNREACHABLE = "unreachable"
    CONNECTION_LOST = "connection_lost"
    STALLED = "stalled"
    TRUNCATED = "truncated"
    THROTTLED = "throttled"
    SERVER_ERROR = "server_error"
    URL_EXPIRED = "url_expired"
    OBJECT_CHANGED = "object_changed"
    LEDGER_LOCKED = "ledger_locked"
    TOO_MANY_OPEN_FILES = "too_many_open_files"
    # failed: the bytes are wrong
    CHECKSUM_MISMATCH = "checksum_mismatch"
    ERROR_PAGE = "error_page"
    UNEXPECTED_CONTENT = "unexpected_content"
    CORRUPT_CONTENT = "corrupt_content"
    # failed: will not pass by itself
    TOO_LARGE = "too_large"
    INVALID_RESPONSE = "invalid_response"
    REJECTED = "rejected"
    FORBIDDEN = "forbidden"
    CREDENTIALS = "credentials"
    NOT_FOUND = "not_found"
    TLS = "tls"
    INSECURE_URL = "insecure_url"
    PATH_BLOCKED = "path_blocked"
    DISK_FULL = "disk_full"
    DISK_ERROR = "disk_error"
    INTERNAL = "internal"


TERMINAL_STATUSES = frozenset({"SUCCEEDED", "FAILED", "ERROR", "CANCELLED"})


@dataclass(frozen=True, slots=True)
class Job:
    """
    One UP42 job.

    Attributes:
        status: Upper case, spaces as underscores (``NOT_STARTED``).
        document: The job object as UP42 answered it.
    """

    project_id: str
    id: str
    status: str
    mode: str
    name: str | None
    created_at: datetime
    finished_at: datetime | None
    workflow_id: str | None
    document: dict[str, Any] = field(repr=False, compare=False, hash=False, default_factory=dict)

    @property
    def succeeded(self) -> bool:
        return self.status == "SUCCEEDED"

    @property
    def finished(self) -> bool:
        """Whether UP42 will not change this job any more."""
        return self.status in TERMINAL_STATUSES


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a job; *parent_ids* are the tasks whose results it took in."""

    id: str
    name: str
    status: str
    parent_ids: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        return self.status == "SUCCEEDED"

    @property
    def finished(self) -> bool:
        """Whether UP42 will not change this task any more."""
        return self.status in TERMINAL_STATUSES


@dataclass(frozen=True, slots=True)
class Output:
    """
    One downloadable thing. Equal outputs are the same thing, whatever URL it is had from.

    Attributes:
        task_id: None at job level.
        name: A quicklook's name as UP42 gives it (untrusted); empty for the other kinds.
    """

    project_id: str
    job_id: str
    task_id: str | None
    kind: Kind
    name: str = ""

    @property
    def level(self) -> Level:
        return Level.JOB if self.task_id is None else Level.TASK

    @property
    def identity(self) -> str:
        """All fields in one string, exact; for keys and comparisons, never for a terminal."""
        parts = [self.project_id, self.job_id, self.task_id or "", self.kind.value, self.name]
        return "/".join(part for part in parts if part)

    def __str__(self) -> str:
        """For people: like ``identity``, with control characters escaped."""
        return printable(self.identity)


_MAX_VALIDATOR_CHARS = 1024


def _storable(value: object) -> str | None:
    # Surrogates stand for bytes that are not UTF-8. Like control characters they are not printable.
    if isinstance(value, str) and 0 < len(value) <= _MAX_VALIDATOR_CHARS and value.isprintable():
        return value
    return None


@dataclass(frozen=True, slots=True)
class Validator:
    """
    What a server says to tell one version of an object from the next (RFC 9110, section 8.8).

    Attributes:
        etag: As sent, quotes and ``W/`` included.
        last_modified: As sent, an HTTP date.
        generation: Google Cloud Storage's ``x-goog-generation``.
    """

    etag: str | None = None
    last_modified: str | None = None
    generation: str | None = None

    @classmethod
    def storable(cls, etag: object, last_modified: object, generation: object) -> Validator:
        """
        Keep of three values from outside those that the ledger, a sidecar and a header can hold.

        Header values may hold any byte. A validator that cannot be written down is none.
        """
        return cls(*(_storable(value) for value in (etag, last_modified, generation)))


@dataclass(frozen=True, slots=True)
class Digest:
    """A checksum of content: *algorithm* is ``crc32c`` or ``md5``, *value* base64 as in ``x-goog-hash``."""

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm}={self.value}"


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """
    What a server said of the object behind an output: enough to know it again.

    Attributes:
        source: Where it lives (URL without its query); None for what the API itself serves.
        total_bytes: Length of the stored bytes; None when not announced.
        digests: Those that the server gave, of the whole object.
    """

    source: str | None
    validator: Validator
    total_bytes: int | None
    digests: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class Extent:
    """Some bytes of an object and their checksum."""

    start: int
    size_bytes: int
    crc32c: int

    @property
    def end(self) -> int:
        return self.start + self.size_bytes


@dataclass(frozen=True, slots=True)
class ResumeState:
    """
    What is in a part: the first *at_bytes* bytes of *object*.

    Attributes:
        extents: Of a part that is filled in several places at once, which bytes are there, by
            their start; *at_bytes* is then their sum. None for a part that only grows at its end.
    """

    object: RemoteObject
    offset: int
    extents: tuple[Extent, ...] | None = None


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """
    What is known of an output that stands under its final name.

    Attributes:
        key: Path in the sink, relative, with forward slashes.
        source: Where the object lives (URL without its query); None for what the API itself served.
        digest: Of the bytes on disk, computed here.
    """

    key: str
    size_bytes: int
    digest: Digest
    validator: Validator
    source: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """
    How the transfer of one output ended.

    Attributes:
        downloaded_bytes: Body bytes that came over the network for it in this run.
        attempts: How often it was tried in this run, each further try of one of several connections counted.
        resumed_from_bytes: Bytes that an earlier run had left behind and that were kept.
        detail: One line for a person; never holds a secret.
    """

    output: Output
    outcome: Outcome
    reason: Reason
    file: CommittedFile | None = None
    downloaded_bytes: int = 0
    duration_s: float = 0.0
    attempts: int = 0
    resumed_from_bytes: int = 0
    detail: str = ""
