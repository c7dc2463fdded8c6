"""Runs with ``--unpack`` against a storage without checksums: archives are read once, damage is found."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bulkdl.simulator import Faults, SimulatedAccount, Simulator
from support.filled_directory import ROOT, FilledDirectory

ACCOUNT = SimulatedAccount(seed=3, projects=1, jobs=4, archive_bytes=(2 << 20, 3 << 20))
NO_HASH = {"fault": "no_hash", "server": "storage"}
# Records the reads of published archives in the process of the command line.
HOOK = """
import os, sys

def record(event, args):
    if event == "open" and isinstance(args[2], int) and not args[2] & (os.O_WRONLY | os.O_RDWR):
        path = "" if isinstance(args[0], int) else os.fsdecode(args[0])
        if path.endswith(("_output.tar.gz", "_output.zip", "_output.tar")):
            with open(os.environ["READS"], "a") as stream:
                stream.write(path + "\\n")

sys.addaudithook(record)
"""


def make_site(tmp_path: Path, simulator: Simulator) -> FilledDirectory:
    site = FilledDirectory(tmp_path, simulator)
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    site.env |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(hook)]), "READS": str(tmp_path / "reads")}
    return site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FilledDirectory]:
    async with Simulator(ACCOUNT, faults=Faults.from_rules(NO_HASH)) as simulator:
        yield make_site(tmp_path, simulator)


def reads(site: FilledDirectory) -> list[str]:
    path = site.folder / "reads"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("mode", ["keep", "replace"])
async def test_run_without_checksums_unpacks_archives_without_reading_them_again(
    site: Any, mode: str
) -> None:
    result = await site.bulkdl("run", "--unpack", mode, "--format", "json")
    assert result.code == 0, result.err
    folders = sorted(site.output.glob("*/*/*/output"))
    assert result.document["derived"][0]["completed"] == len(folders) > 2
    assert reads(site) == []
    assert not list((site.output / ".bulkdl/processing").glob("*"))
    assert (await site.bulkdl("verify", "--deep")).code == 0


async def test_run_with_checksums_unpacks_the_published_archives(tmp_path: Path) -> None:
    async with Simulator(ACCOUNT) as simulator:
        site = make_site(tmp_path, simulator)
        assert (await site.bulkdl("run", "--unpack", "keep")).code == 0
    assert len(reads(site)) > 2
