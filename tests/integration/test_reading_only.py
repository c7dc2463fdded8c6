"""Test that read-only commands do not add, remove or change files of an output directory."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bulkdl.ledger.database import Ledger
from bulkdl.maintenance.retry import select_retries
from bulkdl.maintenance.status import all_failures, read_status
from bulkdl.selection import Selection
from bulkdl.simulator import SimulatedAccount
from support.fault_runs import RunEnvironment, run_environment

ACCOUNT = SimulatedAccount(projects=1, jobs=1, archive_bytes=1000)
# A killed run leaves the auxiliary SQLite files next to the ledger.
KILLED = """
import os, sqlite3, sys
ledger = sqlite3.connect(sys.argv[1])
ledger.execute("UPDATE containers SET name = 'changed'")
ledger.commit()
os._exit(0)
"""


def done(command: Sequence[object]) -> None:
    subprocess.run(list(map(str, command)), check=True)


def state_of(root: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and time of each file. Readers change the SQLite -shm file, so only its name counts."""
    return {
        str(path): (b"", 0) if path.name.endswith("-shm") else (path.read_bytes(), path.lstat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


async def read_all(environment: RunEnvironment) -> None:
    async with environment.downloader() as downloader:
        plan = await downloader.plan()
    assert plan.summary.exit_code == 0
    assert (await read_status(environment.root)).as_dict()["containers"]["jobs"]["up_to_date"] == 1
    assert [row async for row in all_failures(environment.root)] == []
    assert (await select_retries(environment.root, [Selection()])).selections == ()


@pytest.mark.parametrize("killed", [False, True])
async def test_read_only_command_leaves_the_directory_unchanged(tmp_path: Path, killed: bool) -> None:
    async with run_environment(tmp_path / "out", ACCOUNT) as environment:
        await environment.run()
        ledger = environment.root / ".bulkdl" / "ledger.sqlite3"
        if killed:
            done([sys.executable, "-c", KILLED, ledger])
            assert ledger.with_name("ledger.sqlite3-wal").exists()
        before = state_of(environment.root)
        await read_all(environment)
        assert state_of(environment.root) == before


async def test_read_only_command_does_not_create_a_directory(tmp_path: Path) -> None:
    async with (
        run_environment(tmp_path / "out", ACCOUNT) as environment,
        environment.downloader() as downloader,
    ):
        assert (await downloader.plan()).summary.exit_code == 0
        assert not environment.root.exists()


async def test_read_only_command_does_not_disturb_a_run(tmp_path: Path) -> None:
    async with run_environment(tmp_path / "out", ACCOUNT) as environment:
        await environment.run()
        working = await Ledger.open(environment.root / ".bulkdl" / "ledger.sqlite3")
        await working.write(lambda connection: connection.execute("UPDATE containers SET name = 'x'"))
        await read_all(environment)
        await working.write(lambda connection: connection.execute("UPDATE containers SET name = 'y'"))
        await read_all(environment)
        await working.close()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """Return a directory that can be remounted read-only."""
    where = tmp_path / "mounted"
    where.mkdir()
    if subprocess.run(["mount", "--bind", where, where], capture_output=True, check=False).returncode:
        pytest.skip("this test may not mount a file system")
    yield where
    done(["umount", "-l", where])


async def test_read_only_command_reads_a_read_only_directory(read_only: Path) -> None:
    async with run_environment(read_only / "out", ACCOUNT) as environment:
        await environment.run()
        done(["mount", "-o", "remount,bind,ro", read_only])
        await read_all(environment)
