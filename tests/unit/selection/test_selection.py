"""Filters, job files and shards."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.errors import ConfigError
from bulkdl.selection import ContainerSelector, Selection, find_shard, is_in_shard, parse_jobs_file
from bulkdl.settings import Settings, Shard
from bulkdl.settings.levels import Level
from bulkdl.sources.up42_jobs.filters import JobFilters
from bulkdl.sources.up42_jobs.models import Kind, job_container, job_output

P1 = "5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d"
P2 = "8d3a6c1e-0b7f-4e57-a3c9-52f1d7e64b20"
J1 = "023694d4-1b52-46e8-a9a0-05c9ee23f15c"
J2 = "b5c33b12-aa62-4809-94b8-5352bdfecf4a"
W1 = "2b1d7d4e-5c5f-4f0a-8f0a-6f3b8a1c9d10"
NOW = datetime(2022, 3, 10, 12, tzinfo=UTC)
JOB = job_container(
    P1, J1, "SUCCEEDED", "DEFAULT", "harvest 2022", datetime(2022, 3, 1, 12, tzinfo=UTC), None, W1
)


def selection(*, projects=(), jobs=(), **settings):
    return Selection.of(Settings(**settings), projects=projects, jobs=jobs, now=NOW)


@pytest.mark.parametrize(
    ("chosen", "excluded_by"),
    [
        (selection(), None),
        (selection(projects=[P1]), None),
        (selection(projects=[P2]), "scope"),
        (selection(jobs=[J1.upper()]), None),
        (selection(jobs=[f"{P1}/{J1}"]), None),
        (selection(jobs=[f"{P2}/{J1}"]), "container"),
        (selection(jobs=[J2]), "container"),
        (selection(projects=[P2], jobs=[f"{P1}/{J1}"]), None),
        (selection(projects=[P2], jobs=[J1]), "scope"),
        (selection(since="2022-03-01"), None),
        (selection(since="2022-03-01T12:00"), None),
        (selection(since="2022-03-01T12:00:01"), "since"),
        (selection(since="8d"), "since"),
        (selection(since="9d"), None),
        (selection(until="2022-03-01"), None),
        (selection(until="2022-02-28"), "until"),
        (selection(until="2022-03-01T12:00"), None),
        (selection(until="2022-03-01T11:59"), "until"),
        (selection(until="10d"), "until"),
        (selection(status="succeeded"), None),
        (selection(status="failed,SUCCEEDED"), None),
        (selection(status="not started"), "status"),
        (selection(mode="default"), None),
        (selection(mode="dry run"), "mode"),
        (selection(name="harvest*"), None),
        (selection(name="*2022"), None),
        (selection(name="harvest"), "name"),
        (selection(name="HARVEST*"), "name"),
        (selection(workflow=W1.upper()), None),
        (selection(workflow=J2), "workflow"),
        (selection(shard=Shard(find_shard(J1, 4), 4)), None),
        (selection(shard=Shard((find_shard(J1, 4) + 1) % 4, 4)), "shard"),
    ],
)
def test_excluding_filter_returns_the_first_filter_that_does_not_match(chosen, excluded_by):
    assert chosen.excluding_filter(JOB) == excluded_by
    assert chosen.matches(JOB) is (excluded_by is None)


def test_matches_job_without_name_or_workflow_only_without_these_filters():
    bare = replace(JOB, name=None, attributes={"mode": "DEFAULT"})
    assert selection(name="*").matches(bare)
    assert not selection(name="h*").matches(bare)
    assert not selection(workflow=W1).matches(bare)


def test_matches_ignores_the_spelling_of_the_status():
    assert selection(status="NOT_STARTED").matches(replace(JOB, status="not started"))


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("level", Level)
def test_includes_requires_kind_and_level(kind, level):
    output = job_output(P1, J1, None if level is Level.JOB else "t", kind)
    assert selection().includes(output)
    assert selection(only=kind.value).includes(output)
    assert selection(scope=level.value).includes(output)
    assert not selection(only=frozenset(set(Kind) - {kind})).includes(output)
    assert not selection(scope=frozenset(set(Level) - {level})).includes(output)


@pytest.mark.parametrize(
    ("chosen", "is_included"),
    [
        (selection(), True),
        (selection(projects=[P1.upper()]), True),
        (selection(projects=[P2]), False),
        (selection(jobs=[J1]), True),
        (selection(jobs=[J2]), False),
        (selection(jobs=[f"{P1}/{J1}"]), True),
        (selection(jobs=[f"{P2}/{J1}"]), False),
        (selection(projects=[P2], jobs=[f"{P1}/{J1}"]), True),
        (selection(only="archive"), True),
        (selection(only="geojson"), False),
        (selection(since="1d"), True),
        (selection(shard=Shard(find_shard(J1, 5), 5)), True),
        (selection(shard=Shard((find_shard(J1, 5) + 1) % 5, 5)), False),
    ],
)
def test_includes_recorded_uses_the_filters_that_need_no_request(chosen, is_included):
    assert chosen.includes_recorded(job_output(P1, J1, None, Kind.ARCHIVE)) is is_included


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"projects": ["demo"]}, "--project: expected an ID such as"),
        ({"jobs": ["42"]}, "--job: expected an ID such as"),
        ({"jobs": [f"{P1}/{J1}/x"]}, "--job: "),
        ({"jobs": [f"/{J1}"]}, "--job: "),
    ],
)
def test_selection_with_invalid_id_raises_config_error(arguments, message):
    with pytest.raises(ConfigError) as caught:
        Selection.of(Settings(), **arguments, now=NOW)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("jobs", [(J1, f"{P1}/{J1}"), (f"{P1}/{J1}", J1.upper()), (f"{P1}/{J1}",) * 2])
def test_selection_with_two_references_to_one_job_contains_it_once(jobs):
    assert selection(jobs=jobs).containers == (ContainerSelector(P1, J1),)


def test_selection_drops_duplicates_and_keeps_the_order():
    chosen = Selection.of(
        Settings(), projects=[P2, P1, P2.upper()], jobs=[J2, J1], jobs_file_lines=[J1, J2], now=NOW
    )
    assert chosen.scopes == (P2, P1)
    assert chosen.containers == (ContainerSelector(None, J2), ContainerSelector(None, J1))


def test_parse_jobs_file_accepts_comments_blank_lines_and_a_byte_order_mark():
    lines = [
        "\ufeff# jobs of March\r\n",
        "\r\n",
        f"{J1}  # the first\r\n",
        f"  {J1.upper()}\n",
        f"{P1}/{J2}#x\n",
        "   \n",
    ]
    assert parse_jobs_file(lines, "jobs.txt") == [ContainerSelector(None, J1), ContainerSelector(P1, J2)]


def test_parse_jobs_file_with_invalid_lines_names_the_lines():
    with pytest.raises(ConfigError) as caught:
        parse_jobs_file([J1, "42", "# fine", f"{J1} {J2}"], "jobs.txt")
    assert "jobs.txt:2: '42'" in str(caught.value)
    assert "jobs.txt:4: " in str(caught.value)
    assert "nothing was downloaded" in str(caught.value)
    assert "jobs.txt:1" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parse_jobs_file_with_many_invalid_lines_has_a_short_message():
    with pytest.raises(ConfigError) as caught:
        parse_jobs_file(["x" * 10_000] * 500, "jobs.txt")
    assert "jobs.txt:10: " in str(caught.value)
    assert "jobs.txt:11: " not in str(caught.value)
    assert "and 490 more" in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_selection_with_empty_jobs_file_raises_config_error():
    with pytest.raises(ConfigError, match=r"jobs\.txt: contains no IDs"):
        Selection.of(Settings(), jobs_file_lines=["# none today\n"], jobs_file_name="jobs.txt", now=NOW)


@given(st.lists(st.text(max_size=60), max_size=20))
def test_parse_jobs_file_with_any_text_returns_distinct_jobs_or_raises_config_error(lines):
    try:
        refs = parse_jobs_file(lines, "f")
    except ConfigError:
        return
    assert len(set(refs)) == len(refs)


@given(st.lists(st.uuids().map(str), max_size=20), st.sampled_from(["\n", "\r\n", ""]))
def test_parse_jobs_file_returns_all_jobs(ids, end):
    refs = parse_jobs_file([f"{job_id}{end}" for job_id in ids], "f")
    assert [ref.container_id for ref in refs] == list(dict.fromkeys(ids))


@given(st.uuids().map(str), st.integers(1, 32))
def test_each_job_is_in_exactly_one_shard(job_id, count):
    assert sum(is_in_shard(job_id, Shard(index, count)) for index in range(count)) == 1
    assert find_shard(job_id.upper(), count) == find_shard(job_id, count)


@given(st.uuids().map(str), st.integers(1, 16))
def test_find_shard_with_one_more_shard_moves_only_its_jobs(job_id, count):
    assert find_shard(job_id, count + 1) in (find_shard(job_id, count), count)


def test_find_shard_is_balanced_and_stable():
    ids = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(4000)]
    sizes = Counter(find_shard(job_id, 4) for job_id in ids)
    assert all(900 < sizes[index] < 1100 for index in range(4))
    # Fixed values: with another hash, a new release would assign jobs to other shards.
    assert [find_shard(job_id, 4) for job_id in ids[:8]] == [3, 0, 2, 3, 1, 2, 1, 2]


def test_scope_with_jobs_kinds_equals_the_scope_of_earlier_versions():
    """A watermark is stored with its scope: another scope would list all jobs again."""
    assert Selection().watermark_scope == "653ac69cfee25850"
    archives = Selection(
        kinds=frozenset({"archive"}), filters=JobFilters(levels=frozenset({Level.JOB})), since_last_s=5.0
    )
    assert archives.watermark_scope == "a9ce1b5e7370ebc9"


def test_scope_with_an_enumeration_member_equals_the_scope_with_its_name():
    assert (
        Selection(kinds=frozenset({Kind.ARCHIVE})).watermark_scope
        == Selection(kinds=frozenset({"archive"})).watermark_scope
    )
