from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bulkdl.errors import ConfigError
from bulkdl.models import Container, ContainerRef, Output
from bulkdl.selection import ContainerSelector, Selection, group_by_source, includes_recorded
from bulkdl.settings import Settings

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CONTAINER = Container(
    ContainerRef("storage", "W1", "C1"),
    status="FULFILLED",
    is_final=True,
    revision="",
    created_at=datetime(2026, 5, 1, tzinfo=UTC),
    name="Harbour",
    attributes={"order": "O1", "job": "J1"},
)


def select(jobs=(), collections=(), **settings):
    loaded = Settings(source="storage", **settings)
    return Selection.of(loaded, jobs=jobs, collections=collections, now=NOW)


@pytest.mark.parametrize(
    ("arguments", "excluding"),
    [
        ({}, None),
        ({"workspace": "w1"}, None),
        ({"workspace": "W2,w3"}, "workspace"),
        ({"order": ["o1"]}, None),
        ({"order": "o2"}, "order"),
        ({"jobs": ["j1", "j2"]}, None),
        ({"jobs": ["j2"]}, "job"),
        ({"collections": ["c1"]}, None),
        ({"collections": ["w1/C1"]}, None),
        ({"collections": ["w2/C1"]}, "container"),
        ({"name": "Har*", "status": "fulfilled"}, None),
        ({"name": "har*"}, "name"),
        ({"since": "7d"}, "since"),
        ({"until": "2026-04-01"}, "until"),
    ],
)
def test_selection_of_deliveries_applies_the_filters(arguments, excluding):
    assert select(**arguments).excluding_filter(CONTAINER) == excluding


def test_selection_with_listed_accounts_does_not_compare_them_with_workspaces():
    selection = replace(select(), scopes=("account",))
    assert selection.matches(CONTAINER)
    assert selection.includes_recorded(Output(CONTAINER.ref, "", "original", "a1"))


def test_selection_of_deliveries_wants_their_kinds_only():
    assert select().wanted_kinds == {"original", "asset", "preview", "metadata"}
    assert select(only="original,archive").wanted_kinds == {"original"}


def test_selection_of_jobs_wants_their_kinds_only():
    assert Selection.of(Settings(), now=NOW).wanted_kinds == {"archive", "quicklook", "geojson"}


def test_selection_of_collections_keeps_the_case_for_requests():
    assert select(collections=["W1/C1", "c2"]).containers == (
        ContainerSelector("W1", "C1"),
        ContainerSelector(None, "c2"),
    )


def test_selection_from_a_file_reads_deliveries():
    lines = ["c1 # first", "w1/c2"]
    selection = Selection.of(Settings(source="storage"), jobs_file_lines=lines, now=NOW)
    assert selection.containers == (ContainerSelector(None, "c1"), ContainerSelector("w1", "c2"))


@pytest.mark.parametrize("arguments", [{"jobs": ["a/b"]}, {"collections": ["../x"]}, {"collections": [""]}])
def test_selection_with_an_invalid_id_is_rejected(arguments):
    with pytest.raises(ConfigError, match="expected an ID"):
        select(**arguments)


def test_selection_scope_differs_by_source_and_filters():
    scopes = [
        Selection.of(Settings(), now=NOW).watermark_scope,
        select().watermark_scope,
        select(workspace="w").watermark_scope,
        select(order="w").watermark_scope,
        select(jobs=["w"]).watermark_scope,
        replace(select(), scopes=("account",)).watermark_scope,
    ]
    assert len(set(scopes)) == len(scopes)
    assert select(collections=["c"]).watermark_scope is None


def test_includes_recorded_uses_the_selection_of_the_source_of_the_output():
    selections = group_by_source([select(), Selection(kinds=frozenset({"archive"}))])
    original = Output(ContainerRef("storage", "w", "c"), "", "original", "a.tif")
    job = ContainerRef("jobs", "p", "j")
    archive, geojson = (Output(job, "", kind, "") for kind in ("archive", "geojson"))
    assert includes_recorded(selections, original)
    assert includes_recorded(selections, archive)
    assert not includes_recorded(selections, geojson)
    assert not includes_recorded(group_by_source([Selection()]), original)


@pytest.mark.parametrize("selections", [[], [Selection(), Selection()]])
def test_group_by_source_without_one_selection_for_each_source_raises_config_error(selections):
    with pytest.raises(ConfigError, match="at most one of each source"):
        group_by_source(selections)
