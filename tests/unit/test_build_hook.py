"""The revision that a build embeds into the package."""

import subprocess
from pathlib import Path

import pytest

import build_hook


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0123456789abcdef0123456789abcdef01234567", "0123456789ab"),
        ("0123abc", "0123abc"),
        ("unknown", None),
        ('0123abc"; import os', None),
    ],
)
def test_find_revision_with_variable_accepts_only_hexadecimal_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str | None
) -> None:
    monkeypatch.setenv("BULKDL_REVISION", given)
    assert build_hook.find_revision(tmp_path) == expected


def test_find_revision_without_repository_returns_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BULKDL_REVISION", raising=False)
    assert build_hook.find_revision(tmp_path) is None


def test_find_revision_of_a_repository_is_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BULKDL_REVISION", raising=False)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert build_hook.find_revision(tmp_path) == head[:12]
