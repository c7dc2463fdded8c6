"""
A run that dies between any two of its steps on disk, and the next run that mends it.

The steps are those that change what is on disk: fsync, rename, link, unlink, mkdir, a block written
to a part, a transaction of the ledger. A small process beside the test forks one run after another
and lets run *k* die before its *k*-th step; no trace of this is in the program itself.
"""

import asyncio
import json
import sqlite3
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bulkdl.simulator import SimulatedAccount
from support.fault_runs import RunEnvironment, files_by_output, run_environment
from support.run_processes import ROOT, project_key

pytestmark = pytest.mark.slow

# Forks, so that what is imported once serves all runs. It has one thread and no event loop.
RUNNER = """
import json, os, sys
import bulkdl.cli.run, bulkdl.graph.downloader, bulkdl.destinations.local.partial_file as part
from bulkdl.cli import main
from bulkdl.ledger.database import Ledger

def patched(die_before):
    steps = []
    def step(name):
        steps.append(name)
        if len(steps) == die_before:
            os._exit(99)
    def before(owner, name):
        original = getattr(owner, name)
        def wrapped(*args, **kwargs):
            step(name)
            return original(*args, **kwargs)
        setattr(owner, name, wrapped)
    for name in ("fsync", "replace", "link", "unlink", "mkdir"):
        before(os, name)
    before(part, "_write_all")
    before(Ledger, "_commit")
    return steps

def run(order):
    steps = patched(order["die_before"])
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    sys.argv = ["bulkdl", *order["argv"]]
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    with open(order["steps"], "w") as stream:
        json.dump(steps, stream)
    os._exit(code or 0)

for line in sys.stdin:
    child = os.fork()
    if not child:
        run(json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

DIED = 99


@dataclass
class Runner:
    """Runs of ``bulkdl run`` in processes of their own, each dead before a step of choice."""

    process: asyncio.subprocess.Process
    world: RunEnvironment
    scratch: Path

    async def run(self, root: Path, *more: str, die_before: int = 0) -> tuple[int, list[str]]:
        """Exit code, and the steps that it made."""
        assert self.process.stdin
        assert self.process.stdout
        argv = ["run", "-o", str(root), "--api-url", self.world.simulator.api_url, *more]
        steps = self.scratch / "steps.json"
        order: dict[str, Any] = {"argv": argv, "die_before": die_before, "steps": str(steps)}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        await self.process.stdin.drain()
        code = int(await self.process.stdout.readline())
        return code, [] if code == DIED else json.loads(steps.read_text())


@asynccontextmanager
async def runner(tmp_path: Path, account: SimulatedAccount) -> AsyncIterator[Runner]:
    async with run_environment(tmp_path, account) as here:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            RUNNER,
            stdin=PIPE,
            stdout=PIPE,
            env={**project_key(here.simulator), "PYTHONPATH": str(ROOT)},
        )
        try:
            yield Runner(process, here, tmp_path)
        finally:
            assert process.stdin
            process.stdin.close()
            await process.wait()


def recorded(root: Path) -> int:
    """How many outputs the ledger holds for completed."""
    path = root / ".bulkdl" / "ledger.sqlite3"
    if not path.exists():
        return 0
    connection = sqlite3.connect(path)
    try:
        found = connection.execute("SELECT count(*) FROM outputs WHERE state = 'completed'").fetchone()
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()
    return int(found[0])


async def test_every_crash_between_two_steps_is_mended(tmp_path: Path) -> None:
    account = SimulatedAccount(projects=1, jobs=1, archive_bytes=2_500_000)
    only = (
        "--only",
        "archive",
        "--scope",
        "task,job",
        "--archive-concurrency",
        "1",
        "--geojson-concurrency",
        "1",
    )
    async with runner(tmp_path, account) as runs:
        here = runs.world
        here.remember_bodies()
        code, steps = await runs.run(tmp_path / "whole", *only)
        assert code == 0
        assert {"fsync", "replace", "link", "unlink", "mkdir", "_write_all", "_commit"} <= set(steps)
        for number in range(1, len(steps) + 1):
            here.root = root = tmp_path / f"crash-{number}"
            place = f"before step {number} ({steps[number - 1]})"
            code, _ = await runs.run(root, *only, die_before=number)
            assert code == DIED, place
            assert here.find_wrong_files() == [], place
            assert recorded(root) == len(files_by_output(root)), place
            kept = parts_and_files(root)
            before = len(here.simulator.requests)
            code, _ = await runs.run(root, *only)
            assert code == 0, place
            assert here.find_wrong_files() == [], place
            assert recorded(root) == 3, place
            parts = [path.name for path in (root / ".bulkdl" / "parts").iterdir() if path.suffix == ".part"]
            assert parts == [], place
            sent = sum(
                each.sent_bytes
                for each in list(here.simulator.requests)[before:]
                if each.endpoint == "object"
            )
            assert sent <= here.needed_bytes - kept, place


def parts_and_files(root: Path) -> int:
    """Bytes of different archives that are on disk, under a final name or as a part that has a sidecar."""
    inodes: dict[int, int] = {}
    for path in root.rglob("*"):
        in_state = ".bulkdl" in path.parts
        if path.is_file() and (path.suffix == ".part" if in_state else path.name.endswith(".tar.gz")):
            inodes[path.stat().st_ino] = path.stat().st_size
    return sum(inodes.values())


async def test_small_files_survive_every_crash_too(tmp_path: Path) -> None:
    account = SimulatedAccount(projects=1, jobs=2, archive_bytes=3_000)
    only = ("--job", account.job(0, 1).id)
    async with runner(tmp_path, account) as runs:
        here = runs.world
        code, steps = await runs.run(tmp_path / "whole", *only)
        assert code == 0
        complete = recorded(tmp_path / "whole")
        for number in range(1, len(steps) + 1, 2):
            here.root = root = tmp_path / f"crash-{number}"
            code, _ = await runs.run(root, *only, die_before=number)
            assert here.find_wrong_files() == []
            assert recorded(root) == len(files_by_output(root))
            code, _ = await runs.run(root, *only)
            assert code == 0
            assert here.find_wrong_files() == []
            assert recorded(root) == complete
