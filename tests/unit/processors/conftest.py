"""A call of the unpacker with a victim folder next to it, which must never change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkdl.archives.gzip_reader import INFLATE_LIBRARIES
from support.unpack_calls import UnpackCalls, snapshot


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("a link was created")


@pytest.fixture(params=["zlib", "isal"])
def calls(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[UnpackCalls]:
    """Calls with each library. Afterwards the victim must be unchanged, and no other file may exist."""
    found = UnpackCalls(tmp_path, INFLATE_LIBRARIES[request.param])
    found.victim.mkdir()
    (found.victim / "secret").write_text("unchanged")
    (found.victim / "folder").mkdir()
    before = snapshot(found.victim)
    for name in ("symlink", "link", "mknod", "mkfifo"):
        monkeypatch.setattr(os, name, _refuse)
    yield found
    monkeypatch.undo()
    assert snapshot(found.victim) == before
    archives = {f"archive-{number}" for number in range(found.count + 1)}
    assert {path.name for path in tmp_path.iterdir()} <= {"victim", "work"} | archives
