"""Verification of derived files: the members of unpacked archives."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from bulkdl.maintenance.verify import VerifyOptions, verify
from bulkdl.processors.unpack.processor import UnpackProcessor
from bulkdl.report.verification import FileState, Verification
from bulkdl.settings import Settings
from bulkdl.sources.registry import installed_layouts
from support.archive_bytes import END, member
from support.processing import processed_directory

ARCHIVE = gzip.compress(member("output/data.json", b"{}") + member("output/a/b.tif") + END)
JSON, TIF = (f"p/j0/t/output/{name}" for name in ("data.json", "a/b.tif"))


@pytest.fixture
async def root(tmp_path: Path) -> Path:
    """An output directory with two unpacked archives."""
    path = tmp_path / "out"
    async with processed_directory(path) as directory:
        for number in range(2):
            await directory.complete(number, ARCHIVE, name="task_output.tar.gz")
        await directory.process_all(UnpackProcessor())
    return path


async def check(root: Path, **options: Any) -> Verification:
    return await verify(VerifyOptions(root, installed_layouts(Settings()), **options))


def states_of(verification: Verification) -> dict[str, FileState]:
    return {finding.key: finding.state for finding in verification.findings}


async def unpack_again(root: Path) -> int:
    async with processed_directory(root) as directory:
        summary = await directory.process_all(UnpackProcessor())
        assert not summary.problems
        return int(summary.derived["unpack"].completed) if "unpack" in summary.derived else 0


@pytest.mark.parametrize("deep", [False, True])
async def test_verify_with_intact_members_finds_nothing(root: Path, deep: bool) -> None:
    found = await check(root, deep=deep)
    assert (found.exit_code, found.findings_total, found.untracked) == (0, 0, [])
    assert found.counts["unpack", FileState.OK].outputs == 4


async def test_verify_reports_missing_and_damaged_members(root: Path) -> None:
    (root / JSON).unlink()
    (root / TIF).write_bytes(b"xyz")
    quick = await check(root)
    assert (quick.exit_code, states_of(quick)) == (6, {JSON: FileState.MISSING})
    deep = await check(root, deep=True)
    assert states_of(deep) == {JSON: FileState.MISSING, TIF: FileState.WRONG_DIGEST}
    assert {finding.processor for finding in deep.findings} == {"unpack"}
    assert "next run with unpack" in deep.findings[0].hint
    assert deep.as_dict()["findings"][0]["processor"] == "unpack"


async def test_verify_repair_lets_the_next_run_unpack_the_archive_again(root: Path) -> None:
    assert await unpack_again(root) == 0
    (root / TIF).write_bytes(b"xyz")
    found = await check(root, deep=True, repair=True)
    assert (found.exit_code, found.repaired) == (6, 1)
    assert await unpack_again(root) == 1
    assert (root / TIF).read_bytes() == b"abc"
    assert (await check(root, deep=True)).exit_code == 0


async def test_verify_reports_a_file_of_the_user_as_untracked(root: Path) -> None:
    (root / f"{TIF}.aux.xml").touch()
    found = await check(root)
    assert (found.exit_code, found.untracked) == (0, [f"{TIF}.aux.xml"])
