"""
What the page shows: the run as one small document, whatever its size.

Names in it are UP42's and untrusted; they leave here as JSON text and nothing else.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.models import Kind, Outcome, Output, Reason
from bulkdl.redaction import redact
from bulkdl.telemetry.events import (
    Event,
    JobEnumerated,
    JobUnfinished,
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
from bulkdl.telemetry.metrics import THROTTLED
from bulkdl.telemetry.totals import KindTotals, RunTotals, is_shown

FAILURES_SHOWN = 30
FLIGHTS_SHOWN = 40
_DETAIL_CHARS = 500


@dataclass(slots=True)
class ActiveTransferRow:
    """A download in progress."""

    since_s: float
    at_bytes: int = 0
    total_bytes: int | None = None
    note: str = ""


class RunStatus:
    """
    A reporter that keeps what a person wants to see.

    Args:
        clock: Seconds that never go back.
        now: The time of day.
    """

    def __init__(self, version: str, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self._version = version
        self._clock = clock
        self._now = now
        self._run: RunStarted | None = None
        self._finished: RunFinished | None = None
        self._jobs = Counter[str]()
        self._depths: Mapping[str, Callable[[], int]] = {}
        self._totals = RunTotals()
        self._flights: dict[Output, ActiveTransferRow] = {}
        self._failures: deque[dict[str, Any]] = deque(maxlen=FAILURES_SHOWN)
        self._failures_total = 0
        self._retries = 0
        self._throttles = 0
        self._handlers: Mapping[type[Event], Callable[..., None]] = {
            RunStarted: self._run_started,
            RunFinished: self._run_finished,
            QueuesOpened: self._lanes_opened,
            RequestEnded: self._request_ended,
            JobEnumerated: self._job_enumerated,
            JobUnfinished: self._job_unfinished,
            ProblemFound: self._problem_found,
            TransferStarted: self._start,
            TransferAdvanced: self._advance,
            RetryScheduled: self._retry,
            TransferEnded: self._end,
        }

    def document(self, free_bytes: float | None) -> dict[str, Any]:
        """Everything, as plain values for JSON; bounded in size."""
        now_s = self._clock()
        return {
            "version": self._version,
            "now_at": self._now().isoformat(),
            **self._about_run(),
            "jobs": {state: self._jobs[state] for state in ("planned", "up_to_date", "unfinished")},
            "waiting": {name: depth() for name, depth in self._depths.items()},
            "kinds": [_kind_dict(kind, totals, now_s) for kind, totals in self._totals.kinds.items()],
            "rate_bytes_per_s": round(self._totals.speed.rate(now_s)),
            "eta_s": None if (eta_s := self._totals.eta_s(now_s)) is None else round(eta_s),
            "retries": self._retries,
            "throttles": self._throttles,
            "disk_free_bytes": free_bytes,
            "in_flight": self._shown_flights(now_s),
            "in_flight_total": len(self._flights),
            "failures": list(self._failures)[::-1],
            "failures_total": self._failures_total,
        }

    def _about_run(self) -> dict[str, Any]:
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

    def _shown_flights(self, now_s: float) -> list[dict[str, Any]]:
        """Return the downloads that last: archives first, then by age. Short ones would only flicker."""
        shown = [
            (output, flight)
            for output, flight in self._flights.items()
            if flight.note or is_shown(now_s - flight.since_s, flight.at_bytes, flight.total_bytes)
        ]
        shown.sort(key=lambda pair: pair[0].kind is not Kind.ARCHIVE)
        return [
            {
                **_named(output),
                "at_bytes": flight.at_bytes,
                "total_bytes": flight.total_bytes,
                "for_s": round(now_s - flight.since_s, 1),
                "note": flight.note,
            }
            for output, flight in shown[:FLIGHTS_SHOWN]
        ]

    def report(self, event: Event) -> None:
        """Count *event*."""
        self._totals.report(event, self._clock())
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _run_started(self, event: RunStarted) -> None:
        self._run = event

    def _run_finished(self, event: RunFinished) -> None:
        self._finished = event

    def _lanes_opened(self, event: QueuesOpened) -> None:
        self._depths = event.depths

    def _request_ended(self, event: RequestEnded) -> None:
        self._throttles += event.status == THROTTLED

    def _job_enumerated(self, event: JobEnumerated) -> None:
        self._jobs["planned" if event.planned else "up_to_date"] += 1

    def _job_unfinished(self, _event: JobUnfinished) -> None:
        self._jobs["unfinished"] += 1

    def _problem_found(self, event: ProblemFound) -> None:
        self._fail({"what": event.what}, event.reason, event.detail)

    def _start(self, event: TransferStarted) -> None:
        self._flights[event.output] = ActiveTransferRow(self._clock())

    def _advance(self, event: TransferAdvanced) -> None:
        flight = self._flights.get(event.output)
        if flight is not None:
            flight.at_bytes, flight.total_bytes, flight.note = event.offset, event.total_bytes, ""

    def _retry(self, event: RetryScheduled) -> None:
        self._retries += 1
        if event.output in self._flights:
            self._flights[event.output].note = f"{event.reason.value}, retry in {event.delay_s:.1f} s"

    def _end(self, event: TransferEnded) -> None:
        result = event.result
        output = result.output
        self._flights.pop(output, None)
        if result.outcome is Outcome.FAILED:
            self._fail(_named(output), result.reason, result.detail)

    def _fail(self, what: dict[str, Any], reason: Reason, detail: str) -> None:
        self._failures_total += 1
        self._failures.append(
            {
                "number": self._failures_total,
                "at": self._now().isoformat(),
                **what,
                "reason": reason.value,
                "detail": redact(detail)[:_DETAIL_CHARS],
                "hint": FAILURE_POLICIES[reason].hint,
            }
        )


def utc_now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)


def _named(output: Output) -> dict[str, Any]:
    return {
        "kind": output.kind.value,
        "project_id": output.project_id,
        "job_id": output.job_id,
        "task_id": output.task_id,
        "name": output.name,
    }


def _kind_dict(kind: Kind, totals: KindTotals, now_s: float) -> dict[str, Any]:
    return {
        "kind": kind.value,
        "planned": totals.planned,
        "up_to_date": totals.up_to_date,
        "left": totals.left,
        "downloaded_bytes": totals.downloaded_bytes,
        "rate_bytes_per_s": round(totals.speed.rate(now_s)),
        **{outcome.value: totals.outcomes[outcome] for outcome in Outcome},
    }
