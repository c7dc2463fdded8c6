"""Values of the metrics after events, read by the parser of Prometheus."""

from collections.abc import Iterable

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from bulkdl.models import ContainerRef, Outcome, Output, Reason
from bulkdl.sources.up42_jobs.models import Kind, job_output, job_ref
from bulkdl.sources.up42_jobs.spec import SPEC
from bulkdl.sources.up42_storage.spec import SPEC as STORAGE_SPEC
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
    TransferStarted,
    UploadAdvanced,
)
from bulkdl.telemetry.metrics import Metrics
from support.event_samples import ARCHIVE, AT, ended

PICTURE = job_output("p", "j", "t", Kind.QUICKLOOK, 'a"b\\c\n.jpg')


def after(*events: Event, free_bytes: float = 5.0) -> Metrics:
    metrics = Metrics("1.2.3", SPEC.kind_names, lambda: free_bytes)
    for event in events:
        metrics.report(event)
    return metrics


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics.render()).get((f"bulkdl_{name}", frozenset(labels.items())))


def test_metrics_count_bytes_on_progress_and_outputs_at_their_end():
    metrics = after(
        TransferStarted(ARCHIVE),
        TransferAdvanced(ARCHIVE, 100, 300, 100),
        TransferAdvanced(ARCHIVE, 300, 300, 200),
        ended(ARCHIVE),
        ended(PICTURE, Outcome.FAILED, Reason.STALLED),
    )
    assert value(metrics, "bytes_total", source="jobs", kind="archive") == 300
    assert value(metrics, "bytes_total", source="jobs", kind="geojson") == 0
    assert (
        value(
            metrics, "outputs_total", source="jobs", kind="archive", outcome="completed", reason="downloaded"
        )
        == 1
    )
    assert (
        value(metrics, "outputs_total", source="jobs", kind="quicklook", outcome="failed", reason="stalled")
        == 1
    )


def test_metrics_count_uploaded_bytes():
    metrics = after(UploadAdvanced("a/b", 100, 300, 100), UploadAdvanced("a/b", 300, 300, 200))
    assert value(metrics, "uploaded_bytes_total") == 300


def test_outputs_open_counts_planned_outputs_without_outcome():
    whole_list = job_output("p", "j", "t", Kind.QUICKLOOK)
    metrics = after(
        ContainerEnumerated(job_ref("p", "j"), 3, 0, {Kind.ARCHIVE: 2, Kind.QUICKLOOK: 1}),
        ended(ARCHIVE),
        ended(whole_list, Outcome.FAILED, Reason.SERVER_ERROR),
        OutputSkipped(PICTURE, Reason.NOT_AVAILABLE),
    )
    assert value(metrics, "outputs_open", source="jobs", kind="archive") == 1
    assert value(metrics, "outputs_open", source="jobs", kind="quicklook") == 1


def test_in_flight_is_not_negative_for_outputs_without_a_transfer():
    dropped = ended(PICTURE, Outcome.CANCELLED, Reason.STOPPED)
    metrics = after(TransferStarted(ARCHIVE), dropped)
    assert value(metrics, "in_flight", source="jobs", kind="archive") == 1
    assert value(metrics, "in_flight", source="jobs", kind="quicklook") == 0
    metrics.report(ended(ARCHIVE, Outcome.FAILED, Reason.STALLED))
    assert value(metrics, "in_flight", source="jobs", kind="archive") == 0


def test_metrics_count_containers_and_planned_outputs():
    metrics = after(
        ContainerEnumerated(job_ref("p", "a"), 3, 1, {Kind.ARCHIVE: 1, Kind.QUICKLOOK: 2}),
        ContainerEnumerated(job_ref("p", "b"), 0, 4),
        ContainerUnfinished(job_ref("p", "c")),
        OutputSkipped(ARCHIVE, Reason.UP_TO_DATE),
    )
    assert [
        value(metrics, "containers_total", source="jobs", state=s)
        for s in ("planned", "up_to_date", "unfinished")
    ] == [
        1,
        1,
        1,
    ]
    assert value(metrics, "outputs_planned_total", source="jobs", kind="quicklook") == 2
    assert value(metrics, "outputs_planned_total", source="jobs", kind="geojson") == 0
    assert (
        value(metrics, "outputs_total", source="jobs", kind="archive", outcome="skipped", reason="up_to_date")
        == 1
    )


def test_metrics_count_requests_throttles_retries_and_problems():
    metrics = after(
        RequestEnded("jobs", 200, 0.2, "jobs"),
        RequestEnded("jobs", 429, 0.02, "jobs"),
        RequestEnded("storage", None, 61.0, "jobs"),
        RetryScheduled(ARCHIVE, Reason.TRUNCATED, 1.0),
        ProblemFound(Reason.CREDENTIALS, "project p", "no", "jobs"),
        ProblemFound(Reason.DISK_FULL, "directory", "no"),
    )
    assert value(metrics, "requests_total", source="jobs", endpoint="jobs", status="2xx") == 1
    assert value(metrics, "requests_total", source="jobs", endpoint="jobs", status="4xx") == 1
    assert value(metrics, "requests_total", source="jobs", endpoint="storage", status="error") == 1
    assert value(metrics, "throttles_total") == 1
    assert value(metrics, "retries_total", reason="truncated") == 1
    assert value(metrics, "problems_total", source="jobs", reason="credentials") == 1
    assert value(metrics, "problems_total", source="", reason="disk_full") == 1
    assert value(metrics, "request_duration_seconds_count", source="jobs", endpoint="jobs") == 2
    assert value(metrics, "request_duration_seconds_bucket", source="jobs", endpoint="jobs", le="0.05") == 1
    assert (
        value(metrics, "request_duration_seconds_bucket", source="jobs", endpoint="storage", le="60.0") == 0
    )
    assert (
        value(metrics, "request_duration_seconds_bucket", source="jobs", endpoint="storage", le="+Inf") == 1
    )


def test_queue_depth_is_read_at_scrape_time():
    waiting: list[int] = []
    metrics = after(QueuesOpened({"containers": waiting.__len__}))
    assert value(metrics, "queue_depth", queue="containers") == 0
    waiting.extend([1, 2])
    assert value(metrics, "queue_depth", queue="containers") == 2


def test_metrics_contain_run_build_and_disk_space():
    metrics = after(RunStarted("r-1", AT), free_bytes=float("nan"))
    assert value(metrics, "run_info", run_id="r-1") == 1
    assert value(metrics, "run_start_timestamp_seconds") == AT.timestamp()
    free = value(metrics, "disk_free_bytes")
    assert free != free  # NaN: unknown
    assert any(name == "bulkdl_build_info" for name, _ in samples(metrics.render_textfile()))


def test_last_run_metrics_are_absent_before_the_end_of_a_run():
    metrics = after(RunStarted("r-1", AT))
    assert value(metrics, "last_run_exit_code") is None
    metrics.report(RunFinished(AT, 3))
    metrics.report(RunFinished(AT, 143))  # a signal has the last word
    assert value(metrics, "last_run_exit_code") == 143
    assert value(metrics, "last_run_timestamp_seconds") == AT.timestamp()


def test_render_textfile_omits_process_metrics():
    metrics = after()
    assert b"process_resident_memory_bytes" in metrics.render()
    assert b"process_" not in metrics.render_textfile()


def test_metrics_omit_created_series_and_the_global_registry():
    metrics = after(RequestEnded("jobs", 200, 0.2, "jobs"), RetryScheduled(ARCHIVE, Reason.STALLED, 1.0))
    assert b"_created" not in metrics.render_textfile()
    assert not [family for family in REGISTRY.collect() if family.name.startswith("bulkdl")]
    Metrics("1", SPEC.kind_names, lambda: 0.0)  # a second run in the process does not register duplicates


def test_metric_names_follow_prometheus_conventions():
    metrics = after(*_every_event())
    for family in text_string_to_metric_families(metrics.render_textfile().decode()):
        assert family.name.startswith("bulkdl_")
        assert family.documentation.endswith(".")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
        else:
            assert not family.name.endswith("_total")
        for label in {label for sample in family.samples for label in sample.labels}:
            assert label not in {"job", "instance", "name", "job_id", "project_id"}, family.name


def test_labels_do_not_contain_names_from_the_server():
    assert b".jpg" not in after(*_every_event()).render()


def _every_event() -> Iterable[Event]:
    return (
        RunStarted("r-1", AT),
        QueuesOpened({"containers": lambda: 1}),
        RequestEnded("quicklook", 200, 0.2, "jobs"),
        ContainerEnumerated(job_ref("p", "a"), 1, 0, {Kind.QUICKLOOK: 1}),
        OutputSkipped(PICTURE, Reason.UP_TO_DATE),
        ProblemFound(Reason.INVALID_RESPONSE, "job j", PICTURE.name),
        TransferStarted(PICTURE),
        TransferAdvanced(PICTURE, 1, 2, 1),
        RetryScheduled(PICTURE, Reason.STALLED, 1.0),
        ended(PICTURE, Outcome.FAILED, Reason.STALLED, detail=PICTURE.name),
        RunFinished(AT, 3),
    )


@pytest.mark.parametrize("event", _every_event(), ids=lambda event: type(event).__name__)
def test_metrics_after_a_single_event_can_be_parsed(event):
    assert samples(after(event).render())


def test_metrics_count_processed_outputs_and_derived_files():
    metrics = after(
        OutputProcessed("unpack", ARCHIVE, Outcome.COMPLETED, 3, 500),
        OutputProcessed("unpack", PICTURE, Outcome.FAILED, 0, 0),
        OutputProcessed("unpack", None, Outcome.COMPLETED, 1, 20),
    )
    assert value(metrics, "outputs_processed_total", processor="unpack", outcome="completed") == 1
    assert value(metrics, "outputs_processed_total", processor="unpack", outcome="failed") == 1
    assert value(metrics, "derived_files_total", processor="unpack") == 4
    assert value(metrics, "derived_bytes_total", processor="unpack") == 520


def test_metrics_of_two_sources_have_a_series_for_each_of_them():
    metrics = Metrics("1", (*SPEC.kind_names, *STORAGE_SPEC.kind_names), lambda: 5.0)
    delivery = ContainerRef("storage", "w", "c")
    for event in (
        ContainerEnumerated(job_ref("p", "a"), 1, 0, {Kind.ARCHIVE: 1}),
        ContainerEnumerated(delivery, 2, 0, {"original": 2}),
        TransferAdvanced(Output(delivery, "", "original", "a.tif"), 10, 10, 10),
        RequestEnded("token", 200, 0.1, "jobs"),
        RequestEnded("token", 200, 0.1, "storage"),
    ):
        metrics.report(event)
    for source, kind, planned in (("jobs", "archive", 1), ("storage", "original", 2)):
        assert value(metrics, "containers_total", source=source, state="planned") == 1
        assert value(metrics, "outputs_planned_total", source=source, kind=kind) == planned
        assert value(metrics, "requests_total", source=source, endpoint="token", status="2xx") == 1
    assert value(metrics, "bytes_total", source="storage", kind="original") == 10
