"""Preparation of the state directory."""

from pathlib import Path

import pytest

from bulkdl.errors import ConfigError
from bulkdl.state.storage import create_storage


@pytest.fixture
def storage(tmp_path):
    created = create_storage(tmp_path / "out")
    created.state.prepare()
    return created


def list_temp_files(storage):
    return [path.name for path in storage.state.partial_folder.iterdir()]


def test_prepare_accepts_that_another_run_removes_its_probe(tmp_path, monkeypatch):
    touch = Path.touch

    def removing_touch(path, *args, **more):
        touch(path, *args, **more)
        path.unlink()

    monkeypatch.setattr(Path, "touch", removing_touch)
    create_storage(tmp_path / "out").state.prepare()


def test_prepare_folder_that_cannot_be_created_raises_config_error(tmp_path):
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(ConfigError, match=f"--output {tmp_path}/file/out: cannot be written"):
        create_storage(tmp_path / "file" / "out").state.prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_prepare_leaves_no_temp_files(storage):
    storage.state.prepare()
    assert list_temp_files(storage) == []
