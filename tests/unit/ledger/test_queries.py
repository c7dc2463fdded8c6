"""Queries of jobs, outputs and runs."""

import sqlite3
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkdl.errors import ApiError
from bulkdl.ledger import maintenance_queries, queries
from bulkdl.ledger.migrations import migrate
from bulkdl.listings import ContainerListing, ListingFailure, PlannedOutput
from bulkdl.models import CommittedFile, Digest, Outcome, Reason, Result, Validator
from bulkdl.sources.up42_jobs.models import SOURCE, Kind, job_container, job_output, job_ref

AT = datetime(2024, 1, 31, 12, 30, 15, 123456, tzinfo=UTC)
YEARS = (datetime(1990, 1, 1), datetime(2090, 1, 1))  # noqa: DTZ001 - hypothesis adds the zones
JOB = job_container("p", "j", "SUCCEEDED", "DEFAULT", "a name", AT, AT, "w")
ARCHIVE = job_output("p", "j", "t", Kind.ARCHIVE)
FINAL = job_output("p", "j", None, Kind.ARCHIVE)
QUICKLOOK = job_output("p", "j", "t", Kind.QUICKLOOK, "../a.jpg")
LIST = job_output("p", "j", "t", Kind.QUICKLOOK)
PLANNED = (
    PlannedOutput(ARCHIVE, identity="result"),
    PlannedOutput(FINAL, identity="result"),
    PlannedOutput(QUICKLOOK, "a~123.jpg"),
)
LISTED = frozenset({"archive", "geojson"})
ALL_LISTED = LISTED | {"quicklook"}


def open_ledger():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    migrate(connection, "memory")
    return connection


@pytest.fixture
def ledger():
    connection = open_ledger()
    yield connection
    connection.close()


def new_file(key="p/j/t/task_output.tar.gz", source="https://s/o"):
    validator = Validator('"v1"', "date", "17")
    return CommittedFile(key, 77, Digest("crc32c", "yZRlqg=="), validator, source, '"etag-of-the-copy"')


def new_result(output, **more):
    return Result(
        output, Outcome.COMPLETED, Reason.DOWNLOADED, new_file(**more), attempts=2, downloaded_bytes=77
    )


def plan(connection, *planned, job=JOB, kinds=ALL_LISTED, failed=()):
    failures = tuple(ListingFailure(output, ApiError(Reason.SERVER_ERROR, "HTTP 503")) for output in failed)
    queries.plan_container(connection, ContainerListing(job, planned or PLANNED, kinds, {}, failures))


def read_containers(connection, scope, ids):
    return queries.read_containers(connection, SOURCE, scope, ids)


def read_container(connection):
    return read_containers(connection, "p", ["j", "unknown"])["j"]


def read_output(connection, output):
    return next(record for record in read_container(connection).outputs if record.output == output)


def test_plan_container_records_the_job_with_all_its_outputs(ledger):
    assert read_containers(ledger, "p", ["j"]) == {}
    plan(ledger)
    found = read_container(ledger)
    assert found.container == JOB
    assert found.listed_kinds == ALL_LISTED
    assert [record.identity for record in found.outputs] == ["result", "result", ""]
    assert [record.output for record in found.outputs] == [ARCHIVE, FINAL, QUICKLOOK]
    assert [record.filename for record in found.outputs] == ["", "", "a~123.jpg"]
    assert {record.state for record in found.outputs} == {"planned"}
    assert read_containers(ledger, "other", ["j"]) == {}
    assert queries.find_scopes(ledger, SOURCE, "j") == ["p"]
    assert queries.find_scopes(ledger, SOURCE, "unknown") == []


@settings(deadline=None)
@given(
    name=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    created=st.datetimes(*YEARS, timezones=st.timezones()),
    finished=st.none() | st.datetimes(timezones=st.just(UTC)),
    quicklook=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
def test_plan_container_stores_all_values_unchanged(name, created, finished, quicklook):
    connection = open_ledger()
    job = job_container("p", "j", "FAILED", "DRY_RUN", name, created.astimezone(UTC), finished, None)
    output = job_output("p", "j", "t", Kind.QUICKLOOK, quicklook)
    plan(connection, PlannedOutput(output, "file"), job=job)
    found = read_container(connection)
    assert (found.container, [record.output for record in found.outputs]) == (job, [output])
    connection.close()


def test_record_results_stores_the_result(ledger):
    plan(ledger)
    queries.record_results(ledger, [new_result(ARCHIVE)], "run1")
    found = read_output(ledger, ARCHIVE)
    assert (found.state, found.reason, found.file) == ("completed", Reason.DOWNLOADED, new_file())
    assert found.is_completed
    assert not read_output(ledger, FINAL).is_completed


def test_record_results_adds_attempts_of_several_runs(ledger):
    plan(ledger)
    queries.record_results(ledger, [new_result(ARCHIVE)], "run1")
    queries.record_results(
        ledger, [Result(ARCHIVE, Outcome.FAILED, Reason.STALLED, attempts=5, detail="slow")], "run2"
    )
    [failed] = maintenance_queries.list_failed_outputs_after(ledger, 0)
    assert (failed.record.output, failed.reason, failed.detail, failed.attempts) == (
        ARCHIVE,
        Reason.STALLED,
        "slow",
        7,
    )


def test_record_failure_keeps_the_committed_file(ledger):
    plan(ledger)
    queries.record_results(ledger, [new_result(ARCHIVE)], "run1")
    queries.record_results(ledger, [Result(ARCHIVE, Outcome.FAILED, Reason.STALLED)], "run2")
    assert read_output(ledger, ARCHIVE).file == new_file()
    assert not read_output(ledger, ARCHIVE).is_completed


def test_record_new_file_replaces_all_values_of_the_old_file(ledger):
    plan(ledger)
    queries.record_results(ledger, [new_result(ARCHIVE)], "run1")
    bare = CommittedFile("k", 1, Digest("crc32c", "AAAAAA=="), Validator(), None)
    queries.record_results(ledger, [Result(ARCHIVE, Outcome.COMPLETED, Reason.DOWNLOADED, bare)], "run2")
    assert read_output(ledger, ARCHIVE).file.validator == Validator()
    assert read_output(ledger, ARCHIVE).file.version is None
    assert read_output(ledger, ARCHIVE).file.key == "k"


def test_record_not_available_output_is_not_available(ledger):
    plan(ledger)
    queries.record_results(ledger, [Result(FINAL, Outcome.SKIPPED, Reason.NOT_AVAILABLE)], "run1")
    assert read_output(ledger, FINAL).is_not_available
    assert not read_output(ledger, ARCHIVE).is_not_available


def test_plan_container_again_keeps_recorded_results(ledger):
    plan(ledger)
    queries.record_results(ledger, [new_result(ARCHIVE)], "run1")
    plan(ledger, PlannedOutput(ARCHIVE), PlannedOutput(QUICKLOOK, "renamed.jpg"))
    assert read_output(ledger, ARCHIVE).is_completed
    assert read_output(ledger, QUICKLOOK).filename == "renamed.jpg"
    assert len(read_container(ledger).outputs) == 3


def test_plan_container_after_a_failed_listing_removes_the_placeholder(ledger):
    plan(ledger, PlannedOutput(ARCHIVE), kinds=LISTED, failed=[LIST])
    queries.record_results(
        ledger, [Result(LIST, Outcome.FAILED, Reason.SERVER_ERROR, detail="HTTP 503")], "run1"
    )
    assert read_container(ledger).listed_kinds == LISTED
    assert len(maintenance_queries.list_failed_outputs_after(ledger, 0)) == 1
    plan(ledger)
    assert read_container(ledger).listed_kinds == ALL_LISTED
    assert maintenance_queries.list_failed_outputs_after(ledger, 0) == []
    plan(ledger, PlannedOutput(ARCHIVE), kinds=LISTED)
    assert read_container(ledger).listed_kinds == ALL_LISTED


def test_record_listing_failure_is_replaced_by_a_later_listing(ledger):
    queries.record_listing_failure(ledger, JOB, Reason.SERVER_ERROR, "HTTP 503")
    assert not read_container(ledger).listed_kinds
    assert queries.count_containers(ledger) == {SOURCE: {"listing_failed": 1}}
    plan(ledger)
    assert read_container(ledger).listed_kinds
    queries.record_listing_failure(ledger, JOB, Reason.SERVER_ERROR, "HTTP 503")
    assert read_container(ledger).listed_kinds


def test_find_same_object_searches_only_the_container(ledger):
    plan(ledger)
    plan(
        ledger,
        PlannedOutput(job_output("p", "k", "t", Kind.ARCHIVE)),
        job=job_container("p", "k", "SUCCEEDED", "", None, AT, AT, None),
    )
    queries.record_results(ledger, [new_result(ARCHIVE)], "run1")
    assert queries.find_same_object(ledger, FINAL, "https://s/o") == [new_file()]
    assert queries.find_same_object(ledger, ARCHIVE, "https://s/o") == []
    assert queries.find_same_object(ledger, FINAL, "https://s/other") == []
    assert queries.find_same_object(ledger, job_output("p", "k", None, Kind.ARCHIVE), "https://s/o") == []
    queries.record_results(ledger, [Result(ARCHIVE, Outcome.FAILED, Reason.STALLED)], "run2")
    assert queries.find_same_object(ledger, FINAL, "https://s/o") == []


def test_find_same_identity_searches_all_containers_of_the_source(ledger):
    there = job_output("p", "k", "t", Kind.ARCHIVE)
    plan(ledger, PlannedOutput(FINAL, identity="a"))
    plan(
        ledger,
        PlannedOutput(there, identity="a"),
        job=job_container("p", "k", "SUCCEEDED", "", None, AT, AT, None),
    )
    queries.record_results(ledger, [new_result(FINAL)], "run1")
    assert queries.find_same_identity(ledger, there, "a") == [new_file()]
    assert queries.find_same_identity(ledger, FINAL, "a") == [], "its own file"
    assert queries.find_same_identity(ledger, there, "b") == []
    assert queries.find_same_identity(ledger, there, "") == []
    unrecorded = job_output("p", "unrecorded", "t", Kind.ARCHIVE)
    assert queries.find_same_identity(ledger, unrecorded, "a") == [new_file()]
    queries.record_results(ledger, [Result(FINAL, Outcome.FAILED, Reason.STALLED)], "run2")
    assert queries.find_same_identity(ledger, there, "a") == []


def test_forget_container_deletes_its_outputs(ledger):
    plan(ledger)
    queries.forget_container(ledger, job_ref("p", "j"))
    assert read_containers(ledger, "p", ["j"]) == {}
    assert ledger.execute("SELECT count(*) FROM outputs").fetchone()[0] == 0


def test_record_results_of_an_unplanned_output_creates_no_row(ledger):
    queries.record_results(ledger, [new_result(ARCHIVE)], "run1")
    assert ledger.execute("SELECT count(*) FROM outputs").fetchone()[0] == 0


def test_count_containers_and_outputs_by_state(ledger):
    plan(ledger)
    assert queries.count_containers(ledger) == {SOURCE: {"incomplete": 1}}
    queries.record_results(ledger, [new_result(ARCHIVE), new_result(FINAL)], "run1")
    queries.record_results(ledger, [Result(QUICKLOOK, Outcome.FAILED, Reason.STALLED)], "run1")
    assert queries.count_containers(ledger) == {SOURCE: {"incomplete": 1}}
    assert sorted(queries.count_outputs(ledger)) == [
        (Kind.ARCHIVE, "completed", "downloaded", 2, 154),
        (Kind.QUICKLOOK, "failed", "stalled", 1, 0),
    ]
    queries.record_results(ledger, [Result(QUICKLOOK, Outcome.SKIPPED, Reason.NOT_AVAILABLE)], "run1")
    assert queries.count_containers(ledger) == {SOURCE: {"up_to_date": 1}}


def test_find_last_run_end_returns_only_finished_runs(ledger):
    assert queries.find_last_run_end(ledger) is None
    queries.start_run(ledger, "run1", {"jobs": None, "storage": "s"}, destination="/out")
    assert queries.find_last_run_end(ledger) is None
    queries.finish_run(ledger, "run1", 3, "{}")
    assert queries.find_last_run_end(ledger) is not None
    row = ledger.execute("SELECT * FROM runs").fetchone()
    assert (row["run_id"], row["exit_code"], row["summary"]) == ("run1", 3, "{}")
    assert row["destination"] == "/out"


def test_find_watermark_returns_the_last_run_in_which_the_source_succeeded(ledger):
    queries.start_run(ledger, "run1", {"jobs": "a", "storage": "a"}, destination="/out")
    assert queries.find_watermark(ledger, "jobs", "a") is None
    queries.finish_run(ledger, "run1", 3, "{}", exit_codes={"jobs": 3, "storage": 0})
    assert queries.find_watermark(ledger, "jobs", "a") is None
    started_at = queries.find_watermark(ledger, "storage", "a")
    assert started_at is not None
    assert queries.find_watermark(ledger, "storage", "b") is None
    queries.start_run(ledger, "run2", {"jobs": "a"}, destination="/out")
    queries.finish_run(ledger, "run2", 0, "{}", exit_codes={"jobs": 0})
    assert (
        queries.find_watermark(ledger, "jobs", "a")
        >= started_at
        == queries.find_watermark(ledger, "storage", "a")
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda ledger: read_containers(ledger, "p", ["j", "k"]),
        lambda ledger: queries.find_scopes(ledger, SOURCE, "j"),
        lambda ledger: queries.find_same_object(ledger, ARCHIVE, "https://s/o"),
        lambda ledger: queries.find_same_identity(ledger, ARCHIVE, "a"),
        plan,
        lambda ledger: queries.record_results(ledger, [new_result(ARCHIVE)], "run"),
        lambda ledger: queries.record_listing_failure(ledger, JOB, Reason.SERVER_ERROR, "503"),
        lambda ledger: queries.forget_container(ledger, job_ref("p", "j")),
    ],
    ids=[
        "read_containers",
        "find_scopes",
        "find_same_object",
        "find_same_identity",
        "plan_container",
        "record_results",
        "record_listing_failure",
        "forget_container",
    ],
)
def test_query_for_one_container_uses_an_index(ledger, call):
    """Otherwise, a run with a million outputs slows down with each recorded output."""
    plan(ledger)
    statements = []
    ledger.set_trace_callback(statements.append)
    call(ledger)
    ledger.set_trace_callback(None)
    steps = [
        row["detail"]
        for statement in statements
        if not statement.startswith("--")
        for row in ledger.execute(f"EXPLAIN QUERY PLAN {statement}")
    ]
    assert statements
    scans = [step for step in steps if step.startswith("SCAN") or "outputs_by_state" in step]
    assert scans == []
