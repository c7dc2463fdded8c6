"""The area where a processor writes: keys, replacement, folders, scratch, disk space."""

import pytest

from bulkdl.errors import ConfigError, DestinationError, ProcessingError
from bulkdl.graph.output_area import StorageArea, check_key
from bulkdl.graph.processing import check_destination
from bulkdl.models import Reason
from bulkdl.processors.interfaces import DerivedFile
from bulkdl.state.storage import create_storage
from support.memory_destination import MemoryDestination
from support.processing import CopyProcessor, processed_directory


@pytest.fixture
async def directory(tmp_path):
    async with processed_directory(tmp_path / "out", outputs=1) as opened:
        yield opened


def open_area(directory, output_id=1, processor="copy"):
    return StorageArea(directory, processor, output_id)


def make_folder(path, **files):
    path.mkdir()
    for name, content in files.items():
        (path / name).write_text(content)
    return path


@pytest.mark.parametrize("key", ["a", "p/j/t/out.bin.sums", "ü/😀 x", ".hidden/x", "a.bulkdl/b", "x" * 255])
def test_check_key_accepts_paths_below_the_directory(key):
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "a/./b",
        "..",
        "a/../b",
        "a\\b",
        "a\0",
        "a\n",
        "\udce9",
        ".bulkdl/x",
        "é" * 128,
    ],
)
def test_check_key_rejects_other_names(key):
    with pytest.raises(ProcessingError, match="invalid key"):
        check_key(key)


async def test_write_publishes_the_content_with_its_checksum(directory):
    async with open_area(directory) as area:
        file = await area.write("a/b/index.txt", b"content-0")
        again = await area.write("a/b/index.txt", b"other")
    assert (file.key, file.size_bytes, file.digest.algorithm) == ("a/b/index.txt", 9, "crc32c")
    assert file.digest != again.digest
    assert directory.derived_files() == {"a/b/index.txt": b"other"}
    assert directory.scratch() == []


async def test_publish_over_an_output_or_a_folder_with_outputs_is_rejected(directory):
    async with open_area(directory) as area:
        for key in ("p/j0/t/out.bin", "p/j0", "p"):
            with pytest.raises(DestinationError, match="must not replace the file of an output"):
                await area.write(key, b"x")
            with pytest.raises(DestinationError, match="must not replace the file of an output"):
                await area.publish_folder(make_folder(area.new_path()), key, replace=True)
        with pytest.raises(DestinationError) as raised:
            await area.write("p/j0/t/out.bin/x", b"x")
    assert raised.value.reason is Reason.PATH_BLOCKED
    assert (directory.root / "p/j0/t/out.bin").read_bytes() == b"content-0"
    assert directory.scratch() == []


async def test_publish_over_a_document_of_a_recorded_container_is_rejected(directory):
    (directory.root / "p/j0/job.json").write_text("document")
    (directory.root / "p/j0/t2").mkdir()
    (directory.root / "p/j0/t2/task_quicklook.json").write_text("document")
    async with open_area(directory) as area:
        for key in ("p/j0/job.json", "p/j0/job_tasks.json", "p/j0/t2/task_quicklook.json"):
            with pytest.raises(DestinationError, match=f"{key}: a derived file must not replace a document"):
                await area.write(key, b"x")
        with pytest.raises(DestinationError, match=r"p/j0/t2/task_quicklook\.json: a derived file must not"):
            await area.publish_folder(make_folder(area.new_path()), "p/j0/t2", replace=True)
        await area.write("p/j1/job.json", b"the ledger has no such job")
        await area.write("p/j0/job.json.copy", b"other")
    assert directory.derived_files() == {
        "p/j0/job.json": b"document",
        "p/j0/job.json.copy": b"other",
        "p/j0/t2/task_quicklook.json": b"document",
        "p/j1/job.json": b"the ledger has no such job",
    }


async def test_stage_whose_processor_writes_a_document_fails_that_output(directory):
    class WriteDocument(CopyProcessor):
        async def process(self, file, record, area):
            return [await area.write("p/j0/job.json", b"{}")]

    (directory.root / "p/j0/job.json").write_text("document")
    summary = await directory.process_all(WriteDocument())
    [problem] = summary.problems
    assert problem.reason is Reason.PATH_BLOCKED
    assert "must not replace a document of the source" in problem.detail
    assert directory.derived_files() == {"p/j0/job.json": b"document"}


async def test_publish_folder_replaces_only_a_recorded_folder(directory):
    async with open_area(directory) as area:
        first = await area.publish_folder(make_folder(area.new_path(), a="12", b="345"), "p/j0/t/output")
        assert first == DerivedFile("p/j0/t/output", 5)
        with pytest.raises(DestinationError, match="exists and is not a derived folder"):
            await area.publish_folder(make_folder(area.new_path(), c="6"), "p/j0/t/output")
        await area.publish_folder(make_folder(area.new_path(), c="6"), "p/j0/t/output", replace=True)
    assert directory.derived_files() == {"p/j0/t/output/c": b"6"}
    assert directory.scratch() == []


async def test_publish_folder_in_a_later_run_replaces_the_recorded_folder(directory):
    class Folder(CopyProcessor):
        async def process(self, file, record, area):
            folder = make_folder(area.new_path(), **{f"v{self.version}": "x"})
            return [await area.publish_folder(folder, "p/j0/t/output")]

    await directory.process_all(Folder())
    await directory.process_all(Folder(version=2))
    assert directory.derived_files() == {"p/j0/t/output/v2": b"x"}
    summary = await directory.process_all(Folder("other"))  # the folder belongs to another processor
    assert [problem.reason for problem in summary.problems] == [Reason.PATH_BLOCKED]
    assert directory.derived_files() == {"p/j0/t/output/v2": b"x"}


async def test_publish_folder_without_an_exchange_of_names_replaces_the_folder(directory, monkeypatch):
    monkeypatch.setattr("bulkdl.syscalls._renameat2", None)
    async with open_area(directory) as area:
        for name in ("a", "b"):
            folder = make_folder(area.new_path(), **{name: "x"})
            await area.publish_folder(folder, "p/j0/t/output", replace=True)
    assert directory.derived_files() == {"p/j0/t/output/b": b"x"}
    assert directory.scratch() == []


async def test_publish_of_something_else_than_a_file_is_rejected(directory):
    async with open_area(directory) as area:
        link = area.new_path()
        link.symlink_to("/etc/passwd")
        for path in (link, make_folder(area.new_path())):
            with pytest.raises(DestinationError, match="is not a regular file"):
                await area.publish(path, "x")
    assert directory.derived_files() == {}


async def test_area_releases_its_disk_space_and_keeps_its_state_folder(directory):
    reservations = directory.storage.state.reservations
    async with open_area(directory) as area:
        area.reserve(1000)
        area.consume(400)
        assert reservations.reserved_bytes == 600
        (area.state_folder / "manifest").write_text("x")
        area.new_path().write_text("left")
        with pytest.raises(DestinationError, match="not enough disk space"):
            area.reserve(1 << 60)
        area.reserve(10)
    assert reservations.reserved_bytes == 0
    assert directory.scratch() == []
    assert (directory.root / ".bulkdl/processors/copy/manifest").read_text() == "x"


async def test_area_with_a_state_directory_on_another_file_system_publishes_files_and_folders(
    tmp_path, other_file_system
):
    async with processed_directory(tmp_path / "out", outputs=1, state=other_file_system) as directory:
        async with open_area(directory) as area:
            area.reserve(1000)
            await area.write("p/j0/t/a", b"a")
            await area.publish_folder(make_folder(area.new_path(), b="b"), "p/j0/t/folder")
            (area.state_folder / "manifest").touch()
        assert directory.derived_files() == {"p/j0/t/a": b"a", "p/j0/t/folder/b": b"b"}
        assert directory.scratch() == []
        assert area.state_folder == other_file_system / "processors" / "copy"


@pytest.fixture
async def store(tmp_path):
    """A directory whose outputs are in a destination that is not a local directory."""
    destination = MemoryDestination()
    async with processed_directory(tmp_path / "out", outputs=2, destination=destination) as opened:
        yield opened


async def test_stage_with_a_destination_that_is_not_local_processes_copies(store):
    paths = []

    async def see(file, _record, _area):
        paths.append(file.path)

    summary = await store.process_all(CopyProcessor(before=see))
    assert summary.derived["copy"].completed == 2
    assert store.destination.objects["p/j0/t/out.bin.copy"] == b"0-tnetnoc"
    assert not any(path.exists() for path in paths)
    assert store.scratch() == []
    assert store.storage.state.reservations.reserved_bytes == 0


async def test_stage_with_a_missing_object_fails_that_output(store):
    del store.destination.objects["p/j0/t/out.bin"]
    summary = await store.process_all(CopyProcessor())
    assert [problem.reason for problem in summary.problems] == [Reason.PATH_BLOCKED]
    assert summary.derived["copy"].completed == 1


async def test_area_of_a_destination_that_is_not_local_protects_outputs_and_rejects_folders(store):
    async with open_area(store) as area:
        with pytest.raises(DestinationError, match="must not replace the file of an output"):
            await area.write("p/j0/t/out.bin", b"x")
        with pytest.raises(ProcessingError, match="the destination has no folders"):
            await area.publish_folder(make_folder(area.new_path()), "folder")
    assert store.destination.objects["p/j0/t/out.bin"] == b"content-0"


def test_check_destination_requires_folders_if_a_processor_does(tmp_path):
    processor = CopyProcessor()
    check_destination([processor], MemoryDestination())
    processor.requires_folders = True
    check_destination([processor], create_storage(tmp_path).destination)
    message = (
        "--output memory://test: the processor copy requires folders, which this destination does not have; "
        "choose a local directory"
    )
    with pytest.raises(ConfigError, match=message):
        check_destination([processor], MemoryDestination())
