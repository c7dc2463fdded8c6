"""
Define the values that all packages use: containers, outputs, objects, files and results.

This module does no I/O and does not depend on a source. ``docs/architecture.md`` has the glossary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from bulkdl.printable import printable


class Durability(StrEnum):
    """When downloaded files survive a power cut. They survive ``kill -9`` in any case."""

    FULL = "full"  # each file is synced when it is committed, its folder before the file is recorded
    BATCH = "batch"  # the whole file system is synced before each transaction of the ledger
    NONE = "none"  # bulkdl does not sync files


class UnpackMode(StrEnum):
    """Whether archives are unpacked next to their file."""

    OFF = "off"
    KEEP = "keep"  # the archive stays
    REPLACE = "replace"  # the archive is deleted at the end of the run


class Outcome(StrEnum):
    """The outcome of one output."""

    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """The reason of an outcome. ``failure_policy.py`` defines what follows from each failure."""

    # completed
    DOWNLOADED = "downloaded"
    LINKED = "linked"
    # skipped
    UP_TO_DATE = "up_to_date"
    NOT_AVAILABLE = "not_available"
    CONTAINER_UNFINISHED = "container_unfinished"
    # cancelled
    STOPPED = "stopped"
    # failed: usually temporary
    UNREACHABLE = "unreachable"
    CONNECTION_LOST = "connection_lost"
    STALLED = "stalled"
    TRUNCATED = "truncated"
    THROTTLED = "throttled"
    SERVER_ERROR = "server_error"
    URL_EXPIRED = "url_expired"
    OBJECT_CHANGED = "object_changed"
    LEDGER_LOCKED = "ledger_locked"
    LEASE_LOST = "lease_lost"
    TOO_MANY_OPEN_FILES = "too_many_open_files"
    PUBLISH_FAILED = "publish_failed"
    # failed: content verification
    CHECKSUM_MISMATCH = "checksum_mismatch"
    ERROR_PAGE = "error_page"
    UNEXPECTED_CONTENT = "unexpected_content"
    CORRUPT_CONTENT = "corrupt_content"
    # failed: permanent until the cause is removed
    REFUSED_CONTENT = "refused_content"
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
    STORE_DENIED = "store_denied"
    PROCESSOR_FAILED = "processor_failed"
    INTERNAL = "internal"


TERMINAL_STATUSES = frozenset({"SUCCEEDED", "FAILED", "ERROR", "CANCELLED"})


@dataclass(frozen=True, slots=True)
class ContainerRef:
    """
    The identity of a container: the unit that a source lists and the ledger records as a whole.

    Attributes:
        source: The name of the source, such as ``jobs``.
        scope: The owner of the container, such as a project or a workspace.
        id: The ID of the container in its scope, such as a job ID.
    """

    source: str
    scope: str
    id: str


@dataclass(frozen=True, slots=True)
class Container:
    """
    One container as its source describes it, for example a job or a delivery.

    Attributes:
        status: Upper case, spaces as underscores (``NOT_STARTED``).
        is_final: Whether the outputs of the container will not change any more.
        revision: Changes when the container was produced again under its ID; its recorded outputs are then
            of an earlier revision.
        created_at: The time that ``--since`` and ``--until`` compare.
        finished_at: The time when the container became final; None if the source does not know it.
        attributes: Other values that the filters of the source compare, by name.
        former_id: The ID of a container that this one replaces, for example an original that was listed alone
            before its delivery existed; empty: none.
        path_values: The names and dates that path templates use, as they are written in paths. They are
            determined when the container is listed first, and recorded. A value of a part of the container
            has the ID of the part behind its key and a slash.
        document: The container as the server returned it; empty if it was read from the ledger.
    """

    ref: ContainerRef
    status: str
    is_final: bool
    revision: str
    created_at: datetime
    finished_at: datetime | None = None
    name: str | None = None
    attributes: Mapping[str, str] = field(hash=False, default_factory=dict)
    former_id: str = field(default="", compare=False)
    path_values: Mapping[str, str] = field(compare=False, hash=False, default_factory=dict)
    document: Mapping[str, Any] = field(repr=False, compare=False, hash=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Output:
    """
    One downloadable output of a container. Equal outputs are the same output, even if their URLs differ.

    Attributes:
        parent: The part of the container that has the output, such as a task; empty: the container itself.
        kind: The name of a ``KindSpec`` of the source.
        name: The name from the server (untrusted); empty if each parent has one output of this kind.
    """

    container: ContainerRef
    parent: str
    kind: str
    name: str = ""

    @property
    def identity(self) -> str:
        """
        Return all fields, unchanged, in one string. Use it for keys and comparisons, not on a terminal.

        The name of the source is not part of it, because each kind belongs to one source.
        """
        parts = [self.container.scope, self.container.id, self.parent, self.kind, self.name]
        return "/".join(part for part in parts if part)

    def __str__(self) -> str:
        """Return ``identity`` with control characters escaped."""
        return printable(self.identity)


_MAX_VALIDATOR_CHARS = 1024


def _storable(value: object) -> str | None:
    # Surrogates represent bytes that are not valid UTF-8. Like control characters, they are not printable.
    if isinstance(value, str) and 0 < len(value) <= _MAX_VALIDATOR_CHARS and value.isprintable():
        return value
    return None


@dataclass(frozen=True, slots=True)
class Validator:
    """
    The values that distinguish versions of an object (RFC 9110, section 8.8).

    Attributes:
        etag: The value as sent, including quotes and ``W/``.
        last_modified: The HTTP date as sent.
        generation: Google Cloud Storage's ``x-goog-generation``.
    """

    etag: str | None = None
    last_modified: str | None = None
    generation: str | None = None

    @classmethod
    def from_untrusted(cls, etag: object, last_modified: object, generation: object) -> Validator:
        """
        Create a validator from untrusted values, without those that cannot be stored or sent.

        A header can contain any bytes. A value that the ledger, a sidecar or a request header cannot
        contain is ignored.
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
    The object behind an output, as the server describes it. Identifies the object in a later run.

    Attributes:
        source: The URL of the object without its query; None for objects that the API serves.
        total_bytes: The length of the stored object; None if the server does not announce it.
        digests: The checksums of the whole object that the server sent.
    """

    source: str | None
    validator: Validator
    total_bytes: int | None
    digests: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class Extent:
    """A range of bytes of an object and its checksum."""

    start: int
    size_bytes: int
    crc32c: int

    @property
    def end(self) -> int:
        return self.start + self.size_bytes


@dataclass(frozen=True, slots=True)
class ResumeState:
    """
    The content of a partial file: the first *offset* bytes of *object*.

    Attributes:
        extents: For a segmented partial file, the received extents by their start; *offset* is their
            total size. None for a partial file that is written from start to end.
    """

    object: RemoteObject
    offset: int
    extents: tuple[Extent, ...] | None = None


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """
    The file of an output under its final name.

    Attributes:
        key: The relative path in the destination, with forward slashes.
        source: The URL of the object without its query; None for objects that the API serves.
        digest: The checksum of the file on disk, computed by bulkdl.
        version: What the destination reported as the version of the object after its publication, such as an
            ETag; None if it has none, or for a file that is not published.
    """

    key: str
    size_bytes: int
    digest: Digest
    validator: Validator
    source: str | None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """
    The result of one output in a run.

    Attributes:
        downloaded_bytes: The body bytes received in this run.
        attempts: The attempts in this run, including the retries of single connections.
        resumed_from_bytes: The bytes of an earlier run that were reused.
        detail: One line for the user, without secrets.
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
