"""``bulkdl unpack`` and ``--unpack`` on real downloads: the files are equal to those of other readers."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bulkdl.simulator import SimulatedAccount, Simulator
from support.filled_directory import FilledDirectory
from support.unpack_calls import read_tree

pytestmark = pytest.mark.slow


@pytest.fixture
async def filled(tmp_path: Path) -> AsyncIterator[FilledDirectory]:
    """A directory with all outputs of an account whose simulator has ended."""
    async with Simulator(SimulatedAccount(seed=3, projects=1, jobs=6)) as running:
        site = FilledDirectory(tmp_path, running)
        assert (await site.bulkdl("run", "-q")).code == 0
        yield site


def archives_of(site: FilledDirectory) -> list[Path]:
    return sorted(path for path in site.output.glob("*/*/*/task_output.*") if path.suffix != ".json")


def expected_files(archive: Path, folder: Path) -> dict[str, bytes]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as members:
            members.extractall(folder)  # noqa: S202
    else:
        with tarfile.open(archive) as members:
            members.extractall(folder, filter="data")
    return read_tree(folder / "output")


async def test_unpack_command_unpacks_every_archive_of_a_task(filled: Any, tmp_path: Path) -> None:
    archives = archives_of(filled)
    assert {path.suffix for path in archives} >= {".gz", ".zip"}
    ended = await filled.bulkdl("unpack", "-q", "--format", "json")
    assert ended.code == 0, ended.err
    (derived,) = ended.document["derived"]
    assert (derived["processor"], derived["completed"]) == ("unpack", len(archives))
    for number, archive in enumerate(archives):
        found = read_tree(archive.parent / "output")
        assert found == expected_files(archive, tmp_path / f"expected/{number}")
        assert "data.json" in found
    assert not list(filled.output.glob("*/*/output"))
    again = await filled.bulkdl("unpack", "-q", "--format", "json")
    assert (again.code, again.document["derived"]) == (0, [])


async def test_unpack_command_with_a_job_unpacks_only_its_archives(filled: Any) -> None:
    job = archives_of(filled)[0].parents[1]
    assert (await filled.bulkdl("unpack", "-q", "--job", job.name)).code == 0
    assert {folder.parents[1] for folder in filled.output.glob("*/*/*/output")} == {job}


async def test_unpack_command_with_a_damaged_archive_fails_that_archive(filled: Any) -> None:
    damaged, *others = archives_of(filled)
    damaged.write_bytes(damaged.read_bytes()[:-40])
    ended = await filled.bulkdl("unpack", "-q")
    assert ended.code == 6
    assert "corrupt_content" in ended.out
    assert not (damaged.parent / "output").exists()
    assert all((archive.parent / "output").is_dir() for archive in others)


async def test_unpack_command_rejects_filters_that_the_ledger_cannot_apply(filled: Any) -> None:
    ended = await filled.bulkdl("unpack", "--since", "7d")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "--since: is not supported by bulkdl unpack" in ended.err


async def test_unpack_command_without_a_ledger_fails(tmp_path: Path) -> None:
    async with Simulator(SimulatedAccount(seed=3, projects=1, jobs=1)) as running:
        site = FilledDirectory(tmp_path, running)
        ended = await site.bulkdl("unpack")
        assert ended.code == 2
        assert "contains no ledger" in ended.err
        assert not (site.output / ".bulkdl").exists()


async def test_run_with_unpack_unpacks_what_earlier_runs_downloaded(filled: Any) -> None:
    ended = await filled.bulkdl("run", "-q", "--unpack", "keep", "--format", "json")
    assert ended.code == 0, ended.err
    assert (ended.document["downloaded_bytes"], len(archives_of(filled))) == (
        0,
        ended.document["derived"][0]["completed"],
    )
