import json

import pytest

from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.models import ContainerRef, Outcome, Output, Reason, Result
from bulkdl.sources.up42_jobs.models import Kind, job_output, job_ref
from bulkdl.sources.up42_jobs.spec import SPEC
from bulkdl.sources.up42_storage.spec import SPEC as STORAGE_SPEC
from bulkdl.telemetry.dashboard import FAILURES_SHOWN, TRANSFERS_SHOWN, RunStatus
from bulkdl.telemetry.events import (
    ContainerEnumerated,
    ContainerUnfinished,
    EnumerationFinished,
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
)
from support.event_samples import ARCHIVE, AT, ended


def picture(number: int) -> Output:
    return job_output("p", "j", "t", Kind.QUICKLOOK, f"{number}.jpg")


class Dashboard:
    """A run status with a clock."""

    def __init__(self):
        self.now_s = 0.0
        self.status = RunStatus("1.2.3", SPEC.kind_names, lambda: self.now_s, lambda: AT)

    def after(self, *events):
        for event in events:
            self.status.report(event)
        document = self.status.document(5.0)
        assert json.loads(json.dumps(document, allow_nan=False)) == document
        return document

    def kind(self, kind, *events):
        return next(row for row in self.after(*events)["kinds"] if row["kind"] == kind)


@pytest.fixture
def dashboard():
    return Dashboard()


def test_document_shows_the_state_of_the_run(dashboard):
    assert dashboard.after()["state"] == "starting"
    assert dashboard.after(RunStarted("r-1", AT))["state"] == "listing"
    assert dashboard.after(EnumerationFinished())["state"] == "downloading"
    document = dashboard.after(RunFinished(AT, 3))
    assert [document[key] for key in ("state", "exit_code", "run_id")] == ["finished", 3, "r-1"]
    assert document["started_at"] == document["finished_at"] == AT.isoformat()


def test_document_counts_outputs_by_kind_and_outcome(dashboard):
    tally = dashboard.kind(
        "quicklook",
        ContainerEnumerated(job_ref("p", "j"), 4, 2, {Kind.QUICKLOOK: 4}),
        OutputSkipped(picture(8), Reason.UP_TO_DATE),
        OutputSkipped(picture(9), Reason.NOT_AVAILABLE),
        TransferAdvanced(picture(0), 10, 10, 10),
        ended(picture(0)),
        ended(picture(1), Outcome.SKIPPED, Reason.NOT_AVAILABLE),
        ended(picture(2), Outcome.FAILED, Reason.STALLED),
        ended(picture(3), Outcome.CANCELLED, Reason.STOPPED),
    )
    assert tally == {
        "source": "jobs",
        "kind": "quicklook",
        "planned": 4,
        "up_to_date": 2,
        "completed": 1,
        "skipped": 1,
        "failed": 1,
        "cancelled": 1,
        "downloaded_bytes": 10,
        "left": 0,
        "rate_bytes_per_s": 10,
    }


def test_transfer_row_contains_bytes_and_retry_note(dashboard):
    dashboard.after(TransferStarted(ARCHIVE))
    dashboard.now_s = 4.0
    transfer = dashboard.after(TransferAdvanced(ARCHIVE, 300, 900, 300))["in_flight"][0]
    fields = ("offset_bytes", "total_bytes", "elapsed_s", "note")
    assert [transfer[field] for field in fields] == [300, 900, 4.0, ""]
    document = dashboard.after(RetryScheduled(ARCHIVE, Reason.STALLED, 2.4))
    assert document["in_flight"][0]["note"] == "stalled, retry in 2.4 s"
    assert document["retries"] == 1
    assert dashboard.after(TransferAdvanced(ARCHIVE, 400, 900, 100))["in_flight"][0]["note"] == ""
    assert dashboard.after(ended(ARCHIVE))["in_flight"] == []


def test_document_lists_archives_first_and_limits_the_list(dashboard):
    dashboard.after(*(TransferStarted(picture(n)) for n in range(200)), TransferStarted(ARCHIVE))
    dashboard.now_s = 2.1
    document = dashboard.after()
    assert len(document["in_flight"]) == TRANSFERS_SHOWN
    assert document["in_flight_total"] == 201
    assert document["in_flight"][0]["kind"] == "archive"


def test_document_counts_small_transfers_without_listing_them(dashboard):
    document = dashboard.after(
        TransferStarted(picture(1)),
        TransferStarted(ARCHIVE),
        TransferAdvanced(ARCHIVE, 1, 17 << 20, 1),
    )
    assert [transfer["kind"] for transfer in document["in_flight"]] == ["archive"]
    assert document["in_flight_total"] == 2


def test_document_has_the_eta_once_all_jobs_are_listed(dashboard):
    planned = ContainerEnumerated(job_ref("p", "j"), 2, 0, {Kind.QUICKLOOK: 2})
    assert dashboard.after(planned, TransferStarted(picture(0)))["eta_s"] is None
    dashboard.now_s = 5.0
    completed = Result(picture(0), Outcome.COMPLETED, Reason.DOWNLOADED, downloaded_bytes=10)
    advanced = TransferAdvanced(picture(0), 10, 10, 10)
    assert dashboard.after(EnumerationFinished(), advanced, TransferEnded(completed))["eta_s"] == 5


def test_document_lists_the_latest_failures_with_reason_detail_and_hint(dashboard):
    for number in range(100):
        dashboard.after(ended(picture(number), Outcome.FAILED, Reason.STALLED, detail="x" * 9000))
    document = dashboard.after(
        ProblemFound(Reason.FORBIDDEN, "project p", "403 at https://h/o?X-Goog-Signature=abc123 no")
    )
    assert document["failures_total"] == 101
    assert len(document["failures"]) == FAILURES_SHOWN
    latest, before = document["failures"][:2]
    assert (latest["subject"], latest["reason"]) == ("project p", "forbidden")
    assert latest["detail"] == "403 at https://h/o?X-Goog-Signature=*** no"
    assert latest["hint"] == FAILURE_POLICIES[Reason.FORBIDDEN].hint
    assert before["name"] == "99.jpg"
    assert len(json.dumps(document)) < 60_000


def test_document_does_not_list_skipped_and_cancelled_outputs_as_failures(dashboard):
    document = dashboard.after(
        ended(ARCHIVE, Outcome.SKIPPED, Reason.NOT_AVAILABLE),
        ended(picture(1), Outcome.CANCELLED, Reason.STOPPED),
    )
    assert document["failures_total"] == 0


def test_document_rate_covers_the_last_seconds(dashboard):
    for second in range(20):
        dashboard.now_s = float(second)
        dashboard.after(TransferAdvanced(ARCHIVE, 0, None, 1000))
    assert dashboard.after()["rate_bytes_per_s"] == pytest.approx(1000, rel=0.15)
    dashboard.now_s = 60.0
    assert dashboard.after()["rate_bytes_per_s"] == 0


def test_document_contains_sources_queues_and_throttles(dashboard):
    document = dashboard.after(
        QueuesOpened({"containers": lambda: 3}),
        ContainerEnumerated(job_ref("p", "a"), 1, 0),
        ContainerEnumerated(job_ref("p", "b"), 0, 1),
        ContainerUnfinished(job_ref("p", "c")),
        RequestEnded("jobs", 429, 0.1),
        RequestEnded("jobs", 200, 0.1),
    )
    (source,) = document["sources"]
    assert source == {"source": "jobs", "label": "jobs", "planned": 1, "up_to_date": 1, "unfinished": 1}
    assert document["queues"] == {"containers": 3}
    assert document["throttles"] == 1


def test_document_counts_processed_outputs_and_derived_files(dashboard):
    document = dashboard.after(
        OutputProcessed("unpack", ARCHIVE, Outcome.COMPLETED, 3, 500),
        OutputProcessed("unpack", picture(1), Outcome.FAILED, 0, 0),
        OutputProcessed("unpack", picture(2), Outcome.SKIPPED, 0, 0),
    )
    assert document["processors"] == [
        {"processor": "unpack", "completed": 1, "skipped": 1, "failed": 1, "files": 3, "size_bytes": 500}
    ]


def test_document_of_two_sources_shows_the_source_of_each_row(dashboard):
    delivery = ContainerRef("storage", "w", "delivery-1")
    asset = Output(delivery, "item-1", "asset", "b.tif")
    dashboard.status = RunStatus(
        "1", (*SPEC.kind_names, *STORAGE_SPEC.kind_names), lambda: dashboard.now_s, lambda: AT
    )
    dashboard.after(
        RunStarted("r-1", AT, ("jobs", "storage")),
        ContainerEnumerated(delivery, 2, 0, {"asset": 2}),
        TransferStarted(asset),
        ended(ARCHIVE, Outcome.FAILED, Reason.STALLED),
        ProblemFound(Reason.FORBIDDEN, "account team", "403", "storage"),
    )
    dashboard.now_s = 3.0
    document = dashboard.after()
    assert [(part["source"], part["label"], part["planned"]) for part in document["sources"]] == [
        ("jobs", "jobs", 0),
        ("storage", "deliveries", 1),
    ]
    (row,) = document["in_flight"]
    assert (row["source"], row["scope"], row["container_id"], row["parent"]) == (
        "storage",
        "w",
        "delivery-1",
        "item-1",
    )
    assert row["label"] == "delivery delivery item item-1"
    assert [failure["source"] for failure in document["failures"]] == ["storage", "jobs"]
    assert {kind["kind"]: kind["source"] for kind in document["kinds"]}["preview"] == "storage"
