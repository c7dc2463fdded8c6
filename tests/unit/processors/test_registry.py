"""Processors by name: built in, installed, unknown and faulty ones."""

import pytest

from bulkdl.errors import ConfigError
from bulkdl.processors import registry
from bulkdl.processors.interfaces import BaseProcessor
from bulkdl.processors.registry import load_processors


class Sums(BaseProcessor):
    name = "sums"
    version = 1

    def __init__(self, table):
        if unknown := set(table) - {"algorithm"}:
            raise ValueError(f"unknown setting {min(unknown)}")
        self.algorithm = table.get("algorithm", "sha256")


class OtherName(Sums):
    name = "other"


class NoVersion(Sums):
    version = 0


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution with the given entry points."""

    def install(distribution="sums", **entry_points):
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        folder = tmp_path / f"{distribution}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines]))
        monkeypatch.syspath_prepend(str(tmp_path))

    return install


def test_load_processors_without_names_imports_nothing(install):
    install(sums="missing_module:Sums")
    assert load_processors((), {"other": {}}) == ()


def test_load_processors_creates_installed_processors_with_their_settings(install):
    install(sums=f"{__name__}:Sums")
    (processor,) = load_processors(("sums", "sums"), {"sums": {"algorithm": "md5"}})
    assert (processor.name, processor.algorithm) == ("sums", "md5")


def test_load_processors_creates_built_in_processors(monkeypatch):
    monkeypatch.setitem(registry.BUILT_IN, "sums", Sums)
    (processor,) = load_processors(("sums",), {})
    assert processor.algorithm == "sha256"


@pytest.mark.parametrize(
    ("value", "names", "tables", "message"),
    [
        (f"{__name__}:Sums", ["summs"], {}, "--processor: unknown processor 'summs'; installed: .*sums"),
        (f"{__name__}:Sums", ["sums"], {"summs": {}}, "processor_settings.summs: unknown processor; inst"),
        (
            f"{__name__}:Sums",
            ["sums"],
            {"sums": {"algo": 1}},
            "processor_settings.sums: processor sums cannot be created: ValueError: unknown setting algo",
        ),
        (
            "missing_module:Sums",
            ["sums"],
            {},
            r"sums \(missing_module:Sums\) cannot be imported: ModuleNotFoundError",
        ),
        (f"{__name__}:Missing", ["sums"], {}, "cannot be imported: AttributeError"),
        (f"{__name__}:OtherName", ["sums"], {}, "processor 'sums' has the name 'other'; expected the name"),
        (f"{__name__}:NoVersion", ["sums"], {}, "processor sums has the version 0; expected 1 or higher"),
    ],
)
def test_load_processors_with_a_faulty_processor_fails_with_one_line(install, value, names, tables, message):
    install(sums=value)
    with pytest.raises(ConfigError, match=message) as raised:
        load_processors(names, tables)
    assert "\n" not in str(raised.value)


def test_load_processors_with_two_distributions_of_one_name_fails(install):
    install("one", sums=f"{__name__}:Sums")
    install("two", sums=f"{__name__}:OtherName")
    with pytest.raises(ConfigError, match="is installed twice"):
        load_processors(("sums",), {})
