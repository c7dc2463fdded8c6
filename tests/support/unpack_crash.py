"""
Kill the unpacking of an archive at each of its steps, and complete it in another process.

``python unpack_crash.py SCENARIO FOLDER``. SCENARIO is ``create``, ``replace`` (an older folder exists), or
``download`` (the archive is unpacked while it is inspected, before it is published). A step is a call that
changes the disk. The process is killed before the step and, with the next number, after it.
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

from bulkdl.ledger import derived_queries
from bulkdl.processors.unpack.processor import UnpackProcessor
from support.archive_bytes import END, member
from support.crash_steps import kill_at, run_in_child
from support.processing import ProcessedDirectory, processed_directory

NAME = "task_output.tar.gz"
ARCHIVE_KEY = f"p/j0/t/{NAME}"
OLD = {"data.json": b"old", "old/a.tif": b"abc"}
NEW = {"data.json": b"newer", "new/a.tif": b"abc", "new/b.tif": b"abcdef"}
_STEPS = ("mkdir", "open", "write", "rename", "replace", "fsync", "unlink", "rmdir", "utime")


def pack(files: dict[str, bytes]) -> bytes:
    content = b"".join(member(f"output/{name}", data) for name, data in files.items()) + END
    return gzip.compress(content, mtime=0)


def read_unpacked(root: Path) -> dict[str, bytes] | None:
    """Return the files of the unpacked folder; None if it does not exist."""
    folder = root / "p/j0/t/output"
    if not folder.exists():
        return None
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


async def unpack(root: Path, scenario: str, step: int | None = None) -> None:
    """Unpack the archive; for ``download``, inspect and publish it in the same pass unless it is recorded."""
    async with processed_directory(root) as directory:
        is_recorded = await directory.ledger.read(partial(derived_queries.has_output_at, key=ARCHIVE_KEY))
        if step is not None:
            kill_at(step, _STEPS)
        if scenario == "download":
            stage = directory.stage(UnpackProcessor())
            async with directory.running(stage):
                if not is_recorded:
                    await directory.download(stage, 0, pack(NEW), name=NAME)
            summary = directory.summary.build()
        else:
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
        if scenario != "download":
            await directory.complete(0, pack(NEW), name=NAME)


def check_archive(root: Path, scenario: str) -> None:
    """Check that the archive is complete; a download can be killed before it is published."""
    archive = root / ARCHIVE_KEY
    if scenario != "download" or archive.exists():
        assert archive.read_bytes() == pack(NEW)


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
        code = run_in_child(partial(run, unpack, root, scenario, step))
        if code == 0:
            break
        assert code == -signal.SIGKILL, f"step {step}: exit code {code}"
        found = read_unpacked(root)
        assert found in possible, f"step {step}: {found}"
        check_archive(root, scenario)
        seen.append(found)
        assert run_in_child(partial(run, unpack, root, scenario)) == 0, f"step {step}: the next run failed"
        assert read_unpacked(root) == NEW, f"step {step}"
        shutil.rmtree(root)
        step += 1
    assert read_unpacked(root) == NEW
    assert [found in seen for found in possible] == [True, True]
    sys.stdout.write(f"{step}\n")


main(*sys.argv[1:])
