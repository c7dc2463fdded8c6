from datetime import UTC, datetime

import pytest

from bulkdl.graph.planning import is_same_run, must_be_listed, split_missing
from bulkdl.ledger.rows import JobRecord, OutputRecord
from bulkdl.models import CommittedFile, Digest, Job, Kind, Level, Reason, Validator
from bulkdl.selection import Selection
from bulkdl.sources.up42_jobs.models import job_output
from bulkdl.sources.up42_jobs.planning import MissingOutput

FINISHED_AT = datetime(2024, 1, 31, tzinfo=UTC)
ALL = Selection()
JOB_ARCHIVE, TASK_ARCHIVE = (job_output("p", "j", task, Kind.ARCHIVE) for task in (None, "a"))
QUICKLOOK = job_output("p", "j", "a", Kind.QUICKLOOK, "x.jpg")


def job(status="SUCCEEDED", finished_at=FINISHED_AT):
    return Job("p", "j", status, "DEFAULT", None, FINISHED_AT, finished_at, None)


def job_record(job_, *outputs, tasks=True, quicklooks=True):
    return JobRecord(job_, "b", tasks, quicklooks, outputs)


@pytest.mark.parametrize(
    ("current", "is_same"),
    [
        (job(), True),
        (job(finished_at=datetime(2024, 2, 1, tzinfo=UTC)), False),
        (job("FAILED"), False),
        (job(finished_at=None), False),
    ],
)
def test_same_run_job_with_other_status_or_end_is_another_run(current, is_same):
    assert is_same_run(current, job_record(job())) is is_same


@pytest.mark.parametrize(
    ("record", "selection", "is_listed"),
    [
        (None, ALL, True),
        (job_record(job(), tasks=False), ALL, True),
        (job_record(job()), ALL, False),
        (job_record(job(), quicklooks=False), ALL, True),
        (job_record(job(), quicklooks=False), Selection(kinds=frozenset({Kind.ARCHIVE})), False),
        (job_record(job(), quicklooks=False), Selection(levels=frozenset({Level.JOB})), False),
    ],
)
def test_must_be_listed_recorded_job_needs_no_request(record, selection, is_listed):
    assert must_be_listed(record, selection) is is_listed


def output_record(output, state="completed", reason=None, size=77, filename=""):
    digest = Digest("crc32c", "AAAAAA==")
    file = CommittedFile(f"key/{output}", size, digest, Validator(), None) if size is not None else None
    return OutputRecord(output, state, reason, filename, file)


def file_sizes(output, size=77):
    return {f"key/{output}": size}


@pytest.mark.parametrize(
    ("record", "sizes", "is_missing"),
    [
        (output_record(TASK_ARCHIVE), file_sizes(TASK_ARCHIVE), False),
        (output_record(TASK_ARCHIVE), {}, True),
        (output_record(TASK_ARCHIVE), file_sizes(TASK_ARCHIVE, 76), True),
        (output_record(TASK_ARCHIVE), file_sizes(TASK_ARCHIVE, 0), True),
        (output_record(TASK_ARCHIVE, size=None), file_sizes(TASK_ARCHIVE), True),
        (output_record(TASK_ARCHIVE, "planned", size=None), {}, True),
        (output_record(TASK_ARCHIVE, "planned"), file_sizes(TASK_ARCHIVE), True),
        (output_record(TASK_ARCHIVE, "failed", Reason.STALLED), file_sizes(TASK_ARCHIVE), True),
        (output_record(TASK_ARCHIVE, "cancelled", Reason.STOPPED), {}, True),
        (output_record(TASK_ARCHIVE, "skipped", Reason.NOT_AVAILABLE, size=None), {}, False),
        (output_record(TASK_ARCHIVE, "skipped", Reason.JOB_UNFINISHED, size=None), {}, True),
        (output_record(TASK_ARCHIVE, size=0), file_sizes(TASK_ARCHIVE, 0), False),
    ],
)
def test_split_missing_only_a_complete_file_of_the_recorded_size_is_up_to_date(record, sizes, is_missing):
    result = split_missing([record], ALL, sizes)
    assert bool(result.missing) is is_missing
    assert bool(result.up_to_date) is not is_missing


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (ALL, [JOB_ARCHIVE, TASK_ARCHIVE, QUICKLOOK]),
        (Selection(kinds=frozenset({Kind.QUICKLOOK})), [QUICKLOOK]),
        (Selection(levels=frozenset({Level.JOB})), [JOB_ARCHIVE]),
    ],
)
def test_split_missing_returns_only_selected_outputs(selection, expected):
    records = [
        output_record(output, "planned", size=None) for output in (JOB_ARCHIVE, TASK_ARCHIVE, QUICKLOOK)
    ]
    result = split_missing(records, selection, {})
    assert [missing.output for missing in result.missing] == expected


def test_split_missing_failed_listing_is_neither_missing_nor_up_to_date():
    placeholder = job_output("p", "j", "a", Kind.QUICKLOOK)
    result = split_missing([output_record(placeholder, "failed", Reason.SERVER_ERROR, size=None)], ALL, {})
    assert (result.missing, result.up_to_date) == ((), ())


def test_split_missing_quicklook_keeps_its_recorded_file_name():
    result = split_missing([output_record(QUICKLOOK, "planned", size=None, filename="x~1.jpg")], ALL, {})
    assert result.missing == (MissingOutput(QUICKLOOK, "x~1.jpg"),)
