"""
Typed events of a run and the reporter interface. A reporter can drop events. It must not block or raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from bulkdl.models import ContainerRef, Outcome, Output, Reason, Result


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run of *sources* has locked the output directory. A run of processors only has no source."""

    run_id: str
    started_at: datetime
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StatusPageListening:
    """The status page is available at *url*."""

    url: str


@dataclass(frozen=True, slots=True)
class QueuesOpened:
    """The queues exist; each function in *depths* returns the number of waiting items of a queue."""

    depths: Mapping[str, Callable[[], int]]


STORAGE = "storage"
"""Endpoint of requests for signed URLs."""


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """
    A request received a response or failed.

    Attributes:
        endpoint: The label that the source gives to the request, or ``STORAGE`` for a signed URL.
        status: None without a response.
        duration_s: Time to the response headers.
        source: The source that sent the request.
    """

    endpoint: str
    status: int | None
    duration_s: float
    source: str = ""


@dataclass(frozen=True, slots=True)
class ContainerEnumerated:
    """A container is listed: *planned* outputs are missing, *up_to_date* outputs need no transfer."""

    container: ContainerRef
    planned: int
    up_to_date: int
    planned_by_kind: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerUnfinished:
    """A container is not final; a later run downloads its outputs."""

    container: ContainerRef


@dataclass(frozen=True, slots=True)
class OutputSkipped:
    """An output needs no transfer, for *reason*."""

    output: Output
    reason: Reason


@dataclass(frozen=True, slots=True)
class ProblemFound:
    """
    A failure that is not related to one output.

    Attributes:
        subject: A scope, a container, the directory or a processor.
        source: The source of *subject*; None if the problem concerns the whole run.
    """

    reason: Reason
    subject: str
    detail: str
    source: str | None = None


@dataclass(frozen=True, slots=True)
class EnumerationFinished:
    """All containers are listed."""


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """A worker started the download of *output*."""

    output: Output


@dataclass(frozen=True, slots=True)
class TransferAdvanced:
    """*downloaded_bytes* more bytes were received; *offset* of *total_bytes* (None: unknown) are present."""

    output: Output
    offset: int
    total_bytes: int | None
    downloaded_bytes: int


@dataclass(frozen=True, slots=True)
class UploadAdvanced:
    """*sent_bytes* more bytes of the object *key* were sent; *offset* of *total_bytes* are complete."""

    key: str
    offset: int
    total_bytes: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """An attempt failed and the next attempt starts after *delay_s*."""

    output: Output
    reason: Reason
    delay_s: float


@dataclass(frozen=True, slots=True)
class TransferEnded:
    """The outcome of an output is recorded."""

    result: Result


@dataclass(frozen=True, slots=True)
class OutputProcessed:
    """
    The result of a processor for one output is recorded.

    Attributes:
        output: None for the step at the end of a run.
        state: ``completed``, ``failed`` or ``skipped``.
        files: Number of derived files.
    """

    processor: str
    output: Output | None
    state: Outcome
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run has ended and its report is written."""

    finished_at: datetime
    exit_code: int


Event = (
    RunStarted
    | StatusPageListening
    | QueuesOpened
    | RequestEnded
    | ContainerEnumerated
    | ContainerUnfinished
    | OutputSkipped
    | ProblemFound
    | EnumerationFinished
    | TransferStarted
    | TransferAdvanced
    | UploadAdvanced
    | RetryScheduled
    | TransferEnded
    | OutputProcessed
    | RunFinished
)


class Reporter(Protocol):
    """Receives the events of a run."""

    def report(self, event: Event) -> None: ...


class NullReporter:
    """Ignores all events."""

    def report(self, event: Event) -> None:
        """Ignore *event*."""


class Reporters:
    """Passes each event to several reporters."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def report(self, event: Event) -> None:
        for reporter in self._reporters:
            reporter.report(event)
