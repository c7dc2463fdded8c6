"""
A run that is killed between any two steps on disk, and the next run that completes the work.

A step changes the disk: fsync, rename, link, unlink, mkdir, a block written to a partial file, or a
transaction of the ledger. A separate process forks the runs and ends run *k* before its *k*-th step. The
program itself contains no code for this test.
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

# Forks, so that the imports are done once. It has one thread and no event loop.
RUNNER = """
import json, os, sys
import bulkdl.cli.run, bulkdl.graph.downloader, bulkdl.state.partial_file as part
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
    """Starts ``bulkdl run`` in forked processes that can end before a given step."""

    process: asyncio.subprocess.Process
    world: RunEnvironment
    scratch: Path

    async def run(self, root: Path, *options: str, die_before: int = 0) -> tuple[int, list[str]]:
        """Return the exit code and the steps of the run."""
        assert self.process.stdin
        assert self.process.stdout
        argv = ["run", "-o", str(root), "--api-url", self.world.simulator.api_url, *options]
        steps = self.scratch / "steps.json"
        request: dict[str, Any] = {"argv": argv, "die_before": die_before, "steps": str(steps)}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        await self.process.stdin.drain()
        code = int(await self.process.stdout.readline())
        return code, [] if code == DIED else json.loads(steps.read_text())


@asynccontextmanager
async def runner(tmp_path: Path, account: SimulatedAccount) -> AsyncIterator[Runner]:
    async with run_environment(tmp_path, account) as environment:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            RUNNER,
            stdin=PIPE,
            stdout=PIPE,
            env={**project_key(environment.simulator), "PYTHONPATH": str(ROOT)},
        )
        try:
            yield Runner(process, environment, tmp_path)
        finally:
            assert process.stdin
            process.stdin.close()
            await process.wait()


def count_recorded(root: Path) -> int:
    """Return the number of outputs that the ledger records as completed."""
    path = root / ".bulkdl" / "ledger.sqlite3"
    if not path.exists():
        return 0
    connection = sqlite3.connect(path)
    try:
        row = connection.execute("SELECT count(*) FROM outputs WHERE state = 'completed'").fetchone()
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()
    return int(row[0])


async def test_run_after_a_crash_at_any_step_completes_and_reuses_bytes(tmp_path: Path) -> None:
    account = SimulatedAccount(projects=1, jobs=1, archive_bytes=2_500_000)
    filters = (
        "--only",
        "archive",
        "--scope",
        "task,job",
        "--archive-concurrency",
        "1",
        "--geojson-concurrency",
        "1",
    )
    async with runner(tmp_path, account) as runner_process:
        environment = runner_process.world
        environment.remember_bodies()
        code, steps = await runner_process.run(tmp_path / "whole", *filters)
        assert code == 0
        assert {"fsync", "replace", "link", "unlink", "mkdir", "_write_all", "_commit"} <= set(steps)
        for number in range(1, len(steps) + 1):
            environment.root = root = tmp_path / f"crash-{number}"
            crash_point = f"before step {number} ({steps[number - 1]})"
            code, _ = await runner_process.run(root, *filters, die_before=number)
            assert code == DIED, crash_point
            assert environment.find_wrong_files() == [], crash_point
            assert count_recorded(root) == len(files_by_output(root)), crash_point
            reused_bytes = count_stored_bytes(root)
            before = len(environment.simulator.requests)
            code, _ = await runner_process.run(root, *filters)
            assert code == 0, crash_point
            assert environment.find_wrong_files() == [], crash_point
            assert count_recorded(root) == 3, crash_point
            parts = [path.name for path in (root / ".bulkdl" / "parts").iterdir() if path.suffix == ".part"]
            assert parts == [], crash_point
            sent = sum(
                request.sent_bytes
                for request in list(environment.simulator.requests)[before:]
                if request.endpoint == "object"
            )
            assert sent <= environment.needed_bytes - reused_bytes, crash_point


def count_stored_bytes(root: Path) -> int:
    """Return the bytes of archives on disk, in final files and in partial files, without hard links."""
    inodes: dict[int, int] = {}
    for path in root.rglob("*"):
        in_state = ".bulkdl" in path.parts
        if path.is_file() and (path.suffix == ".part" if in_state else path.name.endswith(".tar.gz")):
            inodes[path.stat().st_ino] = path.stat().st_size
    return sum(inodes.values())


async def test_run_after_a_crash_at_any_step_completes_small_files(tmp_path: Path) -> None:
    account = SimulatedAccount(projects=1, jobs=2, archive_bytes=3_000)
    filters = ("--job", account.job(0, 1).id)
    async with runner(tmp_path, account) as runner_process:
        environment = runner_process.world
        code, steps = await runner_process.run(tmp_path / "whole", *filters)
        assert code == 0
        complete = count_recorded(tmp_path / "whole")
        for number in range(1, len(steps) + 1, 2):
            environment.root = root = tmp_path / f"crash-{number}"
            code, _ = await runner_process.run(root, *filters, die_before=number)
            assert environment.find_wrong_files() == []
            assert count_recorded(root) == len(files_by_output(root))
            code, _ = await runner_process.run(root, *filters)
            assert code == 0
            assert environment.find_wrong_files() == []
            assert count_recorded(root) == complete
