from datetime import UTC, datetime
from itertools import permutations

import pytest

from bulkdl.graph.planning import group_same_objects, must_be_listed, split_missing
from bulkdl.ledger.rows import ContainerRecord, OutputRecord
from bulkdl.listings import PlannedOutput
from bulkdl.models import CommittedFile, Digest, Reason, Validator
from bulkdl.selection import Selection
from bulkdl.settings.levels import Level
from bulkdl.source_spec import is_listing_placeholder
from bulkdl.sources.up42_jobs.filters import JobFilters
from bulkdl.sources.up42_jobs.models import Kind, job_container, job_output

FINISHED_AT = datetime(2024, 1, 31, tzinfo=UTC)
ALL = Selection()
JOB_ARCHIVE, TASK_ARCHIVE = (job_output("p", "j", task, Kind.ARCHIVE) for task in (None, "a"))
QUICKLOOK = job_output("p", "j", "a", Kind.QUICKLOOK, "x.jpg")


def job(status="SUCCEEDED", finished_at=FINISHED_AT):
    return job_container("p", "j", status, "DEFAULT", None, FINISHED_AT, finished_at, None)


def job_record(job_, *outputs, tasks=True, quicklooks=True):
    listed = {Kind.ARCHIVE, Kind.GEOJSON, *([Kind.QUICKLOOK] if quicklooks else [])} if tasks else ()
    return ContainerRecord(job_, frozenset(listed), outputs)


@pytest.mark.parametrize(
    ("record", "selection", "is_listed"),
    [
        (None, ALL, True),
        (job_record(job(), tasks=False), ALL, True),
        (job_record(job()), ALL, False),
        (job_record(job(), quicklooks=False), ALL, True),
        (job_record(job(), quicklooks=False), Selection(kinds=frozenset({Kind.ARCHIVE})), False),
        (
            job_record(job(), quicklooks=False),
            Selection(filters=JobFilters(levels=frozenset({Level.JOB}))),
            False,
        ),
    ],
)
def test_must_be_listed_recorded_job_needs_no_request(record, selection, is_listed):
    assert must_be_listed(record, selection, selection.wanted_kinds & frozenset(Kind)) is is_listed


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
        (output_record(TASK_ARCHIVE, "skipped", Reason.CONTAINER_UNFINISHED, size=None), {}, True),
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
        (Selection(filters=JobFilters(levels=frozenset({Level.JOB}))), [JOB_ARCHIVE]),
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
    assert result.missing == (PlannedOutput(QUICKLOOK, "x~1.jpg"),)


def test_listing_placeholder_is_an_output_without_the_name_of_its_kind():
    assert is_listing_placeholder(job_output("p", "j", "a", Kind.QUICKLOOK))
    assert not is_listing_placeholder(QUICKLOOK)
    assert not is_listing_placeholder(JOB_ARCHIVE)


def test_group_same_objects_output_of_the_container_follows_the_output_of_its_part():
    same = [PlannedOutput(output, identity="x") for output in (JOB_ARCHIVE, TASK_ARCHIVE)]
    other = [PlannedOutput(job_output("p", "j", "b", Kind.ARCHIVE)), PlannedOutput(QUICKLOOK)]
    for shuffled in permutations([*same, *other]):
        groups = group_same_objects(shuffled)
        assert sorted(map(len, groups)) == [1, 1, 2]
        assert (same[1], same[0]) in groups
        assert {member for group in groups for member in group} == {*same, *other}


def test_group_same_objects_outputs_without_a_common_identity_are_groups_of_their_own():
    missing = [
        PlannedOutput(JOB_ARCHIVE, identity="x"),
        PlannedOutput(QUICKLOOK),
        PlannedOutput(TASK_ARCHIVE),
    ]
    assert set(group_same_objects(missing)) == {(output,) for output in missing}
