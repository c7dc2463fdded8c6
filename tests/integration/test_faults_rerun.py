"""Test jobs that ran again under the same ID and replaced their results."""

import errno
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bulkdl.disk import atomic_files
from bulkdl.graph.pools import OutputDownloader
from bulkdl.simulator import SimulatedAccount
from support.fault_runs import RunEnvironment, RunRecord, run_environment

ACCOUNT = SimulatedAccount(projects=1, jobs=1, archive_bytes=1_200_000)


def run_again(environment: RunEnvironment, before: RunRecord) -> None:
    """All archives have changed, and the ledger contains the results of the earlier run of the job."""
    for path in {request.path for request in before.requests_to("object")}:
        environment.simulator.replace_object(path)
    ledger = sqlite3.connect(environment.root / ".bulkdl" / "ledger.sqlite3")
    with ledger:
        ledger.execute("UPDATE containers SET revision = 'SUCCEEDED 2019-01-01T00:00:00+00:00'")
    ledger.close()


async def unrecorded(*_: object) -> None:
    """The process was killed before it recorded the new result."""


def unplaced(
    data: Path, final: Path, place: Callable[[Path, Path], None] = atomic_files.rename_into_place
) -> None:
    """The process was killed after the last byte of an archive and before the rename."""
    if data.suffix == ".part":
        raise OSError(errno.EIO, "killed")
    place(data, final)


@pytest.mark.parametrize(
    ("owner", "name", "killed"),
    [(OutputDownloader, "remove_sidecar", unrecorded), (atomic_files, "rename_into_place", unplaced)],
)
async def test_run_after_a_job_rerun_replaces_every_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, killed: Any
) -> None:
    async with run_environment(tmp_path, ACCOUNT) as environment:
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, killed)
            before = await environment.run()
        parts = tmp_path / ".bulkdl" / "parts"
        assert any("committed" in json.loads(path.read_text()) for path in parts.glob("*.json"))
        run_again(environment, before)
        record = await environment.run()
        assert record.exit_code == 0
        assert environment.has_complete_output()
        assert record.downloaded_bytes == record.sent_bytes == environment.needed_bytes
        assert list(parts.iterdir()) == []
