"""Which outputs there are, and which of them are missing."""

from datetime import UTC, datetime
from itertools import permutations

import pytest

from bulkdl.graph.planning import (
    MissingOutput,
    expected_outputs,
    group_same_objects,
    is_listing_placeholder,
    is_same_run,
    last_task_id,
    must_be_listed,
    split_missing,
    target_key,
)
from bulkdl.ledger.rows import JobRecord, OutputRecord
from bulkdl.models import CommittedFile, Digest, Job, Kind, Level, Output, Reason, Task, Validator
from bulkdl.selection import Selection
from bulkdl.settings.path_templates import PathTemplates

AT = datetime(2024, 1, 31, tzinfo=UTC)
ALL = Selection()
FINAL, FIRST, LAST = (Output("p", "j", task, Kind.ARCHIVE) for task in (None, "a", "b"))
QUICKLOOK = Output("p", "j", "a", Kind.QUICKLOOK, "x.jpg")


def job(status="SUCCEEDED", finished_at=AT):
    return Job("p", "j", status, "DEFAULT", None, AT, finished_at, None)


def task(name, *parents, status="SUCCEEDED"):
    return Task(name, f"block:{name}", status, parents)


def names_of(outputs):
    return {f"{output.task_id or 'job'} {output.kind}" for output in outputs}


@pytest.mark.parametrize(
    ("status", "tasks", "found"),
    [
        ("SUCCEEDED", [task("a")], {"job archive", "job geojson", "a archive", "a geojson"}),
        ("FAILED", [task("a"), task("b", "a", status="FAILED")], {"a archive", "a geojson"}),
        ("FAILED", [task("a", status="FAILED"), task("b", "a", status="NOT_STARTED")], set()),
        ("CANCELLED", [task("a"), task("b", "a", status="CANCELLED")], {"a archive", "a geojson"}),
        ("SUCCEEDED", [], {"job archive", "job geojson"}),
        ("ERROR", [], set()),
    ],
)
def test_outputs_exist_where_something_succeeded(status, tasks, found):
    assert names_of(expected_outputs(job(status), tasks)) == found


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
def test_the_last_task_is_the_one_that_no_other_builds_on(tasks, last):
    for shuffled in permutations(tasks):
        assert last_task_id(shuffled) == last


def test_of_several_last_tasks_the_later_one_counts():
    assert last_task_id([task("a"), task("b", "a"), task("c", "a")]) == "c"
    assert last_task_id([task("a"), task("b")]) == "b"


def known_job(job_, *outputs, tasks=True, quicklooks=True):
    return JobRecord(job_, "b", tasks, quicklooks, outputs)


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (job(), True),
        (job(finished_at=datetime(2024, 2, 1, tzinfo=UTC)), False),
        (job("FAILED"), False),
        (job(finished_at=None), False),
    ],
)
def test_a_job_that_ran_again_is_another_run(now, same):
    assert is_same_run(now, known_job(job())) is same


@pytest.mark.parametrize(
    ("known", "selection", "listed"),
    [
        (None, ALL, True),
        (known_job(job(), tasks=False), ALL, True),
        (known_job(job()), ALL, False),
        (known_job(job(), quicklooks=False), ALL, True),
        (known_job(job(), quicklooks=False), Selection(kinds=frozenset({Kind.ARCHIVE})), False),
        (known_job(job(), quicklooks=False), Selection(levels=frozenset({Level.JOB})), False),
    ],
)
def test_a_settled_job_costs_no_request(known, selection, listed):
    assert must_be_listed(known, selection) is listed


def known(output, state="completed", reason=None, size=77, filename=""):
    digest = Digest("crc32c", "AAAAAA==")
    receipt = CommittedFile(f"key/{output}", size, digest, Validator(), None) if size is not None else None
    return OutputRecord(output, state, reason, filename, receipt)


def at(output, size=77):
    return {f"key/{output}": size}


@pytest.mark.parametrize(
    ("what", "sizes", "missing"),
    [
        (known(FIRST), at(FIRST), False),
        (known(FIRST), {}, True),
        (known(FIRST), at(FIRST, 76), True),
        (known(FIRST), at(FIRST, 0), True),
        (known(FIRST, size=None), at(FIRST), True),
        (known(FIRST, "planned", size=None), {}, True),
        (known(FIRST, "planned"), at(FIRST), True),
        (known(FIRST, "failed", Reason.STALLED), at(FIRST), True),
        (known(FIRST, "cancelled", Reason.STOPPED), {}, True),
        (known(FIRST, "skipped", Reason.NOT_AVAILABLE, size=None), {}, False),
        (known(FIRST, "skipped", Reason.JOB_UNFINISHED, size=None), {}, True),
        (known(FIRST, size=0), at(FIRST, 0), False),
    ],
)
def test_only_a_whole_file_of_the_right_size_settles_an_output(what, sizes, missing):
    verdict = split_missing([what], ALL, sizes)
    assert bool(verdict.missing) is missing
    assert bool(verdict.settled) is not missing


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (ALL, [FINAL, FIRST, QUICKLOOK]),
        (Selection(kinds=frozenset({Kind.QUICKLOOK})), [QUICKLOOK]),
        (Selection(levels=frozenset({Level.JOB})), [FINAL]),
    ],
)
def test_only_what_is_selected_is_judged(selection, wanted):
    verdict = split_missing(
        [known(output, "planned", size=None) for output in (FINAL, FIRST, QUICKLOOK)], selection, {}
    )
    assert [each.output for each in verdict.missing] == wanted


def test_a_failed_list_of_quicklooks_is_no_quicklook():
    whole = Output("p", "j", "a", Kind.QUICKLOOK)
    assert is_listing_placeholder(whole)
    assert not is_listing_placeholder(QUICKLOOK)
    verdict = split_missing([known(whole, "failed", Reason.SERVER_ERROR, size=None)], ALL, {})
    assert (verdict.missing, verdict.settled) == ((), ())


def test_a_quicklook_keeps_its_name_on_disk():
    verdict = split_missing([known(QUICKLOOK, "planned", size=None, filename="x~1.jpg")], ALL, {})
    assert verdict.missing == (MissingOutput(QUICKLOOK, "x~1.jpg"),)


def test_the_jobs_archive_comes_right_behind_that_of_its_last_task():
    wanted = [MissingOutput(output) for output in (FINAL, FIRST, LAST, QUICKLOOK)]
    for shuffled in permutations(wanted):
        made = group_same_objects(shuffled, "b")
        assert sorted(map(len, made)) == [1, 1, 2]
        assert (MissingOutput(LAST), MissingOutput(FINAL)) in made
        assert {each for group in made for each in group} == set(wanted)


@pytest.mark.parametrize("last", ["b", "a", None, "unknown"])
def test_without_its_twin_each_output_goes_by_itself(last):
    wanted = [MissingOutput(FINAL), MissingOutput(QUICKLOOK)]
    assert group_same_objects(wanted, last) == [(each,) for each in wanted]


@pytest.mark.parametrize(
    ("output", "key"),
    [
        (FINAL, "p/j/final_output.tar.gz"),
        (FIRST, "p/j/a/task_output.tar.gz"),
        (Output("p", "j", None, Kind.GEOJSON), "p/j/job_output.json"),
        (Output("p", "j", "a", Kind.GEOJSON), "p/j/a/task_output.json"),
        (QUICKLOOK, "p/j/a/quicklooks/x~1.jpg"),
    ],
)
def test_each_output_has_its_place_in_the_tree(output, key):
    assert target_key(MissingOutput(output, "x~1.jpg"), PathTemplates())(".tar.gz") == key
