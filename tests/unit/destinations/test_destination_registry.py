"""Destinations by the scheme of their URL, also those of another distribution."""

import sys
from pathlib import Path

import pytest

from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.destinations.registry import create_destination, require_folders
from bulkdl.errors import ConfigError
from bulkdl.state.storage import create_state, create_storage

MODULE = """
class Destination:
    folders = None
    is_remote = False
    state_objects = None

    def __init__(self, url, options):
        self.location, self.options = url, options


def create(url, options):
    if url.endswith("/invalid"):
        raise ValueError("expected memory://NAME")
    return Destination(url, options)
"""


@pytest.fixture
def extension(tmp_path, monkeypatch):
    """Install a distribution with the entry points ``memory`` and ``broken``."""
    folder = tmp_path / "site"
    info = folder / "memory_destination-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: memory-destination\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[bulkdl.destinations]\nmemory = memory_destination:create\nbroken = no_such_module:create\n"
    )
    (folder / "memory_destination.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    yield
    sys.modules.pop("memory_destination", None)


@pytest.mark.usefixtures("extension")
def test_create_destination_uses_the_entry_point_of_the_scheme(tmp_path):
    storage = create_storage("MEMORY://bucket/prefix", tmp_path / "state")
    assert storage.destination.location == "MEMORY://bucket/prefix"
    assert storage.destination.options.state_folder == tmp_path / "state"
    with pytest.raises(ConfigError, match="a test needs folders, which this destination does not have"):
        require_folders(storage.destination, "a test needs folders")


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "nowhere://x",
            "unknown scheme 'nowhere'; expected a path or one of az, broken, file, gs, memory, s3",
        ),
        ("broken://x", r"broken \(no_such_module:create\) cannot be imported: ModuleNotFoundError"),
        ("memory://x/invalid", "memory://x/invalid: expected memory://NAME"),
    ],
)
def test_create_destination_that_fails_raises_config_error(tmp_path, url, message):
    with pytest.raises(ConfigError, match=message):
        create_storage(url, tmp_path)


def test_create_destination_of_a_path_is_local(tmp_path):
    options = create_state(tmp_path).destination_options
    assert isinstance(create_destination(tmp_path, options), LocalDestination)


def test_default_state_of_a_path_is_inside_of_the_output_directory(tmp_path):
    assert create_state(tmp_path).path == tmp_path / ".bulkdl"


def test_default_state_of_a_url_differs_for_each_url_and_shard():
    env = {"XDG_STATE_HOME": "/state"}
    paths = [
        create_state(url, shard=shard, env=env).path
        for url in ("s3://a", "s3://b")
        for shard in (None, "0/2", "1/2")
    ]
    assert len(set(paths)) == 6
    assert {path.parent for path in paths} == {Path("/state/bulkdl")}
    assert create_state("s3://a", env={}).path.parent == Path("~/.local/state/bulkdl").expanduser()


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "GS://bucket", "az://container/a/b"])
def test_create_destination_without_the_extra_names_it(tmp_path, monkeypatch, url):
    monkeypatch.setitem(sys.modules, "obstore", None)
    for name in [name for name in sys.modules if name.startswith("bulkdl.destinations.objectstore")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        ConfigError, match=r"need the extra objectstore; .* pip install 'bulkdl\[objectstore\]'$"
    ):
        create_storage(url, tmp_path / "state")
