"""Names and dates in paths: safe on every file system, found again in a path, and unique with an ID."""

import re
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pathvalidate import is_valid_filename
from pydantic import ValidationError

from bulkdl.errors import ApiError
from bulkdl.settings import PathTemplates
from bulkdl.sources.interfaces import SourceLayout
from bulkdl.sources.path_matcher import PathMatcher
from bulkdl.sources.path_values import create_name, create_values, fill_template
from bulkdl.sources.up42_jobs.source import SOURCE_TYPE
from support.named_accounts import HOSTILE_NAMES

JOB_ID = "5f3c8f5e-0b1c-4c57-9a3e-2f6f0f2d9c11"
PROJECT_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
names = st.one_of(
    st.text(max_size=200), st.sampled_from(HOSTILE_NAMES), st.text(alphabet="aB-_. ~/\\", max_size=9)
)
uuids = st.integers(0, 2**128 - 1).map(lambda number: str(UUID(int=number)))
identities = st.one_of(uuids, st.text(alphabet="ab-_1", min_size=1, max_size=12))


def fill(template, name, job_id, created_at=datetime(2021, 3, 4, tzinfo=UTC), project_id=PROJECT_ID):
    values = create_values([template], {"job_name": name, "created_at": created_at})
    return fill_template(template, {**values, "job_id": job_id, "project_id": project_id})


def match(template, key):
    layout = SourceLayout(SOURCE_TYPE, {"job": template})
    return PathMatcher([layout]).match(key)


@given(names)
def test_name_is_a_safe_file_name_that_does_not_change_again(text):
    name = create_name(text)
    assert is_valid_filename(name, platform="universal")
    assert 0 < len(name.encode()) <= 82
    assert not name.startswith(".")
    assert not set("~/\\\0") & set(name)
    assert name.casefold() not in ("catalog", "index.html", ".bulkdl", "con", "nul")
    assert create_name(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Berlin 2021", "Berlin 2021"),
        ("a/b\\c", "a_b_c"),
        ("../../x", "x"),
        ("CON", "CON_"),
        ("Catalog", "Catalog_"),
        ("n" * 300, "n" * 80),
        ("", "unnamed"),
        (None, "unnamed"),
        ("\N{HANGUL SYLLABLE GAG}" * 40, "\N{HANGUL SYLLABLE GAG}" * 26),
    ],
)
def test_name_keeps_what_is_safe(text, name):
    assert create_name(text) == name


@given(
    st.sampled_from(
        [
            "{job_name} {job_id}.json",
            "{job_name}{job_id}",
            "{job_id}-{job_name}/x",
            "{project_id}_{job_name}-{job_id}",
            "{created_at:%Y-%m}{job_name}_{job_id}",
            "{job_name}/{job_id}/job.json",
        ]
    ),
    names,
    names,
    identities,
    identities,
)
def test_paths_of_two_jobs_differ_and_are_found_again(template, name, other_name, job_id, other_id):
    PathTemplates(job=template)
    key = fill(template, name, job_id)
    if job_id != other_id:
        assert key != fill(template, other_name, other_id)
    parsed = match(template, key)
    assert parsed.container.container_id == job_id
    assert parsed.container.path_values["job_name"] == create_name(name)


@given(st.text(alphabet="{}job_id:name%Ym/-. ctreaup", max_size=40), names)
def test_accepted_templates_never_leave_the_directory(text, name):
    for template in (text, f"{text}/{{job_name}}/{{job_id}}", f"{{job_name}}{text}-{{job_id}}"):
        try:
            PathTemplates(job=template)
        except ValidationError:
            continue
        parts = fill(template, name, JOB_ID).split("/")
        assert not {"", ".", ".."} & set(parts)
        assert parts[0].casefold() not in ("catalog", "index.html", ".bulkdl")
        assert all(len(part.encode()) <= 255 for part in parts)


def test_dates_are_in_utc_with_a_fixed_number_of_digits():
    early = datetime(1, 2, 3, 1, tzinfo=timezone(timedelta(hours=-23)))
    template = "{created_at:%Y/%m-%d %H}/{created_at:%j}/{created_at}/{job_id}"
    assert fill(template, "", "j", early) == "0001/02-04 00/035/0001-02-04/j"
    assert match(template, "0001/02-04 00/035/0001-02-04/j").container.container_id == "j"
    assert match(template, "001/02-04 00/035/0001-02-04/j") is None


def test_id_that_is_not_a_uuid_is_separated_from_a_name():
    template = "{job_name}-{job_id}"
    assert fill(template, "a", JOB_ID) == f"a-{JOB_ID}"
    assert re.fullmatch("a~[0-9a-f]{12}-b-c", fill(template, "a", "b-c"))
    assert re.fullmatch("a-b~[0-9a-f]{12}-c", fill(template, "a-b", "c"))


def test_missing_value_is_an_error_that_names_the_placeholder():
    with pytest.raises(ApiError, match=r"no value for \{job_name\}; use the path_templates"):
        fill_template("{job_name}/{job_id}", {"job_id": "j"})
