from datetime import UTC, datetime, timedelta, timezone
from itertools import permutations

import pytest

from bulkdl.listings import PlannedOutput
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.sources.up42_jobs.models import Kind, Task, job_container, job_output, job_revision
from bulkdl.sources.up42_jobs.planning import (
    expected_outputs,
    last_task_id,
)
from bulkdl.sources.up42_jobs.source import SOURCE_TYPE

FINISHED_AT = datetime(2024, 1, 31, tzinfo=UTC)
JOB_ARCHIVE, FIRST_ARCHIVE = (job_output("p", "j", task, Kind.ARCHIVE) for task in (None, "a"))
QUICKLOOK = job_output("p", "j", "a", Kind.QUICKLOOK, "x.jpg")


def job(status="SUCCEEDED"):
    return job_container("p", "j", status, "DEFAULT", None, FINISHED_AT, FINISHED_AT, None)


def task(name, *parents, status="SUCCEEDED"):
    return Task(name, f"block:{name}", status, parents)


def labels(outputs):
    return {f"{output.output.parent or 'job'} {output.output.kind}" for output in outputs}


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


@pytest.mark.parametrize(
    ("status", "tasks", "same"),
    [
        ("SUCCEEDED", [task("a"), task("b", "a")], {"job archive", "b archive"}),
        ("SUCCEEDED", [task("a"), task("b", "a", status="FAILED")], {"job archive"}),
        ("FAILED", [task("a"), task("b", "a")], {"b archive"}),
        ("SUCCEEDED", [task("a", "b"), task("b", "a")], {"job archive"}),
    ],
)
def test_expected_outputs_archives_of_job_and_last_task_can_be_one_object(status, tasks, same):
    planned = expected_outputs(job(status), tasks)
    assert labels(each for each in planned if each.identity) == same
    assert len({each.identity for each in planned if each.identity}) == 1


@pytest.mark.parametrize(
    ("status", "finished_at", "is_same"),
    [
        ("SUCCEEDED", FINISHED_AT, True),
        ("SUCCEEDED", FINISHED_AT.astimezone(timezone(timedelta(hours=1))), True),
        ("SUCCEEDED", datetime(2024, 2, 1, tzinfo=UTC), False),
        ("FAILED", FINISHED_AT, False),
        ("SUCCEEDED", None, False),
    ],
)
def test_job_revision_job_with_other_status_or_end_is_another_revision(status, finished_at, is_same):
    assert (job_revision(status, finished_at) == job().revision) is is_same


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
def test_make_key_uses_the_template_of_kind_and_level(output, key):
    assert SOURCE_TYPE.make_key(PlannedOutput(output, "x~1.jpg"), dict(PathTemplates()))(".tar.gz") == key
