"""The tables of kinds, and the settings that are shorthands for their keys."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from bulkdl import source_spec
from bulkdl.errors import ConfigError
from bulkdl.settings import Settings, all_keys, format_setting, load_settings
from bulkdl.settings.kinds import SHORTHANDS, KindTable
from bulkdl.source_spec import (
    AutoConcurrency,
    KindSpec,
    OutputLabels,
    SourceSpec,
    kind_names,
    kind_spec,
    register_source,
)

MIB = 1 << 20


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "c.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def notes():
    """A source with a kind that has no settings of its own."""
    source_spec._registry.cache_clear()
    kind = KindSpec("note", "a note", AutoConcurrency(2, 4), 100, kind_spec("geojson").load_checks)
    register_source(SourceSpec("notes", OutputLabels("user", "book", "page"), (kind,)))
    yield kind
    source_spec._registry.cache_clear()


def test_settings_have_a_complete_table_for_each_kind():
    kinds = Settings().kinds
    assert tuple(kinds) == kind_names()
    assert kinds["archive"] == KindTable(concurrency="auto", max_size=MIB * MIB)
    assert kinds["quicklook"] == KindTable(concurrency="auto", max_size=64 * MIB)
    assert kinds["geojson"] == KindTable(concurrency="auto", max_size=512 * MIB)


@pytest.mark.parametrize(("kind", "name"), SHORTHANDS)
def test_shorthand_and_table_set_the_same_value(kind, name):
    value = {"concurrency": 3, "max_size": 4096}[name]
    by_table = Settings(kinds={kind: {name: value}})
    by_shorthand = Settings(**{SHORTHANDS[kind, name]: value})
    assert by_table == by_shorthand
    assert getattr(by_table, SHORTHANDS[kind, name]) == value
    assert getattr(by_shorthand.kinds[kind], name) == value


def test_settings_with_both_spellings_of_one_value_are_rejected_if_they_differ():
    problem = "archive_concurrency and kinds.archive.concurrency are the same setting; set only one of them"
    with pytest.raises(ValidationError, match=problem):
        Settings(archive_concurrency=3, kinds={"archive": {"concurrency": 4}})


def test_settings_are_equal_after_a_round_trip():
    settings = Settings(archive_concurrency=3, kinds={"geojson": {"max_size": "1M"}})
    kept = {"kinds", *SHORTHANDS.values()}
    assert Settings(**settings.model_dump(include=kept)) == settings


def quote_kinds():
    *first, last = map(repr, kind_names())
    assert first[:2] == ["'archive'", "'quicklook'"]
    return f"{', '.join(first)} or {last}"


TABLE = "[kinds.archive]\nconcurrency = 7\n"


@pytest.mark.parametrize(
    ("text", "env", "flags", "value", "source"),
    [
        (TABLE, {}, {}, 7, "file {path}"),
        ("archive_concurrency = 7", {}, {}, 7, "file {path}"),
        (TABLE, {"BULKDL_ARCHIVE_CONCURRENCY": "8"}, {}, 8, "env BULKDL_ARCHIVE_CONCURRENCY"),
        (TABLE, {}, {"archive_concurrency": "9"}, 9, "flag --archive-concurrency"),
        (
            TABLE,
            {"BULKDL_ARCHIVE_CONCURRENCY": "8"},
            {"archive_concurrency": "auto"},
            "auto",
            "flag --archive-concurrency",
        ),
        (
            "[kinds.archive]\nconcurrency = 'x'",
            {"BULKDL_ARCHIVE_CONCURRENCY": "8"},
            {},
            8,
            "env BULKDL_ARCHIVE_CONCURRENCY",
        ),
        ("[kinds.archive]\nmax_size = '2G'", {}, {}, "auto", "default"),
    ],
)
def test_load_settings_with_a_table_has_the_usual_precedence(config, text, env, flags, value, source):
    path = config(text)
    loaded = load_settings(flags, path, env)
    assert loaded.settings.kinds["archive"].concurrency == value
    assert loaded.settings.archive_concurrency == value
    for key in ("archive_concurrency", "kinds.archive.concurrency"):
        assert loaded.sources[key] == source.format(path=path)


def test_load_settings_with_a_flag_keeps_the_other_key_of_the_table(config):
    path = config("[kinds.archive]\nconcurrency = 7\nmax_size = '2G'\n")
    loaded = load_settings({"archive_concurrency": "9"}, path, {"BULKDL_GEOJSON_MAX_SIZE": "1M"})
    assert loaded.settings.kinds["archive"] == KindTable(concurrency=9, max_size=2048 * MIB)
    assert loaded.settings.kinds["geojson"].max_size == MIB
    assert loaded.sources["kinds.archive.max_size"] == f"file {path}"
    assert loaded.sources["kinds.geojson.max_size"] == "env BULKDL_GEOJSON_MAX_SIZE"
    assert loaded.sources["kinds.quicklook.max_size"] == "default"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "archive_concurrency = 7\n[kinds.archive]\nconcurrency = 7",
            "{path}: archive_concurrency and kinds.archive.concurrency are the same setting; set only one",
        ),
        (
            "geojson_max_size = 7\n[kinds.geojson]\nmax_size = 8",
            "{path}: geojson_max_size and kinds.geojson.max_size are the same setting; set only one of them",
        ),
        (
            "[kinds.picture]\nconcurrency = 7",
            "{path}: kinds.picture: expected {kinds}, got 'picture'",
        ),
        (
            "[kinds.archive]\nconcurrency = 0",
            "{path}: kinds.archive.concurrency: expected a number from 1 to 256, or auto, got '0'",
        ),
        (
            "[kinds.archive]\nmax_size = 'big'",
            "{path}: kinds.archive.max_size: expected a size in bytes such as 4096, 500K, 2M, 1.5G, or off",
        ),
        ("[kinds.archive]\nmax_size = 0", "{path}: kinds.archive.max_size: expected greater than 0, got '0'"),
        (
            "[kinds.archive]\nmax_bytes = 5",
            "{path}: kinds.archive.max_bytes: unknown setting; did you mean max_size?",
        ),
        ("kinds = 3", "{path}: kinds: expected a valid dictionary, got '3'"),
        ("[kinds]\narchive = 3", "{path}: kinds.archive: "),
    ],
)
def test_load_settings_with_an_invalid_table_names_the_file_and_the_key(config, text, problem):
    path = config(text)
    with pytest.raises(ConfigError) as raised:
        load_settings({}, path, {})
    assert str(raised.value).startswith(problem.format(path=path, kinds=quote_kinds()))
    assert "\n" not in str(raised.value)


def test_load_settings_with_both_spellings_in_the_file_is_an_error_below_a_flag(config):
    path = config("archive_concurrency = 7\n[kinds.archive]\nconcurrency = 8")
    with pytest.raises(ConfigError, match="set only one of them"):
        load_settings({"archive_concurrency": "9"}, path, {})


def test_all_keys_contain_the_keys_of_all_tables():
    assert [key for key in all_keys() if key.startswith("kinds.")][:2] == [
        "kinds.archive.concurrency",
        "kinds.archive.max_size",
    ]
    assert "kinds" not in all_keys()
    assert format_setting("kinds.archive.max_size", 2 * MIB) == "2M"
    assert format_setting("kinds.archive.concurrency", "auto") == "auto"


def test_settings_of_a_registered_kind_come_from_its_table(notes, config):
    assert Settings().kinds["note"] == KindTable(concurrency="auto", max_size=100)
    assert "note" in Settings().only
    path = config("only = ['note']\n[kinds.note]\nconcurrency = 5\n")
    loaded = load_settings({}, path, {})
    assert loaded.settings.kinds["note"] == KindTable(concurrency=5, max_size=100)
    assert loaded.settings.only == {"note"}
    assert loaded.sources["kinds.note.concurrency"] == f"file {path}"
    assert loaded.sources["kinds.note.max_size"] == "default"


def test_kind_without_shorthand_does_not_take_a_setting_with_a_similar_name(notes):
    source_spec._registry.cache_clear()
    listed = replace(notes, name="list")  # list_concurrency is another setting
    register_source(SourceSpec("lists", OutputLabels("user", "book", "page"), (listed,)))
    assert Settings(list_concurrency=3).kinds["list"].concurrency == "auto"
