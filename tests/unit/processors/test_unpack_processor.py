"""The processor ``unpack`` in the stage of a run: folders, ledger, repeated calls, and files of the user."""

from __future__ import annotations

import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bulkdl.errors import ConfigError
from bulkdl.models import Reason
from bulkdl.processors.registry import load_processors
from bulkdl.processors.unpack.processor import UnpackProcessor
from support.archive_bytes import END, header, member, zipped
from support.processing import ProcessedDirectory, processed_directory

ARCHIVE = gzip.compress(member("output/data.json", b"{}") + member("output/a/b.tif") + END)
NAME = "task_output.tar.gz"


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Any]:
    async with processed_directory(tmp_path / "out") as opened:
        yield opened


def files_of(directory: ProcessedDirectory) -> dict[str, bytes]:
    """Return all files that are neither archives nor state."""
    found = directory.derived_files()
    return {key: data for key, data in found.items() if not key.endswith((".tar.gz", ".tgz", ".tar", ".zip"))}


UNPACKED = {"p/j0/t/output/data.json": b"{}", "p/j0/t/output/a/b.tif": b"abc"}


async def test_unpack_writes_the_files_and_records_them_with_checksums(directory: Any) -> None:
    await directory.complete(0, ARCHIVE, name=NAME)
    summary = await directory.process_all(UnpackProcessor())
    assert files_of(directory) == UNPACKED
    assert directory.scratch() == []
    rows = await directory.ledger.read(
        lambda connection: connection.execute(
            "SELECT key, size_bytes, digest IS NOT NULL FROM derived WHERE output IS NOT NULL ORDER BY key"
        ).fetchall()
    )
    assert [tuple(row) for row in rows] == [
        ("", 0, 1),
        ("p/j0/t/output", 0, 0),
        ("p/j0/t/output/a/b.tif", 3, 1),
        ("p/j0/t/output/data.json", 2, 1),
    ]
    assert summary.derived["unpack"].completed == 1
    manifest = directory.root / f".bulkdl/processors/unpack/p/j0/t/{NAME}.jsonl"
    assert len(manifest.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("name", "data", "folder"),
    [
        ("task_output.zip", zipped({"output/a": b"abc"}), "output"),
        ("task_output.tar", member("output/a") + END, "output"),
        ("scene.tar.gz", gzip.compress(member("output/a") + END), "scene_unpacked"),
        ("delivery.tgz", gzip.compress(member("output/a") + END), "delivery_unpacked"),
    ],
)
async def test_unpack_chooses_the_folder_by_the_name(
    directory: Any, name: str, data: bytes, folder: str
) -> None:
    await directory.complete(0, data, name=name)
    await directory.process_all(UnpackProcessor())
    assert files_of(directory) == {f"p/j0/t/{folder}/a": b"abc"}


async def test_unpack_does_not_accept_a_file_of_an_unknown_format(directory: Any) -> None:
    await directory.complete(0, b"unknown", name="task_output.bin")
    summary = await directory.process_all(UnpackProcessor())
    assert "unpack" not in summary.derived or summary.derived["unpack"].files == 0
    assert files_of(directory) == {"p/j0/t/task_output.bin": b"unknown"}


async def test_unpack_of_a_job_archive_that_is_linked_to_its_task_is_skipped(directory: Any) -> None:
    await directory.complete(0, ARCHIVE, name=NAME)
    os.link(directory.root / "p/j0/t" / NAME, directory.root / "p/j0/final_output.tar.gz")
    await directory.complete(0, ARCHIVE, name="final_output.tar.gz", task="")
    summary = await directory.process_all(UnpackProcessor())
    assert files_of(directory) == UNPACKED
    assert (summary.derived["unpack"].completed, summary.derived["unpack"].skipped) == (1, 1)


async def test_unpack_of_a_job_archive_without_its_task_unpacks_it(directory: Any) -> None:
    await directory.complete(0, ARCHIVE, name="final_output.tar.gz", task="")
    os.link(directory.root / "p/j0/final_output.tar.gz", directory.root / "backup.tar.gz")
    await directory.process_all(UnpackProcessor())
    assert files_of(directory) == {key.replace("/t/", "/"): data for key, data in UNPACKED.items()}


async def test_unpack_of_another_archive_replaces_the_folder(directory: Any) -> None:
    await directory.complete(0, ARCHIVE, name=NAME)
    await directory.process_all(UnpackProcessor())
    await directory.complete(0, gzip.compress(member("output/new") + END), name=NAME)
    await directory.process_all(UnpackProcessor())
    assert files_of(directory) == {"p/j0/t/output/new": b"abc"}
    keys = [key for _, _, key, _ in await directory.derived_rows()]
    assert "p/j0/t/output/new" in keys
    assert "p/j0/t/output/data.json" not in keys
    assert directory.scratch() == []


@pytest.mark.parametrize("is_known", [True, False])
async def test_unpack_does_not_replace_a_folder_with_a_file_of_the_user(
    directory: Any, is_known: bool
) -> None:
    if is_known:
        await directory.complete(0, ARCHIVE, name=NAME)
        await directory.process_all(UnpackProcessor())
    foreign = directory.root / "p/j0/t/output/a/b.tif.aux.xml"
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.write_text("user")
    before = files_of(directory)
    await directory.complete(0, gzip.compress(member("output/new") + END), name=NAME)
    directory.new_run()
    summary = await directory.process_all(UnpackProcessor())
    (problem,) = summary.problems
    assert problem.reason is Reason.PATH_BLOCKED
    assert "a/b.tif.aux.xml" in problem.detail
    assert files_of(directory) == before


async def test_unpack_does_not_replace_a_file_in_place_of_the_folder(directory: Any) -> None:
    await directory.complete(0, ARCHIVE, name=NAME)
    (directory.root / "p/j0/t/output").write_text("user")
    summary = await directory.process_all(UnpackProcessor())
    assert summary.problems[0].reason is Reason.PATH_BLOCKED
    assert files_of(directory) == {"p/j0/t/output": b"user"}


async def test_unpack_does_not_follow_a_link_in_place_of_the_folder(directory: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    await directory.complete(0, ARCHIVE, name=NAME)
    (directory.root / "p/j0/t/output").symlink_to(tmp_path / "elsewhere")
    summary = await directory.process_all(UnpackProcessor())
    assert summary.problems[0].reason is Reason.PATH_BLOCKED
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_unpack_adopts_a_complete_folder_that_is_not_recorded(directory: Any) -> None:
    """A run was killed after the manifest was published and before the ledger recorded it."""
    await directory.complete(0, ARCHIVE, name=NAME)
    await directory.process_all(UnpackProcessor())
    before = (directory.root / "p/j0/t/output").stat().st_ino
    await directory.ledger.write(lambda connection: connection.execute("DELETE FROM derived"))
    directory.new_run()
    summary = await directory.process_all(UnpackProcessor())
    assert (directory.root / "p/j0/t/output").stat().st_ino == before
    assert summary.derived["unpack"].files == 3


@pytest.mark.parametrize("damage", ["file", "manifest", "folder"])
async def test_unpack_repeats_the_work_for_an_incomplete_folder(directory: Any, damage: str) -> None:
    await directory.complete(0, ARCHIVE, name=NAME)
    await directory.process_all(UnpackProcessor())
    await directory.ledger.write(lambda connection: connection.execute("DELETE FROM derived"))
    if damage == "file":
        (directory.root / "p/j0/t/output/a/b.tif").write_bytes(b"cut")
        (directory.root / "p/j0/t/output/data.json").unlink()
    elif damage == "manifest":
        (directory.root / f".bulkdl/processors/unpack/p/j0/t/{NAME}.jsonl").unlink()
    else:
        (directory.root / "p/j0/t/output").rename(directory.root / "moved")
    directory.new_run()
    summary = await directory.process_all(UnpackProcessor())
    assert not summary.problems
    found = files_of(directory)
    assert {key: data for key, data in found.items() if not key.startswith("moved")} == UNPACKED


@pytest.mark.parametrize(
    ("data", "reason", "exit_code"),
    [
        (ARCHIVE[:-5], Reason.CORRUPT_CONTENT, 6),
        (member("../x") + END, Reason.REFUSED_CONTENT, 3),
        (header("a", 1 << 40) + END, Reason.CORRUPT_CONTENT, 6),
    ],
)
async def test_unpack_of_a_bad_archive_fails_that_output_only(
    directory: Any, data: bytes, reason: Reason, exit_code: int
) -> None:
    await directory.complete(0, ARCHIVE, name=NAME)
    await directory.complete(1, data, name=NAME)
    summary = await directory.process_all(UnpackProcessor())
    (problem,) = summary.problems
    assert (problem.reason, summary.exit_code) == (reason, exit_code)
    assert files_of(directory) == UNPACKED
    assert (directory.root / "p/j1/t" / NAME).exists()
    assert directory.scratch() == []


async def test_unpack_reports_the_members_that_were_left_out(directory: Any) -> None:
    link = header("output/link", 0, b"2", "/etc/passwd")
    await directory.complete(0, gzip.compress(member("output/a") + link + END), name=NAME)
    await directory.process_all(UnpackProcessor())
    assert ("completed", 1, "p/j0/t/output", "files: 1; left out (links, devices): 1") in (
        await directory.derived_rows()
    )


def test_load_processors_creates_the_unpacker_with_its_limits() -> None:
    (processor,) = load_processors(["unpack"], {"unpack": {"max_members": 5}})
    assert (processor.name, processor.version) == ("unpack", 1)


@pytest.mark.parametrize(
    "table", [{"members": 5}, {"max_members": 0}, {"max_bytes": "5"}, {"max_depth": True}]
)
def test_load_processors_with_invalid_limits_raises(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        load_processors(["unpack"], {"unpack": table})
