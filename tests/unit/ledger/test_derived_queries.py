"""The results of processors in the ledger."""

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bulkdl.ledger import derived_queries as derived
from bulkdl.ledger import queries
from bulkdl.ledger.derived_queries import DerivedRow, ProcessedRow
from bulkdl.ledger.migrations import migrate
from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.models import CommittedFile, Digest, Outcome, Reason, Result, Validator
from bulkdl.sources.up42_jobs.models import Kind, job_container, job_output, job_ref

AT = datetime(2024, 1, 31, tzinfo=UTC)
JOB = job_container("p", "j", "SUCCEEDED", "DEFAULT", "a name", AT, AT, "w")
FIRST = job_output("p", "j", "t", Kind.ARCHIVE)
SECOND = job_output("p", "j", "t", Kind.GEOJSON)
DIGEST = Digest("crc32c", "yZRlqg==")
OTHER_DIGEST = Digest("crc32c", "AAAAAA==")


@pytest.fixture
def ledger():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    migrate(connection, "memory")
    planned = (PlannedOutput(FIRST), PlannedOutput(SECOND))
    queries.plan_container(connection, ContainerListing(JOB, planned, frozenset(Kind), {}))
    yield connection
    connection.close()


def complete(connection, output, digest=DIGEST):
    file = CommittedFile(f"p/j/{output.kind}", 77, digest, Validator(), None)
    result = Result(output, Outcome.COMPLETED, Reason.DOWNLOADED, file)
    queries.record_results(connection, [result], "run")


def find(connection, output=FIRST, *, version=1, include_failed=False):
    return derived.find_pending(connection, output, "unpack", version, include_failed=include_failed)


def list_pending(connection, row_id=0, *, version=1, include_failed=False):
    return derived.list_pending_after(connection, row_id, "unpack", version, include_failed=include_failed)


def record(connection, state="completed", output=FIRST, **changes):
    row_id = find(connection, output, include_failed=True, version=99).row_id
    processed = ProcessedRow(row_id, "unpack", 1, state, DIGEST, "a detail")
    derived.record_processed(connection, replace(processed, **changes))


def test_find_pending_without_a_completed_file_returns_none(ledger):
    assert find(ledger) is None
    complete(ledger, FIRST)
    assert find(ledger).record.file.key == "p/j/archive"
    assert find(ledger, SECOND) is None


@pytest.mark.parametrize("state", ["completed", "skipped", "failed"])
def test_find_pending_after_a_result_returns_none(ledger, state):
    complete(ledger, FIRST)
    record(ledger, state)
    assert find(ledger) is None
    assert list_pending(ledger).outputs == ()


def test_find_pending_with_failed_outputs_returns_a_failed_output_only(ledger):
    complete(ledger, FIRST)
    record(ledger, "failed")
    assert find(ledger, include_failed=True) is not None
    record(ledger, "completed")
    assert find(ledger, include_failed=True) is None


def test_find_pending_with_another_version_or_other_content_returns_the_output(ledger):
    complete(ledger, FIRST)
    record(ledger)
    assert find(ledger, version=2) is not None
    complete(ledger, FIRST, OTHER_DIGEST)
    assert find(ledger) is not None
    record(ledger, input_digest=OTHER_DIGEST)
    assert find(ledger) is None


def test_find_pending_after_the_result_of_another_processor_returns_the_output(ledger):
    complete(ledger, FIRST)
    record(ledger, processor="catalog")
    assert find(ledger) is not None


def test_list_pending_after_returns_every_pending_output_in_bounded_pages(ledger, monkeypatch):
    monkeypatch.setattr(derived, "PAGE", 1)
    complete(ledger, FIRST)
    complete(ledger, SECOND)
    record(ledger)
    first = list_pending(ledger)
    assert first.outputs == ()
    second = list_pending(ledger, first.last_id)
    assert [pending.record.output for pending in second.outputs] == [SECOND]
    assert list_pending(ledger, second.last_id).last_id is None


def test_record_processed_replaces_the_files_of_the_earlier_result(ledger):
    complete(ledger, FIRST)
    record(ledger, files=(DerivedRow("a", 3, DIGEST), DerivedRow("b", 4, None, "a folder")))
    row_id = find(ledger, version=2).row_id
    assert derived.find_derived_keys(ledger, row_id, "unpack") == {"a", "b"}
    record(ledger, version=2, files=(DerivedRow("b", 5, None),))
    assert derived.find_derived_keys(ledger, row_id, "unpack") == {"b"}
    assert derived.list_derived_after(ledger, "unpack", 0, "") == [(row_id, FIRST, DerivedRow("b", 5, None))]
    assert derived.list_derived_after(ledger, "unpack", row_id, "b") == []


def test_record_processed_with_a_failure_keeps_the_files_of_the_earlier_result(ledger):
    complete(ledger, FIRST)
    record(ledger, files=(DerivedRow("a", 3, DIGEST),))
    record(ledger, "failed", version=2)
    row_id = find(ledger, version=3).row_id
    assert derived.find_derived_keys(ledger, row_id, "unpack") == {"a"}
    assert find(ledger, version=2) is None


def test_record_processed_for_a_forgotten_output_records_nothing(ledger):
    complete(ledger, FIRST)
    row_id = find(ledger).row_id
    record(ledger)
    queries.forget_container(ledger, job_ref("p", "j"))
    derived.record_processed(ledger, ProcessedRow(row_id, "unpack", 1, "completed", DIGEST))
    assert ledger.execute("SELECT count(*) FROM derived").fetchone()[0] == 0


def test_record_processed_without_an_output_replaces_the_rows_of_the_last_step(ledger):
    for size_bytes in (3, 4):
        files = (DerivedRow("index.html", size_bytes, DIGEST),)
        derived.record_processed(ledger, ProcessedRow(None, "unpack", 1, "completed", None, files=files))
    assert ledger.execute("SELECT count(*) FROM derived").fetchone()[0] == 2
    assert derived.find_derived_keys(ledger, None, "unpack") == {"index.html"}


def test_has_output_at_finds_an_output_and_the_folder_of_an_output(ledger):
    complete(ledger, FIRST)
    assert derived.has_output_at(ledger, "p/j/archive")
    assert derived.has_output_at(ledger, "p/j")
    assert not derived.has_output_at(ledger, "p/j/arch")
    assert not derived.has_output_at(ledger, "p/j/archive/x")


def test_list_outputs_after_returns_outputs_in_every_state(ledger):
    complete(ledger, FIRST)
    rows = derived.list_outputs_after(ledger, 0)
    assert [(record.output, record.state, detail) for _, record, detail in rows] == [
        (FIRST, "completed", ""),
        (SECOND, "planned", ""),
    ]
    assert derived.list_outputs_after(ledger, rows[-1][0]) == []


def test_count_derived_counts_outputs_and_files_by_state(ledger):
    complete(ledger, FIRST)
    complete(ledger, SECOND)
    record(ledger, files=(DerivedRow("a", 3, DIGEST), DerivedRow("b", 4, None)))
    record(ledger, "failed", SECOND)
    assert derived.count_derived(ledger) == [("unpack", "completed", 1, 2, 7), ("unpack", "failed", 1, 0, 0)]
