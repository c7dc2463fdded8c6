"""Files that only an earlier result of a processor contains are deleted."""

import os

import pytest

from bulkdl.errors import DestinationError, ProcessingError
from bulkdl.ledger import derived_queries
from bulkdl.models import Reason
from bulkdl.processors.interfaces import ProcessingSkipped
from bulkdl.telemetry.events import NullReporter, OutputProcessed
from bulkdl.testing.steps import Killed
from support.memory_destination import MemoryDestination
from support.processing import CopyProcessor, processed_directory


@pytest.fixture
async def directory(tmp_path):
    async with processed_directory(tmp_path / "out", outputs=1) as opened:
        yield opened


@pytest.fixture
async def store(tmp_path):
    async with processed_directory(tmp_path / "out", outputs=1, destination=MemoryDestination()) as opened:
        yield opened


class Writer(CopyProcessor):
    """Writes *files* for each output."""

    def __init__(self, version, files, folder=None, name="writer"):
        super().__init__(name, version)
        self.files, self.folder = files, folder

    async def process(self, file, record, area):
        written = [await area.write(key, content) for key, content in self.files.items()]
        if self.folder is not None:
            path = area.new_path()
            path.mkdir()
            for name in ("a", "b"):
                (path / name).write_text("1234")
            written.append(await area.publish_folder(path, self.folder, replace=True))
        return written


def list_obsolete(directory):
    return directory.ledger.read(derived_queries.list_obsolete_files)


async def test_new_version_deletes_the_files_that_it_does_not_write(directory):
    await directory.process_all(Writer(1, {"d/a": b"1", "d/b": b"1"}, "d/folder"))
    assert len(directory.derived_files()) == 4
    await directory.process_all(Writer(2, {"d/b": b"2", "d/c": b"2"}))
    assert directory.derived_files() == {"d/b": b"2", "d/c": b"2"}
    assert not (directory.root / "d/folder").exists()
    assert await list_obsolete(directory) == []


async def test_new_content_of_an_output_deletes_the_files_of_the_old_content(directory):
    class ByContent(CopyProcessor):
        async def process(self, file, record, area):
            return [await area.write(f"d/{file.path.read_text()}", b"x")]

    await directory.process_all(ByContent())
    await directory.complete(0, b"other")
    await directory.process_all(ByContent())
    assert list(directory.derived_files()) == ["d/other"]


async def test_new_version_that_derives_nothing_deletes_all_earlier_files(directory):
    async def skip(*_):
        raise ProcessingSkipped("nothing to derive")

    await directory.process_all(CopyProcessor())
    await directory.process_all(CopyProcessor(version=2, before=skip))
    assert directory.derived_files() == {}


async def test_new_version_that_fails_keeps_the_earlier_files(directory):
    async def fail(*_):
        raise ProcessingError(Reason.CORRUPT_CONTENT, "damaged")

    await directory.process_all(CopyProcessor())
    await directory.process_all(CopyProcessor(version=2, before=fail))
    assert list(directory.derived_files()) == ["p/j0/t/out.bin.copy"]
    assert await list_obsolete(directory) == []


async def test_folder_with_other_files_is_kept(directory, logs):
    await directory.process_all(Writer(1, {}, "d/folder"))
    (directory.root / "d/folder/notes").write_text("of the user")
    await directory.process_all(Writer(2, {"d/c": b"2"}))
    assert sorted(directory.derived_files()) == ["d/c", "d/folder/a", "d/folder/b", "d/folder/notes"]
    [line] = [line for line in logs() if line["event"] == "derived.not_removed"]
    assert (line["key"], line["detail"]) == ("d/folder", "the folder contains other files")
    assert await list_obsolete(directory) == []


async def test_obsolete_key_that_is_in_use_again_is_not_deleted(directory):
    await directory.process_all(Writer(1, {"d/a": b"1", "d/b": b"1", "p/j9/job.json": b"1"}))
    both = (Writer(2, {"d/c": b"2"}), Writer(1, {"d/a": b"other"}, name="other"))
    await directory.process_all(*both)
    assert directory.derived_files() == {"d/a": b"other", "d/c": b"2", "p/j9/job.json": b"1"}
    assert await list_obsolete(directory) == []


async def test_file_that_cannot_be_deleted_is_deleted_by_the_next_run(directory, monkeypatch, logs):
    unlink = os.unlink

    def fail(path, **options):
        if str(path).endswith("d/a"):
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, **options)

    await directory.process_all(Writer(1, {"d/a": b"1", "d/b": b"1"}))
    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", fail)
        summary = await directory.process_all(Writer(2, {"d/c": b"2"}))
    assert not summary.problems
    assert sorted(directory.derived_files()) == ["d/a", "d/c"]
    assert [line["key"] for line in logs() if line["event"] == "derived.not_removed"] == ["d/a"]
    await directory.process_all(Writer(2, {}))
    assert directory.derived_files() == {"d/c": b"2"}


async def test_run_that_is_stopped_after_the_record_leaves_the_deletion_to_the_next_run(directory):
    class StopReporter:
        def report(self, event):
            if isinstance(event, OutputProcessed):
                directory.shutdown.request()

    await directory.process_all(Writer(1, {"d/a": b"1"}))
    directory.reporter = StopReporter()
    directory.new_run()
    await directory.process_all(Writer(2, {"d/c": b"2"}))
    assert sorted(directory.derived_files()) == ["d/a", "d/c"]
    directory.reporter = NullReporter()
    directory.new_run()
    await directory.process_all(Writer(2, {}))
    assert directory.derived_files() == {"d/c": b"2"}


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_run_that_is_killed_at_the_deletion_leaves_it_to_the_next_run(
    directory, monkeypatch, is_deleted
):
    unlink = os.unlink

    def kill(path, **options):
        if str(path).endswith(("d/a", "d/b")):
            if is_deleted:
                unlink(path, **options)
            raise Killed
        unlink(path, **options)

    await directory.process_all(Writer(1, {"d/a": b"1", "d/b": b"1"}))
    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", kill)
        with pytest.raises(BaseExceptionGroup):
            await directory.process_all(Writer(2, {"d/c": b"2"}))
    assert len(directory.derived_files()) == 3 - is_deleted
    await directory.process_all(Writer(2, {}))
    assert directory.derived_files() == {"d/c": b"2"}
    assert await list_obsolete(directory) == []


async def test_destination_without_folders_deletes_obsolete_objects(store):
    await store.process_all(Writer(1, {"d/a": b"1", "d/b": b"1"}))
    await store.process_all(Writer(2, {"d/b": b"2"}))
    assert sorted(store.destination.objects) == ["d/b", "p/j0/t/out.bin"]


async def test_destination_that_fails_to_delete_keeps_the_list(store, monkeypatch):
    async def fail(_keys):
        raise DestinationError(Reason.DISK_ERROR, "not available")

    await store.process_all(Writer(1, {"d/a": b"1"}))
    with monkeypatch.context() as patched:
        patched.setattr(store.destination, "delete", fail)
        await store.process_all(Writer(2, {"d/b": b"2"}))
    assert [file.key for file in await list_obsolete(store)] == ["d/a"]
    await store.process_all(Writer(2, {}))
    assert sorted(store.destination.objects) == ["d/b", "p/j0/t/out.bin"]
