"""
Typed events of a run and the reporter that takes them. A reporter may drop, but never blocks or raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bulkdl.model import Output, Reason, Result


@dataclass(frozen=True, slots=True)
class JobEnumerated:
    """The outputs of one job are known: *planned* to be fetched, *settled* already."""

    project_id: str
    job_id: str
    planned: int
    settled: int


@dataclass(frozen=True, slots=True)
class EnumerationFinished:
    """No further output will be planned."""


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """A worker took up *output*."""

    output: Output


@dataclass(frozen=True, slots=True)
class TransferAdvanced:
    """*at_bytes* of *total_bytes* (None: not told) of *output* are here; *moved_bytes* came just now."""

    output: Output
    at_bytes: int
    total_bytes: int | None
    moved_bytes: int


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


Event = JobEnumerated | EnumerationFinished | TransferStarted | TransferAdvanced | RetryScheduled | TransferEnded


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
