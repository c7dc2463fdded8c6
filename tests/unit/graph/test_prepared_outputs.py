"""Archives without a checksum are inspected and unpacked in one pass, before they are published."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from bulkdl.archives.inspection import inspect_archive
from bulkdl.errors import TransferError
from bulkdl.models import Reason
from bulkdl.processors.unpack.names import UnpackLimits
from bulkdl.processors.unpack.processor import UnpackProcessor
from support.archive_bytes import END, header, member, padded, zipped
from support.processing import CopyProcessor, ProcessedDirectory, processed_directory

TAR = member("output/data.json", b"{}") + member("output/a/b.tif") + END
ARCHIVES = {
    "task_output.tar.gz": gzip.compress(TAR),
    "task_output.tar": TAR,
    "task_output.zip": zipped({"output/data.json": b"{}", "output/a/b.tif": b"abc"}),
}
UNPACKED = {"p/j0/t/output/data.json": b"{}", "p/j0/t/output/a/b.tif": b"abc"}
GZIPPED = ARCHIVES["task_output.tar.gz"]


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Any]:
    async with processed_directory(tmp_path / "out") as opened:
        yield opened


def members_of(directory: ProcessedDirectory) -> dict[str, bytes]:
    return {key: data for key, data in directory.derived_files().items() if "/output/" in key}


def overwrite(path: Path) -> None:
    """Change the content, so that a second read of the archive fails."""
    path.write_bytes(bytes(path.stat().st_size))


def corrupt(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("name", ARCHIVES)
async def test_archive_without_a_checksum_is_read_once(directory: Any, name: str) -> None:
    stage = directory.stage(UnpackProcessor())
    async with directory.running(stage):
        await directory.download(stage, 0, ARCHIVES[name], name=name, recorded=overwrite)
    assert members_of(directory) == UNPACKED
    assert directory.scratch() == []
    assert directory.summary.build().derived["unpack"].completed == 1


@pytest.mark.parametrize("at", [30, len(GZIPPED) - 6, len(GZIPPED) - 1])
async def test_damaged_archive_fails_as_without_a_processor(directory: Any, at: int) -> None:
    damaged = corrupt(GZIPPED, at)
    with pytest.raises(TransferError) as expected:
        inspect_archive(BytesIO(damaged))
    stage = directory.stage(UnpackProcessor())
    async with directory.running(stage):
        with pytest.raises(TransferError) as failure:
            await directory.download(stage, 0, damaged)
        assert directory.scratch() == []
    assert (failure.value.reason, failure.value.detail) == (expected.value.reason, expected.value.detail)
    assert failure.value.reason is Reason.CORRUPT_CONTENT
    assert not (directory.root / "p").exists()


async def test_truncated_archive_is_not_published(directory: Any) -> None:
    stage = directory.stage(UnpackProcessor())
    async with directory.running(stage):
        for size in range(20, len(GZIPPED), 7):
            with pytest.raises(TransferError):
                await directory.download(stage, 0, GZIPPED[:size])
    assert not (directory.root / "p").exists()
    assert directory.scratch() == []


async def test_zip_with_a_damaged_member_that_is_left_out_is_not_published(directory: Any) -> None:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("output/link")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "target")
        archive.writestr("output/a", b"abc")
    stage = directory.stage(UnpackProcessor())
    async with directory.running(stage):
        damaged = stream.getvalue().replace(b"target", b"tarset", 1)
        with pytest.raises(TransferError):
            await directory.download(stage, 0, damaged, name="task_output.zip")
    assert not (directory.root / "p").exists()


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        (member("../escape") + END, UnpackLimits()),
        (header("output/a", 3, b"S") + padded(b"abc") + END, UnpackLimits()),
        (TAR, UnpackLimits(max_bytes=1)),
        (TAR, UnpackLimits(max_members=1)),
    ],
    ids=["hostile", "sparse", "too large", "too many members"],
)
async def test_intact_archive_that_is_not_unpacked_is_published(
    directory: Any, data: bytes, limits: UnpackLimits
) -> None:
    stage = directory.stage(UnpackProcessor(limits))
    async with directory.running(stage):
        file = await directory.download(stage, 0, content := gzip.compress(data))
    assert (directory.root / file.key).read_bytes() == content
    rows = await directory.derived_rows()
    assert [row[0] for row in rows] == ["failed"]
    assert rows[0][3].startswith("refused_content")
    assert (members_of(directory), directory.scratch()) == ({}, [])


async def test_archive_of_a_job_is_prepared_for_its_linked_task(directory: Any) -> None:
    task = directory.root / "p/j0/t/task_output.tar.gz"

    def link_task(archive: Path) -> None:
        task.parent.mkdir()
        task.hardlink_to(archive)
        overwrite(archive)

    stage = directory.stage(UnpackProcessor())
    async with directory.running(stage):
        job = await directory.download(
            stage, 0, GZIPPED, name="final_output.tar.gz", task="", recorded=link_task
        )
        await directory.link(stage, 0, job, task.name)
    assert members_of(directory) == UNPACKED
    assert [row[0] for row in await directory.derived_rows() if row[0] == "skipped"] == ["skipped"]
    assert directory.scratch() == []


async def test_archive_that_no_call_takes_is_removed_at_the_end(directory: Any) -> None:
    stage = directory.stage(UnpackProcessor())
    async with directory.running(stage):
        directory.inspect(stage, 0, GZIPPED)
        assert directory.scratch() != []
    assert directory.scratch() == []
    assert not stage.prepared.is_open


async def test_archive_that_is_inspected_twice_is_prepared_once(directory: Any) -> None:
    stage = directory.stage(UnpackProcessor())
    async with directory.running(stage):
        directory.inspect(stage, 0, GZIPPED)
        first = directory.scratch()
        directory.inspect(stage, 0, GZIPPED)
        assert len(directory.scratch()) == len(first)
        assert set(directory.scratch()).isdisjoint(set(first) - {first[0].parent})
    assert directory.scratch() == []


async def test_inspection_after_the_stage_has_ended_only_checks(directory: Any) -> None:
    stage = directory.stage(UnpackProcessor())
    async with directory.running(stage):
        pass
    directory.inspect(stage, 0, GZIPPED)
    with pytest.raises(TransferError):
        directory.inspect(stage, 1, GZIPPED[:-1])
    assert directory.scratch() == []


async def test_preparation_is_bounded(directory: Any) -> None:
    stage = directory.stage(UnpackProcessor())
    async with directory.running(stage):
        for number in range(70):
            directory.inspect(stage, number, GZIPPED)
        assert len([path for path in directory.scratch() if path.name == "manifest.jsonl"]) == 64
    assert directory.scratch() == []


async def test_processor_without_preparation_gets_nothing_prepared(directory: Any) -> None:
    found = []

    async def look(_file: Any, _record: Any, area: Any) -> None:
        found.append(area.prepared)

    stage = directory.stage(CopyProcessor(before=look))
    async with directory.running(stage):
        await directory.download(stage, 0, GZIPPED)
    assert found == [None]


async def test_preparation_that_stops_reading_leaves_nothing(directory: Any) -> None:
    class Failing(UnpackProcessor):
        def prepare(self, stream: Any, completed: Any, area: Any) -> Any:
            super().prepare(stream, completed, area)
            raise RuntimeError("defect")

    stage = directory.stage(Failing())
    async with directory.running(stage):
        await directory.download(stage, 0, GZIPPED)
    assert members_of(directory) == UNPACKED
    assert directory.scratch() == []
