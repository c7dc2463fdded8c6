"""What the ledger remembers of jobs, outputs and runs."""

import sqlite3
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkdl.ledger import maintenance_queries, queries
from bulkdl.ledger.migrations import migrate
from bulkdl.ledger.queries import JobListing, PlannedOutput
from bulkdl.models import CommittedFile, Digest, Job, Kind, Outcome, Output, Reason, Result, Validator

AT = datetime(2024, 1, 31, 12, 30, 15, 123456, tzinfo=UTC)
YEARS = (datetime(1990, 1, 1), datetime(2090, 1, 1))  # noqa: DTZ001 - hypothesis adds the zones
JOB = Job("p", "j", "SUCCEEDED", "DEFAULT", "a name", AT, AT, "w")
ARCHIVE = Output("p", "j", "t", Kind.ARCHIVE)
FINAL = Output("p", "j", None, Kind.ARCHIVE)
QUICKLOOK = Output("p", "j", "t", Kind.QUICKLOOK, "../a.jpg")
LIST = Output("p", "j", "t", Kind.QUICKLOOK)
PLANNED = (PlannedOutput(ARCHIVE), PlannedOutput(FINAL), PlannedOutput(QUICKLOOK, "a~123.jpg"))


def opened():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    migrate(connection, "memory")
    return connection


@pytest.fixture
def ledger():
    connection = opened()
    yield connection
    connection.close()


def receipt(key="p/j/t/task_output.tar.gz", source="https://s/o"):
    return CommittedFile(key, 77, Digest("crc32c", "yZRlqg=="), Validator('"v1"', "date", "17"), source)


def fetched(output, **more):
    return Result(
        output, Outcome.COMPLETED, Reason.DOWNLOADED, receipt(**more), attempts=2, downloaded_bytes=77
    )


def plan(connection, *planned, job=JOB, quicklooks=True):
    queries.plan_job(connection, JobListing(job, "t", planned or PLANNED, quicklooks))


def known(connection):
    return queries.read_jobs(connection, "p", ["j", "unknown"])["j"]


def of(connection, output):
    return next(each for each in known(connection).outputs if each.output == output)


def test_a_planned_job_is_known_with_all_its_outputs(ledger):
    assert queries.read_jobs(ledger, "p", ["j"]) == {}
    plan(ledger)
    found = known(ledger)
    assert found.job == JOB
    assert (found.last_task_id, found.tasks_listed, found.quicklooks_listed) == ("t", True, True)
    assert [each.output for each in found.outputs] == [ARCHIVE, FINAL, QUICKLOOK]
    assert [each.filename for each in found.outputs] == ["", "", "a~123.jpg"]
    assert {each.state for each in found.outputs} == {"planned"}
    assert queries.read_jobs(ledger, "other", ["j"]) == {}
    assert queries.find_projects(ledger, "j") == ["p"]
    assert queries.find_projects(ledger, "unknown") == []


@settings(deadline=None)
@given(
    name=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    created=st.datetimes(*YEARS, timezones=st.timezones()),
    finished=st.none() | st.datetimes(timezones=st.just(UTC)),
    quicklook=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
def test_whatever_up42_says_comes_back_as_it_was(name, created, finished, quicklook):
    connection = opened()
    job = Job("p", "j", "FAILED", "DRY_RUN", name, created.astimezone(UTC), finished, None)
    output = Output("p", "j", "t", Kind.QUICKLOOK, quicklook)
    plan(connection, PlannedOutput(output, "file"), job=job)
    found = known(connection)
    assert (found.job, [each.output for each in found.outputs]) == (job, [output])
    connection.close()


def test_a_result_comes_back_as_it_was_recorded(ledger):
    plan(ledger)
    queries.record_results(ledger, [fetched(ARCHIVE)], "run1")
    found = of(ledger, ARCHIVE)
    assert (found.state, found.reason, found.file) == ("completed", Reason.DOWNLOADED, receipt())
    assert found.is_completed
    assert not of(ledger, FINAL).is_completed


def test_attempts_add_up_over_runs(ledger):
    plan(ledger)
    queries.record_results(ledger, [fetched(ARCHIVE)], "run1")
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


def test_a_failure_keeps_the_receipt_of_the_file_that_is_there(ledger):
    plan(ledger)
    queries.record_results(ledger, [fetched(ARCHIVE)], "run1")
    queries.record_results(ledger, [Result(ARCHIVE, Outcome.FAILED, Reason.STALLED)], "run2")
    assert of(ledger, ARCHIVE).file == receipt()
    assert not of(ledger, ARCHIVE).is_completed


def test_a_new_receipt_takes_nothing_from_the_old_one(ledger):
    plan(ledger)
    queries.record_results(ledger, [fetched(ARCHIVE)], "run1")
    bare = CommittedFile("k", 1, Digest("crc32c", "AAAAAA=="), Validator(), None)
    queries.record_results(ledger, [Result(ARCHIVE, Outcome.COMPLETED, Reason.DOWNLOADED, bare)], "run2")
    assert of(ledger, ARCHIVE).file.validator == Validator()
    assert of(ledger, ARCHIVE).file.key == "k"


def test_not_available_is_known(ledger):
    plan(ledger)
    queries.record_results(ledger, [Result(FINAL, Outcome.SKIPPED, Reason.NOT_AVAILABLE)], "run1")
    assert of(ledger, FINAL).is_not_available
    assert not of(ledger, ARCHIVE).is_not_available


def test_known_output_former_reason_name_is_converted(ledger):
    plan(ledger)
    queries.record_results(ledger, [Result(FINAL, Outcome.SKIPPED, Reason.NOT_AVAILABLE)], "run1")
    queries.record_results(ledger, [Result(ARCHIVE, Outcome.SKIPPED, Reason.NOT_AVAILABLE)], "run1")
    ledger.execute("UPDATE outputs SET reason = 'up42_has_none' WHERE task_id = ''")
    assert of(ledger, FINAL).is_not_available
    assert maintenance_queries.find_jobs_to_retry(ledger, [Reason.NOT_AVAILABLE])
    assert (Kind.ARCHIVE, "skipped", "not_available", 2, 0) in queries.count_outputs(ledger)


FORMER_REASONS = {
    "up42_has_none": Reason.NOT_AVAILABLE,
    "fetched": Reason.DOWNLOADED,
    "already_there": Reason.UP_TO_DATE,
    "digest_mismatch": Reason.CHECKSUM_MISMATCH,
    "wrong_content": Reason.UNEXPECTED_CONTENT,
    "broken_content": Reason.CORRUPT_CONTENT,
    "bad_answer": Reason.INVALID_RESPONSE,
    "refused": Reason.REJECTED,
}


@pytest.mark.parametrize(("former", "reason"), FORMER_REASONS.items())
def test_output_record_with_former_reason_has_current_reason(ledger, former, reason):
    plan(ledger)
    queries.record_results(ledger, [Result(ARCHIVE, Outcome.FAILED, Reason.STALLED)], "run1")
    ledger.execute("UPDATE outputs SET reason = ? WHERE reason = 'stalled'", (former,))
    assert of(ledger, ARCHIVE).reason is reason
    assert (Kind.ARCHIVE, "failed", reason.value, 1, 0) in queries.count_outputs(ledger)
    assert maintenance_queries.find_jobs_to_retry(ledger, [reason]) == [("p", "j")]


@pytest.mark.parametrize(("former", "reason"), FORMER_REASONS.items())
def test_job_record_with_former_listing_failure_has_current_reason(ledger, former, reason):
    queries.record_listing_failure(ledger, JOB, Reason.SERVER_ERROR, "503")
    ledger.execute("UPDATE jobs SET reason = ?", (former,))
    assert known(ledger).listing_failure is reason


def test_listing_again_keeps_what_is_recorded(ledger):
    plan(ledger)
    queries.record_results(ledger, [fetched(ARCHIVE)], "run1")
    plan(ledger, PlannedOutput(ARCHIVE), PlannedOutput(QUICKLOOK, "renamed.jpg"))
    assert of(ledger, ARCHIVE).is_completed
    assert of(ledger, QUICKLOOK).filename == "renamed.jpg"
    assert len(known(ledger).outputs) == 3


def test_a_list_that_failed_is_to_be_listed_again_and_then_forgotten(ledger):
    plan(ledger, PlannedOutput(ARCHIVE), PlannedOutput(LIST), quicklooks=False)
    queries.record_results(
        ledger, [Result(LIST, Outcome.FAILED, Reason.SERVER_ERROR, detail="HTTP 503")], "run1"
    )
    assert (known(ledger).tasks_listed, known(ledger).quicklooks_listed) == (True, False)
    assert len(maintenance_queries.list_failed_outputs_after(ledger, 0)) == 1
    plan(ledger)
    assert known(ledger).quicklooks_listed
    assert maintenance_queries.list_failed_outputs_after(ledger, 0) == []
    plan(ledger, PlannedOutput(ARCHIVE), quicklooks=False)
    assert known(ledger).quicklooks_listed


def test_a_job_that_could_not_be_listed_is_told_and_listed_later(ledger):
    queries.record_listing_failure(ledger, JOB, Reason.SERVER_ERROR, "HTTP 503")
    assert not known(ledger).tasks_listed
    assert queries.count_jobs(ledger) == {"listing_failed": 1}
    plan(ledger)
    assert known(ledger).tasks_listed
    queries.record_listing_failure(ledger, JOB, Reason.SERVER_ERROR, "HTTP 503")
    assert known(ledger).tasks_listed


def test_the_same_object_is_found_within_its_job_only(ledger):
    plan(ledger)
    plan(
        ledger,
        PlannedOutput(Output("p", "k", "t", Kind.ARCHIVE)),
        job=Job("p", "k", "SUCCEEDED", "", None, AT, AT, None),
    )
    queries.record_results(ledger, [fetched(ARCHIVE)], "run1")
    assert queries.find_same_object(ledger, FINAL, "https://s/o") == receipt()
    assert queries.find_same_object(ledger, ARCHIVE, "https://s/o") is None
    assert queries.find_same_object(ledger, FINAL, "https://s/other") is None
    assert queries.find_same_object(ledger, Output("p", "k", None, Kind.ARCHIVE), "https://s/o") is None
    queries.record_results(ledger, [Result(ARCHIVE, Outcome.FAILED, Reason.STALLED)], "run2")
    assert queries.find_same_object(ledger, FINAL, "https://s/o") is None


def test_a_forgotten_job_takes_its_outputs_with_it(ledger):
    plan(ledger)
    queries.forget_job(ledger, "p", "j")
    assert queries.read_jobs(ledger, "p", ["j"]) == {}
    assert ledger.execute("SELECT count(*) FROM outputs").fetchone()[0] == 0


def test_an_output_that_was_never_planned_is_not_made_up(ledger):
    queries.record_results(ledger, [fetched(ARCHIVE)], "run1")
    assert ledger.execute("SELECT count(*) FROM outputs").fetchone()[0] == 0


def test_status_counts_jobs_and_outputs(ledger):
    plan(ledger)
    assert queries.count_jobs(ledger) == {"incomplete": 1}
    queries.record_results(ledger, [fetched(ARCHIVE), fetched(FINAL)], "run1")
    queries.record_results(ledger, [Result(QUICKLOOK, Outcome.FAILED, Reason.STALLED)], "run1")
    assert queries.count_jobs(ledger) == {"incomplete": 1}
    assert sorted(queries.count_outputs(ledger)) == [
        (Kind.ARCHIVE, "completed", "downloaded", 2, 154),
        (Kind.QUICKLOOK, "failed", "stalled", 1, 0),
    ]
    queries.record_results(ledger, [Result(QUICKLOOK, Outcome.SKIPPED, Reason.NOT_AVAILABLE)], "run1")
    assert queries.count_jobs(ledger) == {"up_to_date": 1}


def test_runs_are_remembered_once_they_have_ended(ledger):
    assert queries.find_last_run_end(ledger) is None
    queries.start_run(ledger, "run1", None)
    assert queries.find_last_run_end(ledger) is None
    queries.finish_run(ledger, "run1", 3, "{}")
    assert queries.find_last_run_end(ledger) is not None
    row = ledger.execute("SELECT * FROM runs").fetchone()
    assert (row["run_id"], row["exit_code"], row["summary"]) == ("run1", 3, "{}")


@pytest.mark.parametrize(
    "ask",
    [
        lambda ledger: queries.read_jobs(ledger, "p", ["j", "k"]),
        lambda ledger: queries.find_projects(ledger, "j"),
        lambda ledger: queries.find_same_object(ledger, ARCHIVE, "https://s/o"),
        plan,
        lambda ledger: queries.record_results(ledger, [fetched(ARCHIVE)], "run"),
        lambda ledger: queries.record_listing_failure(ledger, JOB, Reason.SERVER_ERROR, "503"),
        lambda ledger: queries.forget_job(ledger, "p", "j"),
    ],
    ids=["known_jobs", "projects_of", "twin", "plan_job", "record", "unlisted_job", "forget_job"],
)
def test_what_is_asked_for_each_job_or_output_looks_at_that_job_only(ledger, ask):
    """Or else a run over a million outputs slows down with each that it has done."""
    plan(ledger)
    asked = []
    ledger.set_trace_callback(asked.append)
    ask(ledger)
    ledger.set_trace_callback(None)
    steps = [
        row["detail"]
        for statement in asked
        if not statement.startswith("--")
        for row in ledger.execute(f"EXPLAIN QUERY PLAN {statement}")
    ]
    assert asked
    wide = [step for step in steps if step.startswith("SCAN") or "outputs_by_state" in step]
    assert wide == []
