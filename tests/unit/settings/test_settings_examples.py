from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from bulkdl.settings import (
    AccountTable,
    NotifyTable,
    ObjectStoreTable,
    PathTemplates,
    ProjectTable,
    Settings,
    format_setting,
    load_settings,
)
from bulkdl.settings.field_types import Unit
from bulkdl.settings.kinds import KindTable

CONFIG = Path(__file__).parents[3] / "config"


def uncommented() -> str:
    lines = (CONFIG / "example.toml").read_text(encoding="utf-8").splitlines()
    return "\n".join(line.removeprefix("#") for line in lines if not re.match(r"# |#$", line))


def test_example_has_exactly_the_keys_of_the_settings():
    keys = tomllib.loads(uncommented())
    assert set(keys) == set(Settings.model_fields)
    assert set(keys["path_templates"]) == set(PathTemplates.model_fields)
    assert {key for table in keys["projects"] for key in table} == set(ProjectTable.model_fields)
    assert {key for table in keys["accounts"] for key in table} == set(AccountTable.model_fields)
    assert set(keys["object_store"]) == set(ObjectStoreTable.model_fields)
    assert set(keys["notify"]) == set(NotifyTable.model_fields) - {"header_file"}


def test_example_uncommented_equals_the_defaults(tmp_path):
    path = tmp_path / "all.toml"
    path.write_text(uncommented(), encoding="utf-8")
    shown, default = load_settings({}, path, {}).settings, Settings()
    for key in set(Settings.model_fields) - {"projects", "accounts", "notify", "object_store"}:
        if getattr(default, key) is not None:
            assert getattr(shown, key) == getattr(default, key), key


def test_example_unchanged_sets_nothing():
    assert load_settings({}, CONFIG / "example.toml", {}).settings == Settings()


def test_example_has_the_descriptions_of_the_notify_table():
    lines = (CONFIG / "example.toml").read_text(encoding="utf-8").partition("#[notify]\n")[2].splitlines()
    for key, field in NotifyTable.model_fields.items():
        if key != "header_file":
            at = next(number for number, line in enumerate(lines) if line.startswith(f"#{key} = "))
            assert lines[at - 1] == f"# {field.description}"


def test_example_has_the_descriptions_of_the_object_store_table():
    lines = (
        (CONFIG / "example.toml").read_text(encoding="utf-8").partition("#[object_store]\n")[2].splitlines()
    )
    for key, field in ObjectStoreTable.model_fields.items():
        at = next(number for number, line in enumerate(lines) if line.startswith(f"#{key} = "))
        assert lines[at - 1] == f"# {field.description}"


@pytest.mark.parametrize("model", [Settings, PathTemplates])
def test_example_has_the_descriptions_of_the_model(model):
    lines = (CONFIG / "example.toml").read_text(encoding="utf-8").splitlines()
    for key, field in model.model_fields.items():
        if key in (
            "accounts",
            "kinds",
            "notify",
            "object_store",
            "path_templates",
            "processor_settings",
            "projects",
            "source_settings",
        ):
            continue
        at = next(number for number, line in enumerate(lines) if line.startswith(f"#{key} = "))
        assert lines[at - 1].removeprefix("# ").removesuffix("; no default") == field.description


def test_example_has_the_descriptions_of_the_tables_of_kinds():
    text = (CONFIG / "example.toml").read_text(encoding="utf-8")
    expected = "".join(f"# {key}: {field.description}\n" for key, field in KindTable.model_fields.items())
    assert f"#[kinds.archive]\n{expected}" in text


def test_settings_keys_contain_no_unit():
    assert [key for key in Settings.model_fields if key.endswith(("_s", "_bytes"))] == []


def test_example_writes_durations_and_sizes_with_their_unit():
    keys = tomllib.loads(uncommented())
    with_unit = [key for key, field in Settings.model_fields.items() if {*field.metadata} & {*Unit}]
    assert len(with_unit) > 10
    assert {key: keys[key] for key in with_unit} == {
        key: format_setting(key, getattr(Settings(), key)) for key in with_unit
    }


@pytest.mark.parametrize("profile", ["nightly", "backfill"])
def test_profile_is_a_valid_config_file(profile):
    settings = load_settings({}, CONFIG / f"{profile}.toml", {}).settings
    assert settings.output is not None
    assert settings != Settings(output=settings.output)
