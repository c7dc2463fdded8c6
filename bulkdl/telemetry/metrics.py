"""
The numbers of a run for Prometheus, in a registry of its own.

A run is one process, so every counter begins at zero with it: its value is what this run has done.
docs/metrics.md explains each; a test keeps that list, the alerts and the dashboard in step with this.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from bulkdl.models import Kind, Outcome, Output, Result
from bulkdl.telemetry.events import (
    Event,
    JobEnumerated,
    JobUnfinished,
    OutputSkipped,
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

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
THROTTLED = 429
_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class _Families:
    """Every metric there is; each registers itself."""

    def __init__(self, into: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"bulkdl_{name}", text, labels, registry=into)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"bulkdl_{name}", text, labels, registry=into)

        self.outputs = counter("outputs", "Outputs that ended.", "kind", "outcome", "reason")
        self.planned = counter("outputs_planned", "Outputs found missing.", "kind")
        self.bytes = counter("bytes", "Body bytes that came over the network.", "kind")
        self.jobs = counter("jobs", "Jobs by what the enumeration made of them.", "state")
        self.retries = counter("retries", "Further attempts on outputs.", "reason")
        self.throttles = counter("throttles", "Answers with status 429.")
        self.problems = counter("problems", "What went wrong with a whole job or project.", "reason")
        self.requests = counter("requests", "Requests by endpoint and class of status.", "endpoint", "status")
        self.durations = Histogram(
            "bulkdl_request_duration_seconds",
            "From the start of a request to the head of its answer.",
            ("endpoint",),
            buckets=_BUCKETS_S,
            registry=into,
        )
        self.open = gauge("outputs_open", "Outputs found missing that have not ended.", "kind")
        self.in_flight = gauge("in_flight", "Outputs that a worker is bringing.", "kind")
        self.queue_depth = gauge("queue_depth", "What waits between two stages.", "queue")
        self.disk_free = gauge("disk_free_bytes", "Free bytes where the outputs go.")
        self.build_info = gauge("build_info", "1; the program.", "version", "python")
        self.run_info = gauge("run_info", "1; the run.", "run_id")
        self.run_started = gauge("run_start_timestamp_seconds", "When the run began.")
        # Registered once there was a run that ended: a zero would say that it went well, in 1970.
        self.last_at = Gauge("bulkdl_last_run_timestamp_seconds", "When the last run ended.", registry=None)
        self.last_code = Gauge("bulkdl_last_run_exit_code", "How the last run ended.", registry=None)


class Metrics:
    """
    A reporter that counts.

    Args:
        free_bytes: Free bytes where the outputs go, as last seen.
    """

    def __init__(self, version: str, free_bytes: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        self._families = _Families(self._registry)
        self._flying: set[Output] = set()
        self._knows_last = False
        families = self._families
        families.disk_free.set_function(free_bytes)
        families.build_info.labels(version, platform.python_version()).set(1)
        for kind in Kind:
            families.planned.labels(kind.value)
            families.open.labels(kind.value)
            families.in_flight.labels(kind.value)
        self._bytes = {kind: families.bytes.labels(kind.value) for kind in Kind}
        self._handlers: Mapping[type[Event], Callable[..., None]] = {
            RunStarted: self._run_started,
            QueuesOpened: self._lanes_opened,
            RequestEnded: self._request_ended,
            JobEnumerated: self._job_enumerated,
            JobUnfinished: lambda _: families.jobs.labels("unfinished").inc(),
            OutputSkipped: self._output_skipped,
            ProblemFound: lambda event: families.problems.labels(event.reason.value).inc(),
            TransferStarted: lambda event: self._transfer_started(event.output),
            TransferAdvanced: lambda event: self._bytes[event.output.kind].inc(event.downloaded_bytes),
            RetryScheduled: lambda event: families.retries.labels(event.reason.value).inc(),
            TransferEnded: lambda event: self._transfer_ended(event.result),
            RunFinished: lambda event: self.last_run(event.finished_at, event.exit_code),
        }

    def report(self, event: Event) -> None:
        """Count *event*."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def last_run(self, finished_at: datetime, exit_code: float) -> None:
        """Set how the last run ended: this one, or one before it."""
        families = self._families
        if not self._knows_last:
            self._registry.register(families.last_at)
            self._registry.register(families.last_code)
            self._knows_last = True
        families.last_at.set(finished_at.timestamp())
        families.last_code.set(exit_code)

    def textfile(self) -> bytes:
        """The text of our metrics, for node-exporter, which has process metrics of its own."""
        return generate_latest(_Uncreated(self._registry))

    def exposition(self) -> bytes:
        """The text of our metrics and the process's."""
        return self.textfile() + generate_latest(self._process)

    def _run_started(self, event: RunStarted) -> None:
        self._families.run_info.labels(event.run_id).set(1)
        self._families.run_started.set(event.started_at.timestamp())

    def _lanes_opened(self, event: QueuesOpened) -> None:
        for name, depth in event.depths.items():
            self._families.queue_depth.labels(name).set_function(depth)

    def _request_ended(self, event: RequestEnded) -> None:
        status = "error" if event.status is None else f"{event.status // 100}xx"
        self._families.requests.labels(event.endpoint, status).inc()
        self._families.durations.labels(event.endpoint).observe(event.duration_s)
        if event.status == THROTTLED:
            self._families.throttles.inc()

    def _job_enumerated(self, event: JobEnumerated) -> None:
        self._families.jobs.labels("planned" if event.planned else "up_to_date").inc()
        for kind, count in event.planned_by_kind.items():
            self._families.planned.labels(kind.value).inc(count)
            self._families.open.labels(kind.value).inc(count)

    def _output_skipped(self, event: OutputSkipped) -> None:
        labels = (event.output.kind.value, Outcome.SKIPPED.value, event.reason.value)
        self._families.outputs.labels(*labels).inc()

    def _transfer_started(self, output: Output) -> None:
        self._flying.add(output)
        self._families.in_flight.labels(output.kind.value).inc()

    def _transfer_ended(self, result: Result) -> None:
        kind = result.output.kind.value
        if result.output.name or result.output.kind is not Kind.QUICKLOOK:
            # Without a name it is a list of quicklooks that could not be had, which nobody planned.
            self._families.open.labels(kind).dec()
        if result.output in self._flying:  # some end without ever having been taken up
            self._flying.remove(result.output)
            self._families.in_flight.labels(kind).dec()
        self._families.outputs.labels(kind, result.outcome.value, result.reason.value).inc()


class _Uncreated(Collector):
    """A registry without the moments at which its series were created: they would double their number."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [each for each in family.samples if not each.name.endswith("_created")]
            yield family
