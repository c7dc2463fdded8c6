"""Sources by name: built in, installed, unknown and faulty ones."""

import pytest
from pydantic import ValidationError

from bulkdl import source_spec
from bulkdl.errors import ConfigError
from bulkdl.models import ContainerRef
from bulkdl.settings import Settings
from bulkdl.source_spec import (
    AutoConcurrency,
    KindSpec,
    OutputLabels,
    SourceSpec,
    container_fields,
    kind_spec,
    source_names,
)
from bulkdl.sources.registry import installed_layouts, load_source_type


def new_spec(name, kind):
    kind = KindSpec(kind, f"a {kind}", AutoConcurrency(1, 1), 1, lambda _name: None)
    return SourceSpec(name, OutputLabels("site_id", "folder_id", "part_id"), (kind,))


class Good:
    name = "good_source"
    spec = new_spec("good_source", "good_file")


class OtherName(Good):
    spec = new_spec("another_source", "another_file")


class TakenKind(Good):
    spec = new_spec("good_source", "archive")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution with the given entry points; forget its sources at the end."""
    registry = source_spec._registry()
    monkeypatch.setattr(registry, "sources", dict(registry.sources))
    monkeypatch.setattr(registry, "kinds", dict(registry.kinds))
    source_spec.load_installed_source.cache_clear()

    def install(**entry_points):
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        folder = tmp_path / "sources-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: sources\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text("\n".join([f"[{source_spec.GROUP}]", *lines]))
        monkeypatch.syspath_prepend(str(tmp_path))

    yield install
    source_spec.load_installed_source.cache_clear()


def test_load_source_type_returns_the_built_in_source():
    assert load_source_type("jobs").name == "jobs"
    assert source_names()[0] == "jobs"


def test_load_source_type_of_an_extension_registers_its_kinds(install):
    install(good_source=f"{__name__}:Good")
    assert load_source_type("good_source") is load_source_type("good_source") is Good
    assert kind_spec("good_file") is Good.spec.kinds[0]
    assert "good_source" in source_names()


def test_load_source_type_of_bulkdl_takes_precedence_over_an_extension(install):
    install(jobs="missing_module:SOURCE")
    assert load_source_type("jobs").name == "jobs"


def test_container_fields_of_an_extension_have_its_names(install):
    install(good_source=f"{__name__}:Good")
    assert container_fields(ContainerRef("good_source", "s", "c")) == {"site_id": "s", "folder_id": "c"}


def test_container_fields_of_a_source_that_is_not_installed_have_general_names():
    assert container_fields(ContainerRef("removed", "s", "c")) == {"scope_id": "s", "container_id": "c"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "--source: expected one of auto, jobs"),
        (
            "missing_module:SOURCE",
            "good_source (missing_module:SOURCE) cannot be imported: ModuleNotFoundError",
        ),
        (f"{__name__}:OtherName", "is not a source with the name of its entry point"),
        (f"{__name__}:install", "is not a source with the name of its entry point"),
        (f"{__name__}:TakenKind", "kind 'archive' is registered already"),
    ],
)
def test_load_source_type_that_cannot_be_used_raises_config_error(install, value, message):
    if value is not None:
        install(good_source=value)
    with pytest.raises(ConfigError) as caught:
        load_source_type("good_source")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_accept_the_source_and_the_kinds_of_an_extension(install):
    install(good_source=f"{__name__}:Good")
    assert Settings(source="good_source", only={"good_file"}).only == {"good_file"}
    with pytest.raises(ValidationError, match="expected one of auto, jobs"):
        Settings(source="unknown")


def test_installed_layouts_omit_a_source_that_cannot_be_loaded(install, logs):
    install(good_source="missing_module:SOURCE")
    names = [layout.source_type.name for layout in installed_layouts(Settings())]
    assert "jobs" in names
    assert "good_source" not in names
    assert [line["source"] for line in logs() if line["event"] == "source.not_loaded"] == ["good_source"]
