from datetime import UTC, datetime
from itertools import permutations

import pytest

from bulkdl.models import Job, Kind, Task
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.sources.up42_jobs.models import job_output
from bulkdl.sources.up42_jobs.planning import (
    MissingOutput,
    expected_outputs,
    group_same_objects,
    is_listing_placeholder,
    last_task_id,
    target_key,
)

FINISHED_AT = datetime(2024, 1, 31, tzinfo=UTC)
JOB_ARCHIVE, FIRST_ARCHIVE, LAST_ARCHIVE = (
    job_output("p", "j", task, Kind.ARCHIVE) for task in (None, "a", "b")
)
QUICKLOOK = job_output("p", "j", "a", Kind.QUICKLOOK, "x.jpg")


def job(status="SUCCEEDED"):
    return Job("p", "j", status, "DEFAULT", None, FINISHED_AT, FINISHED_AT, None)


def task(name, *parents, status="SUCCEEDED"):
    return Task(name, f"block:{name}", status, parents)


def labels(outputs):
    return {f"{output.parent or 'job'} {output.kind}" for output in outputs}


@pytest.mark.parametrize(
    ("status", "tasks", "expected"),
    [
        ("SUCCEEDED", [task("a")], {"job archive", "job geojson", "a archive", "a geojson"}),
        ("FAILED", [task("a"), task("b", "a", status="FAILED")], {"a archive", "a geojson"}),
        ("FAILED", [task("a", status="FAILED"), task("b", "a", status="NOT_STARTED")], set()),
        ("CANCELLED", [task("a"), task("b", "a", status="CANCELLED")], {"a archive", "a geojson"}),
        ("SUCCEEDED", [], {"job archive", "job geojson"}),
        ("ERROR", [], set()),
    ],
)
def test_expected_outputs_belong_to_succeeded_jobs_and_tasks(status, tasks, expected):
    assert labels(expected_outputs(job(status), tasks)) == expected


@pytest.mark.parametrize(
    ("tasks", "last"),
    [
        ([], None),
        ([task("a")], "a"),
        ([task("a"), task("b", "a")], "b"),
        ([task("a"), task("b", "a"), task("c", "b")], "c"),
        ([task("a"), task("b", "a"), task("c", "a"), task("d", "b", "c")], "d"),
        ([task("a", "unknown")], "a"),
        ([task("a", "b"), task("b", "a")], None),
        ([task("a", "a")], None),
    ],
)
def test_last_task_id_is_the_task_without_children_in_any_order(tasks, last):
    for shuffled in permutations(tasks):
        assert last_task_id(shuffled) == last


def test_last_task_id_of_several_candidates_is_the_later_one():
    assert last_task_id([task("a"), task("b", "a"), task("c", "a")]) == "c"
    assert last_task_id([task("a"), task("b")]) == "b"


def test_listing_placeholder_is_a_quicklook_without_name():
    assert is_listing_placeholder(job_output("p", "j", "a", Kind.QUICKLOOK))
    assert not is_listing_placeholder(QUICKLOOK)


def test_group_same_objects_job_archive_follows_archive_of_last_task():
    missing = [MissingOutput(output) for output in (JOB_ARCHIVE, FIRST_ARCHIVE, LAST_ARCHIVE, QUICKLOOK)]
    for shuffled in permutations(missing):
        groups = group_same_objects(shuffled, "b")
        assert sorted(map(len, groups)) == [1, 1, 2]
        assert (MissingOutput(LAST_ARCHIVE), MissingOutput(JOB_ARCHIVE)) in groups
        assert {member for group in groups for member in group} == set(missing)


@pytest.mark.parametrize("last", ["b", "a", None, "unknown"])
def test_group_same_objects_job_archive_without_task_archive_is_a_group(last):
    missing = [MissingOutput(JOB_ARCHIVE), MissingOutput(QUICKLOOK)]
    assert group_same_objects(missing, last) == [(output,) for output in missing]


@pytest.mark.parametrize(
    ("output", "key"),
    [
        (JOB_ARCHIVE, "p/j/final_output.tar.gz"),
        (FIRST_ARCHIVE, "p/j/a/task_output.tar.gz"),
        (job_output("p", "j", None, Kind.GEOJSON), "p/j/job_output.json"),
        (job_output("p", "j", "a", Kind.GEOJSON), "p/j/a/task_output.json"),
        (QUICKLOOK, "p/j/a/quicklooks/x~1.jpg"),
    ],
)
def test_target_key_uses_the_template_of_kind_and_level(output, key):
    assert target_key(MissingOutput(output, "x~1.jpg"), PathTemplates())(".tar.gz") == key
