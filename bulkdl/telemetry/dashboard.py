"""
Collect the data of the status page in one JSON document of bounded size.

Names in the document come from the sources and are not trusted. They are only used as JSON strings.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.models import ContainerRef, Outcome, Output, Reason
from bulkdl.redaction import redact
from bulkdl.source_spec import kind_spec, output_dict, source_labels, source_of_kind, source_spec
from bulkdl.telemetry.events import (
    ContainerEnumerated,
    ContainerUnfinished,
    Event,
    ProblemFound,
    QueuesOpened,
    RequestEnded,
    RetryScheduled,
    RunFinished,
    RunStarted,
    TransferAdvanced,
    TransferEnded,
    TransferStarted,
)
from bulkdl.telemetry.metrics import TOO_MANY_REQUESTS
from bulkdl.telemetry.totals import KindTotals, ProcessorTotals, RunTotals, is_shown

FAILURES_SHOWN = 30
TRANSFERS_SHOWN = 40
_DETAIL_CHARS = 500
_CONTAINER_STATES = ("planned", "up_to_date", "unfinished")


@dataclass(slots=True)
class ActiveTransferRow:
    """A download in progress; *note* is the reason of a scheduled retry."""

    started_s: float
    offset_bytes: int = 0
    total_bytes: int | None = None
    note: str = ""


class RunStatus:
    """
    A reporter that collects the data of the status page.

    Args:
        kinds: The kinds of the sources of the run.
        clock: Monotonic clock in seconds.
        now: Wall-clock time.
    """

    def __init__(
        self,
        version: str,
        kinds: Sequence[str],
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._version = version
        self._clock = clock
        self._now = now
        self._kinds = kinds
        self._run: RunStarted | None = None
        self._reset()
        self._handlers: Mapping[type[Event], Callable[..., None]] = {
            RunStarted: self._run_started,
            RunFinished: self._run_finished,
            QueuesOpened: self._queues_opened,
            RequestEnded: self._request_ended,
            ContainerEnumerated: self._container_enumerated,
            ContainerUnfinished: self._container_unfinished,
            ProblemFound: self._problem_found,
            TransferStarted: self._transfer_started,
            TransferAdvanced: self._transfer_advanced,
            RetryScheduled: self._retry_scheduled,
            TransferEnded: self._transfer_ended,
        }

    def _reset(self) -> None:
        """Remove the data of the previous run of a service."""
        self._finished: RunFinished | None = None
        self._containers: dict[str, Counter[str]] = {}
        self._depths: Mapping[str, Callable[[], int]] = {}
        self._totals = RunTotals(self._kinds)
        self._transfers: dict[Output, ActiveTransferRow] = {}
        self._failures: deque[dict[str, Any]] = deque(maxlen=FAILURES_SHOWN)
        self._failures_total = 0
        self._retries = 0
        self._throttles = 0

    def document(self, free_bytes: float | None) -> dict[str, Any]:
        """Return the document as plain values for JSON; its size is bounded."""
        now_s = self._clock()
        return {
            "version": self._version,
            "now_at": self._now().isoformat(),
            **self._run_fields(),
            "sources": [_source_dict(source, states) for source, states in self._containers.items()],
            "queues": {name: depth() for name, depth in self._depths.items()},
            "kinds": [_kind_dict(kind, totals, now_s) for kind, totals in self._totals.kinds.items()],
            "processors": [_processor_dict(name, totals) for name, totals in self._totals.processors.items()],
            "rate_bytes_per_s": round(self._totals.speed.rate(now_s)),
            "eta_s": None if (eta_s := self._totals.eta_s(now_s)) is None else round(eta_s),
            "retries": self._retries,
            "throttles": self._throttles,
            "disk_free_bytes": free_bytes,
            "in_flight": self._transfer_rows(now_s),
            "in_flight_total": len(self._transfers),
            "failures": list(self._failures)[::-1],
            "failures_total": self._failures_total,
        }

    def _run_fields(self) -> dict[str, Any]:
        run, finished = self._run, self._finished
        if finished is not None:
            state = "finished"
        elif run is None:
            state = "starting"
        else:
            state = "downloading" if self._totals.is_listed else "listing"
        return {
            "state": state,
            "run_id": run and run.run_id,
            "started_at": run and run.started_at.isoformat(),
            "finished_at": finished and finished.finished_at.isoformat(),
            "exit_code": finished and finished.exit_code,
        }

    def _transfer_rows(self, now_s: float) -> list[dict[str, Any]]:
        """Return the large and the long downloads, large outputs first. Short downloads would flicker."""
        shown = [
            (output, transfer)
            for output, transfer in self._transfers.items()
            if transfer.note
            or is_shown(now_s - transfer.started_s, transfer.offset_bytes, transfer.total_bytes)
        ]
        shown.sort(key=lambda pair: not kind_spec(pair[0].kind).is_large)
        return [
            {
                **_output_fields(output),
                "offset_bytes": transfer.offset_bytes,
                "total_bytes": transfer.total_bytes,
                "elapsed_s": round(now_s - transfer.started_s, 1),
                "note": transfer.note,
            }
            for output, transfer in shown[:TRANSFERS_SHOWN]
        ]

    def report(self, event: Event) -> None:
        """Count *event*."""
        self._totals.report(event, self._clock())
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _run_started(self, event: RunStarted) -> None:
        if self._run is not None:
            if event.sources:  # a service can have other sources after a reload
                self._kinds = [kind for source in event.sources for kind in source_spec(source).kind_names]
            self._reset()
        self._run = event
        self._containers |= {source: Counter() for source in event.sources}

    def _run_finished(self, event: RunFinished) -> None:
        self._finished = event

    def _queues_opened(self, event: QueuesOpened) -> None:
        self._depths = event.depths

    def _request_ended(self, event: RequestEnded) -> None:
        self._throttles += event.status == TOO_MANY_REQUESTS

    def _container_enumerated(self, event: ContainerEnumerated) -> None:
        self._count_container(event.container, "planned" if event.planned else "up_to_date")

    def _container_unfinished(self, event: ContainerUnfinished) -> None:
        self._count_container(event.container, "unfinished")

    def _count_container(self, container: ContainerRef, state: str) -> None:
        self._containers.setdefault(container.source, Counter())[state] += 1

    def _problem_found(self, event: ProblemFound) -> None:
        self._add_failure({"source": event.source, "subject": event.subject}, event.reason, event.detail)

    def _transfer_started(self, event: TransferStarted) -> None:
        self._transfers[event.output] = ActiveTransferRow(self._clock())

    def _transfer_advanced(self, event: TransferAdvanced) -> None:
        transfer = self._transfers.get(event.output)
        if transfer is not None:
            transfer.offset_bytes, transfer.total_bytes, transfer.note = event.offset, event.total_bytes, ""

    def _retry_scheduled(self, event: RetryScheduled) -> None:
        self._retries += 1
        if event.output in self._transfers:
            self._transfers[event.output].note = f"{event.reason.value}, retry in {event.delay_s:.1f} s"

    def _transfer_ended(self, event: TransferEnded) -> None:
        result = event.result
        output = result.output
        self._transfers.pop(output, None)
        if result.outcome is Outcome.FAILED:
            self._add_failure(_output_fields(output), result.reason, result.detail)

    def _add_failure(self, subject: dict[str, Any], reason: Reason, detail: str) -> None:
        self._failures_total += 1
        self._failures.append(
            {
                "number": self._failures_total,
                "failed_at": self._now().isoformat(),
                **subject,
                "reason": reason.value,
                "detail": redact(detail)[:_DETAIL_CHARS],
                "hint": FAILURE_POLICIES[reason].hint,
            }
        )


def _output_fields(output: Output) -> dict[str, Any]:
    return {**output_dict(output), "label": source_labels(output.container.source).describe_parts(output)}


def _source_dict(source: str, states: Mapping[str, int]) -> dict[str, Any]:
    return {
        "source": source,
        "label": source_labels(source).containers,
        **{state: states[state] for state in _CONTAINER_STATES},
    }


def _processor_dict(name: str, totals: ProcessorTotals) -> dict[str, Any]:
    return {
        "processor": name,
        "completed": totals.states[Outcome.COMPLETED],
        "skipped": totals.states[Outcome.SKIPPED],
        "failed": totals.states[Outcome.FAILED],
        "files": totals.files,
        "size_bytes": totals.size_bytes,
    }


def _kind_dict(kind: str, totals: KindTotals, now_s: float) -> dict[str, Any]:
    return {
        "source": source_of_kind(kind),
        "kind": kind,
        "planned": totals.planned,
        "up_to_date": totals.up_to_date,
        "left": totals.left,
        "downloaded_bytes": totals.downloaded_bytes,
        "rate_bytes_per_s": round(totals.speed.rate(now_s)),
        **{outcome.value: totals.outcomes[outcome] for outcome in Outcome},
    }
