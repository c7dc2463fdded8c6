"""
Kill the unpacking of an archive at each of its steps, and complete it in another process.

``python unpack_crash.py SCENARIO FOLDER``. A step is a call that changes the disk. The process is killed
before the step and, with the next number, after it.
"""

from __future__ import annotations

import asyncio
import gzip
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from bulkdl.processors.unpack.processor import UnpackProcessor
from support.archive_bytes import END, member
from support.crash_steps import kill_at, run_in_child
from support.processing import ProcessedDirectory, processed_directory

NAME = "task_output.tar.gz"
OLD = {"data.json": b"old", "old/a.tif": b"abc"}
NEW = {"data.json": b"newer", "new/a.tif": b"abc", "new/b.tif": b"abcdef"}
_STEPS = ("mkdir", "open", "write", "rename", "replace", "fsync", "unlink", "rmdir", "utime")


def pack(files: dict[str, bytes]) -> bytes:
    return gzip.compress(b"".join(member(f"output/{name}", data) for name, data in files.items()) + END)


def read_unpacked(root: Path) -> dict[str, bytes] | None:
    """Return the files of the unpacked folder; None if it does not exist."""
    folder = root / "p/j0/t/output"
    if not folder.exists():
        return None
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


async def unpack(root: Path, step: int | None = None) -> None:
    async with processed_directory(root) as directory:
        if step is not None:
            kill_at(step, _STEPS)
        summary = await directory.process_all(UnpackProcessor())
        assert not summary.problems, summary.problems
        assert directory.scratch() == []


async def prepare(root: Path, scenario: str) -> None:
    """Create a directory with an archive that is not unpacked; for ``replace``, with an older folder."""
    async with processed_directory(root) as directory:
        assert isinstance(directory, ProcessedDirectory)
        if scenario == "replace":
            await directory.complete(0, pack(OLD), name=NAME)
            await directory.process_all(UnpackProcessor())
        await directory.complete(0, pack(NEW), name=NAME)


def run(work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
    asyncio.run(work(*args))


def main(scenario: str, folder: str) -> None:
    template, root = Path(folder) / "template", Path(folder) / "out"
    assert run_in_child(partial(run, prepare, template, scenario)) == 0
    possible = [OLD if scenario == "replace" else None, NEW]
    assert read_unpacked(template) == possible[0]
    step, seen = 0, []
    while True:
        shutil.copytree(template, root, symlinks=True)
        code = run_in_child(partial(run, unpack, root, step))
        if code == 0:
            break
        assert code == -signal.SIGKILL, f"step {step}: exit code {code}"
        found = read_unpacked(root)
        assert found in possible, f"step {step}: {found}"
        seen.append(found)
        assert run_in_child(partial(run, unpack, root)) == 0, f"step {step}: the next run failed"
        assert read_unpacked(root) == NEW, f"step {step}"
        shutil.rmtree(root)
        step += 1
    assert read_unpacked(root) == NEW
    assert [found in seen for found in possible] == [True, True]
    sys.stdout.write(f"{step}\n")


main(*sys.argv[1:])
