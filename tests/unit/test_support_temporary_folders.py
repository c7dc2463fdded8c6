"""Test the choice of the file system of temporary folders."""

from pathlib import Path

import pytest

from support import temporary_folders
from support.temporary_folders import find_other_file_system, use_memory


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(temporary_folders, "MEMORY", tmp_path)
    monkeypatch.setattr(temporary_folders, "MIN_FREE_BYTES", 0)
    return tmp_path


def test_use_memory_sets_the_root_of_pytest(memory: Path) -> None:
    env: dict[str, str] = {}
    use_memory(env)
    assert env == {"PYTEST_DEBUG_TEMPROOT": str(memory)}


def test_use_memory_keeps_the_root_of_the_user(memory: Path) -> None:
    env = {"PYTEST_DEBUG_TEMPROOT": "/elsewhere"}
    use_memory(env)
    assert env == {"PYTEST_DEBUG_TEMPROOT": "/elsewhere"}


def test_use_memory_without_enough_space_changes_nothing(memory: Path, monkeypatch) -> None:
    monkeypatch.setattr(temporary_folders, "MIN_FREE_BYTES", 1 << 60)
    env: dict[str, str] = {}
    use_memory(env)
    assert env == {}


def test_use_memory_without_the_folder_changes_nothing(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(temporary_folders, "MEMORY", tmp_path / "missing")
    env: dict[str, str] = {}
    use_memory(env)
    assert env == {}


def test_find_other_file_system_returns_a_folder_on_another_device(tmp_path: Path) -> None:
    found = find_other_file_system(tmp_path)
    assert found is None or found.stat().st_dev != tmp_path.stat().st_dev


def test_find_other_file_system_without_one_returns_none(memory: Path, monkeypatch) -> None:
    monkeypatch.setattr(temporary_folders.tempfile, "gettempdir", lambda: str(memory))
    monkeypatch.chdir(memory)
    assert find_other_file_system(memory) is None
