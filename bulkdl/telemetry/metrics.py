"""
Metrics of a run for Prometheus, in a separate registry.

A run is one process. Every counter therefore starts at zero and counts the current run. docs/metrics.md
describes the metrics. A test compares that page, the alerts and the dashboard with this module.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from bulkdl.models import ContainerRef, Outcome, Output, Result
from bulkdl.source_spec import is_listing_placeholder, source_of_kind, source_spec
from bulkdl.telemetry.events import (
    ContainerEnumerated,
    ContainerUnfinished,
    Event,
    OutputProcessed,
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
    UploadAdvanced,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TOO_MANY_REQUESTS = 429
_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class _Families:
    """All metrics; each constructor registers its metric."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"bulkdl_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"bulkdl_{name}", text, labels, registry=registry)

        kind = ("source", "kind")
        self.outputs = counter("outputs", "Finished outputs.", *kind, "outcome", "reason")
        self.planned = counter("outputs_planned", "Missing outputs.", *kind)
        self.bytes = counter("bytes", "Body bytes received over the network.", *kind)
        self.containers = counter("containers", "Containers by state.", "source", "state")
        self.retries = counter("retries", "Retries of outputs.", "reason")
        self.throttles = counter("throttles", "Responses with status 429.")
        self.uploaded_bytes = counter("uploaded_bytes", "Bytes sent to an object store.")
        self.problems = counter(
            "problems", "Failures of a scope, a container, the directory or a processor.", "source", "reason"
        )
        self.processed = counter("outputs_processed", "Processed outputs.", "processor", "outcome")
        self.derived = counter("derived_files", "Derived files.", "processor")
        self.derived_bytes = counter("derived_bytes", "Size of the derived files.", "processor")
        self.requests = counter(
            "requests", "Requests by endpoint and status class.", "source", "endpoint", "status"
        )
        self.durations = Histogram(
            "bulkdl_request_duration_seconds",
            "Time from the start of a request to the response headers.",
            ("source", "endpoint"),
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self.open = gauge("outputs_open", "Missing outputs that are not finished.", *kind)
        self.in_flight = gauge("in_flight", "Outputs that a worker is downloading.", *kind)
        self.queue_depth = gauge("queue_depth", "Items in the queue between two stages.", "queue")
        self.disk_free = gauge("disk_free_bytes", "Free disk space of the output directory.")
        self.build_info = gauge("build_info", "Always 1; versions of bulkdl and Python.", "version", "python")
        self.run_info = gauge("run_info", "Always 1; ID of the run.", "run_id")
        self.run_started = gauge("run_start_timestamp_seconds", "Start time of the run.")
        # Registered when a run has ended: the value 0 would mean a successful run in 1970.
        self.last_at = Gauge("bulkdl_last_run_timestamp_seconds", "End time of the last run.", registry=None)
        self.last_code = Gauge("bulkdl_last_run_exit_code", "Exit code of the last run.", registry=None)


class Metrics:
    """
    A reporter that counts events as metrics.

    Args:
        kinds: The kinds of the sources of the run.
        free_bytes: Returns the last known free disk space of the output directory.
    """

    def __init__(self, version: str, kinds: Sequence[str], free_bytes: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        self._families = _Families(self._registry)
        self._active: set[Output] = set()
        self._has_last_run = False
        families = self._families
        families.disk_free.set_function(free_bytes)
        families.build_info.labels(version, platform.python_version()).set(1)
        self._kind_labels: dict[str, tuple[str, str]] = {}
        self._bytes: dict[str, Counter] = {}
        self._add_kinds(kinds)
        self._handlers: Mapping[type[Event], Callable[..., None]] = {
            RunStarted: self._run_started,
            QueuesOpened: self._queues_opened,
            RequestEnded: self._request_ended,
            ContainerEnumerated: self._container_enumerated,
            ContainerUnfinished: lambda event: self._count_container(event.container, "unfinished"),
            OutputSkipped: self._output_skipped,
            ProblemFound: self._problem_found,
            TransferStarted: lambda event: self._transfer_started(event.output),
            TransferAdvanced: lambda event: self._bytes[event.output.kind].inc(event.downloaded_bytes),
            UploadAdvanced: lambda event: families.uploaded_bytes.inc(event.sent_bytes),
            RetryScheduled: lambda event: families.retries.labels(event.reason.value).inc(),
            TransferEnded: lambda event: self._transfer_ended(event.result),
            OutputProcessed: self._output_processed,
            RunFinished: lambda event: self.set_last_run(event.finished_at, event.exit_code),
        }

    def _add_kinds(self, kinds: Iterable[str]) -> None:
        """Create the series of *kinds*, so that they are zero and not missing."""
        for kind in kinds:
            labels = self._kind_labels[kind] = (source_of_kind(kind) or "", kind)
            self._families.planned.labels(*labels)
            self._families.open.labels(*labels)
            self._families.in_flight.labels(*labels)
            self._bytes[kind] = self._families.bytes.labels(*labels)

    def report(self, event: Event) -> None:
        """Count *event*."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def set_last_run(self, finished_at: datetime, exit_code: float) -> None:
        """Set the end time and the exit code of the last run: the current or the previous run."""
        families = self._families
        if not self._has_last_run:
            self._registry.register(families.last_at)
            self._registry.register(families.last_code)
            self._has_last_run = True
        families.last_at.set(finished_at.timestamp())
        families.last_code.set(exit_code)

    def render_textfile(self) -> bytes:
        """Return the text without process metrics, because node-exporter has its own."""
        return generate_latest(_CollectorWithoutCreated(self._registry))

    def render(self) -> bytes:
        """Return the text with the metrics of the process."""
        return self.render_textfile() + generate_latest(self._process)

    def _run_started(self, event: RunStarted) -> None:
        kinds = [kind for source in event.sources for kind in source_spec(source).kind_names]
        self._add_kinds(kind for kind in kinds if kind not in self._kind_labels)
        self._families.run_info.clear()  # a service has many runs
        self._families.run_info.labels(event.run_id).set(1)
        self._families.run_started.set(event.started_at.timestamp())

    def _queues_opened(self, event: QueuesOpened) -> None:
        for name, depth in event.depths.items():
            self._families.queue_depth.labels(name).set_function(depth)

    def _request_ended(self, event: RequestEnded) -> None:
        status = "error" if event.status is None else f"{event.status // 100}xx"
        self._families.requests.labels(event.source, event.endpoint, status).inc()
        self._families.durations.labels(event.source, event.endpoint).observe(event.duration_s)
        if event.status == TOO_MANY_REQUESTS:
            self._families.throttles.inc()

    def _container_enumerated(self, event: ContainerEnumerated) -> None:
        self._count_container(event.container, "planned" if event.planned else "up_to_date")
        for kind, count in event.planned_by_kind.items():
            labels = self._kind_labels[kind]
            self._families.planned.labels(*labels).inc(count)
            self._families.open.labels(*labels).inc(count)

    def _count_container(self, container: ContainerRef, state: str) -> None:
        self._families.containers.labels(container.source, state).inc()

    def _problem_found(self, event: ProblemFound) -> None:
        self._families.problems.labels(event.source or "", event.reason.value).inc()

    def _output_skipped(self, event: OutputSkipped) -> None:
        labels = self._kind_labels[event.output.kind]
        self._families.outputs.labels(*labels, Outcome.SKIPPED.value, event.reason.value).inc()

    def _output_processed(self, event: OutputProcessed) -> None:
        if event.output is not None:
            self._families.processed.labels(event.processor, event.state.value).inc()
        self._families.derived.labels(event.processor).inc(event.files)
        self._families.derived_bytes.labels(event.processor).inc(event.size_bytes)

    def _transfer_started(self, output: Output) -> None:
        self._active.add(output)
        self._families.in_flight.labels(*self._kind_labels[output.kind]).inc()

    def _transfer_ended(self, result: Result) -> None:
        labels = self._kind_labels[result.output.kind]
        if not is_listing_placeholder(result.output):  # a list that failed was not counted as planned
            self._families.open.labels(*labels).dec()
        if result.output in self._active:  # an output can end before its transfer starts
            self._active.remove(result.output)
            self._families.in_flight.labels(*labels).dec()
        self._families.outputs.labels(*labels, result.outcome.value, result.reason.value).inc()


class _CollectorWithoutCreated(Collector):
    """A registry without the ``_created`` series, which would double the number of series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
