"""
Typed events of a run and the reporter that takes them. A reporter may drop, but never blocks or raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from bulkdl.models import Kind, Output, Reason, Result


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The output directory is held by this run."""

    run_id: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class StatusPageListening:
    """The run can be looked at under *url*."""

    url: str


@dataclass(frozen=True, slots=True)
class QueuesOpened:
    """*depths* tell at any moment how much waits in each channel, by its name."""

    depths: Mapping[str, Callable[[], int]]


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """
    A request was answered, or came to nothing.

    Attributes:
        endpoint: One of ``endpoints.ENDPOINTS``.
        status: None when there was no answer.
        duration_s: From its start to the head of the answer.
    """

    endpoint: str
    status: int | None
    duration_s: float


@dataclass(frozen=True, slots=True)
class JobEnumerated:
    """The outputs of one job are known: *planned* to download, *up_to_date* present."""

    project_id: str
    job_id: str
    planned: int
    up_to_date: int
    planned_by_kind: Mapping[Kind, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobUnfinished:
    """UP42 has not finished this job; a later run takes it up."""

    project_id: str
    job_id: str


@dataclass(frozen=True, slots=True)
class OutputSkipped:
    """This output needs no transfer, for *reason*."""

    output: Output
    reason: Reason


@dataclass(frozen=True, slots=True)
class ProblemFound:
    """Something that is no single output went wrong: *what* is a project, a job, the directory."""

    reason: Reason
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class EnumerationFinished:
    """No further output will be planned."""


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """A worker took up *output*."""

    output: Output


@dataclass(frozen=True, slots=True)
class TransferAdvanced:
    """*at_bytes* of *total_bytes* (None: not told) of *output* are here; *downloaded_bytes* came just now."""

    output: Output
    offset: int
    total_bytes: int | None
    downloaded_bytes: int


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """An attempt failed and another follows in *delay_s*."""

    output: Output
    reason: Reason
    delay_s: float


@dataclass(frozen=True, slots=True)
class TransferEnded:
    """The outcome of one output is recorded."""

    result: Result


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run is over and its report is written."""

    finished_at: datetime
    exit_code: int


Event = (
    RunStarted
    | StatusPageListening
    | QueuesOpened
    | RequestEnded
    | JobEnumerated
    | JobUnfinished
    | OutputSkipped
    | ProblemFound
    | EnumerationFinished
    | TransferStarted
    | TransferAdvanced
    | RetryScheduled
    | TransferEnded
    | RunFinished
)


class Reporter(Protocol):
    """Takes events as they happen."""

    def report(self, event: Event) -> None: ...


class NullReporter:
    """Takes events and does nothing."""

    def report(self, event: Event) -> None:
        """Drop *event*."""


class Reporters:
    """Passes each event on to several reporters."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def report(self, event: Event) -> None:
        for reporter in self._reporters:
            reporter.report(event)
