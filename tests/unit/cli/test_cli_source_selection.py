"""Choosing the sources of a command from flags and settings, and their selections."""

import pytest

from bulkdl.cli.source_selection import read_recorded_selections, read_selections, resolve_sources
from bulkdl.errors import ConfigError
from bulkdl.settings import load_settings
from bulkdl.source_spec import source_names

PROJECT = "5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d"
JOB = "023694d4-1b52-46e8-a9a0-05c9ee23f15c"
TABLES = f"""
[[projects]]
id = "{PROJECT}"
api_key_env = "KEY"
[[accounts]]
name = "team"
username = "u"
password_env = "PASSWORD"
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that loads the settings of flags and of a config file with both sources."""
    for name in ("UP42_PROJECT_ID", "UP42_USERNAME", "UP42_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def load_file(flags, text="", env=None, *, tables=TABLES):
        path = tmp_path / "bulkdl.toml"
        path.write_text(f"{text}\n{tables}")
        return load_settings(flags, path, env or {})

    return load_file


def sources_of(loaded, **params):
    return resolve_sources(params, loaded).settings.source_names


@pytest.mark.parametrize(
    ("flags", "params", "expected"),
    [
        ({}, {}, ("jobs", "storage")),
        ({"source": "storage"}, {}, ("storage",)),
        ({}, {"project_ids": (PROJECT,)}, ("jobs",)),
        ({}, {"job_ids": (f"{PROJECT}/{JOB}",)}, ("jobs",)),
        ({}, {"collection_ids": ("c",)}, ("storage",)),
        ({"workspace": "w"}, {}, ("storage",)),
        ({"scope": "job"}, {}, ("jobs",)),
        ({"only": "preview"}, {}, ("storage",)),
        ({"only": "preview,geojson"}, {}, ("jobs", "storage")),
        ({"since": "7d", "name": "x*", "shard": "0/2"}, {}, ("jobs", "storage")),
        ({"source": "jobs,storage", "order": "o"}, {}, ("storage",)),
        ({"source": "jobs"}, {"job_ids": (JOB,)}, ("jobs",)),
        ({"source": "storage"}, {"job_ids": (JOB,)}, ("storage",)),
    ],
)
def test_resolve_sources_restricts_the_sources_by_flags(load, flags, params, expected):
    assert sources_of(load(flags), **params) == expected


def test_resolve_sources_with_a_variable_restricts_like_a_flag(load):
    assert sources_of(load({}, env={"BULKDL_ORDER": "o"})) == ("storage",)


def test_resolve_sources_with_a_filter_in_the_file_keeps_both_sources(load):
    loaded = load({}, 'mode = "DEFAULT"\nworkspace = ["w"]')
    assert sources_of(loaded) == ("jobs", "storage")
    assert sources_of(load({"order": "o"}, 'mode = "DEFAULT"')) == ("storage",)


def test_resolve_sources_with_a_filter_in_the_file_selects_the_source_of_other_credentials(load):
    assert sources_of(load({}, 'workspace = ["w"]', tables="")) == ("storage",)


def test_resolve_sources_with_auto_shows_auto_as_the_origin(load):
    resolved = resolve_sources({}, load({}))
    assert (resolved.settings.source, resolved.sources["source"]) == ("jobs,storage", "auto")
    assert resolve_sources({}, load({"source": "jobs"})).sources["source"] == "flag --source"


@pytest.mark.parametrize(
    ("flags", "params", "key"),
    [
        ({"order": "o"}, {"project_ids": (PROJECT,)}, "--source"),
        ({"source": "jobs", "order": "o"}, {}, "--order"),
        ({"source": "storage"}, {"project_ids": (PROJECT,)}, "--project"),
        ({}, {"job_ids": (JOB,)}, "--job"),
        ({}, {"job_ids": (JOB, f"{PROJECT}/{JOB}")}, "--job"),
        ({}, {"jobs_file": "-"}, "--jobs-file"),
        ({"source": "jobs", "only": "asset"}, {}, "--only"),
        ({"order": "o", "only": "archive"}, {}, "--only"),
    ],
)
def test_resolve_sources_with_contradicting_flags_names_the_flag(load, flags, params, key):
    with pytest.raises(ConfigError, match=f"^{key}: "):
        resolve_sources(params, load(flags))


def test_read_selections_returns_one_selection_for_each_source(load):
    resolved = resolve_sources({}, load({"status": "FAILED"}, f'mode = "DEFAULT"\norder = ["{JOB}"]'))
    jobs, storage = read_selections({}, resolved.settings)
    assert (jobs.source, storage.source) == ("jobs", "storage")
    assert jobs.statuses == storage.statuses == {"FAILED"}
    assert (jobs.filters.mode, storage.filters.order_ids) == ("DEFAULT", (JOB,))
    assert jobs.watermark_scope != storage.watermark_scope


def test_watermark_scope_of_a_source_does_not_depend_on_the_kinds_of_another_source(load):
    alone, both = (
        read_selections({}, resolve_sources({}, load({"only": only})).settings)[-1]
        for only in ("original", "original,archive")
    )
    assert alone.source == both.source == "storage"
    assert alone.watermark_scope == both.watermark_scope


def test_read_recorded_selections_selects_all_installed_sources(load):
    selections = read_recorded_selections({}, load({}, tables=""))
    assert [selection.source for selection in selections] == list(source_names())


@pytest.mark.parametrize(
    ("params", "source"),
    [
        ({"job_ids": (JOB,)}, "jobs"),
        ({"project_ids": (PROJECT,)}, "jobs"),
        ({"collection_ids": ("c",)}, "storage"),
    ],
)
def test_read_recorded_selections_with_ids_selects_their_source(load, params, source):
    (selection,) = read_recorded_selections(params, load({}, tables=""))
    assert selection.source == source
