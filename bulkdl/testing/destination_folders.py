"""Tests of destinations with folders; part of their conformance suite. Other destinations pass them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

from bulkdl.destinations.interfaces import CompletedFile, FolderStore
from bulkdl.errors import DestinationError
from bulkdl.state.storage import Storage
from bulkdl.testing.destination_processes import DestinationProcesses, publish, read_all, sample_file
from bulkdl.testing.steps import cancel_at_each_step, check

_FOLDER = "scope/container/output"
_OLD_FILES = {"a": b"old a", "sub/b": b"old b"}
_NEW_FILES = {"a": b"new a", "sub/c": b"new c", "d/e/f": b""}
_INVALID_KEYS = ("", ".", "..", "/etc", "../up", "a/../../up", "a\0b")

_FolderTest = Callable[[Storage, FolderStore], Awaitable[None]]


class DestinationFolderTests(DestinationProcesses):
    """Tests of folders. ``DestinationSuite`` contains them."""

    def test_folders_locate_objects(self, tmp_path: Path) -> None:
        async def test(storage: Storage, folders: FolderStore) -> None:
            await publish(storage, "a/b", b"content")
            check(folders.locate("a/b").read_bytes() == b"content", "the path is not that of the object")
            found = [key for key in ("a", "a/b", "a/c", "b", "a/b/c") if await folders.has_entry(key)]
            check(found == ["a", "a/b"], f"found {found}")
            for key in _INVALID_KEYS:
                try:
                    folders.locate(key)
                except ValueError:
                    continue
                check(False, f"the key {key!r} is accepted")

        self._run(tmp_path, test)

    def test_content_in_the_scratch_folder_is_not_listed_and_is_moved(self, tmp_path: Path) -> None:
        async def test(storage: Storage, folders: FolderStore) -> None:
            path = _create(folders, {"x": b"content"}) / "x"
            check(await read_all(storage) == {}, "the scratch folder is listed")
            publication = await storage.destination.publish(
                CompletedFile(path), sample_file("a/b", b"content")
            )
            check(publication.is_moved, "the file was copied")
            check(await read_all(storage) == {"a/b": b"content"}, "the content differs")

        self._run(tmp_path, test)

    def test_publish_folder_replaces_the_folder_and_nothing_else(self, tmp_path: Path) -> None:
        async def test(storage: Storage, folders: FolderStore) -> None:
            await publish(storage, f"{_FOLDER}.json", b"document")
            for files in (_OLD_FILES, _NEW_FILES, _OLD_FILES):
                size_bytes = await folders.publish_folder(_create(folders, files), _FOLDER)
                check(size_bytes == sum(map(len, files.values())), "the size differs")
                await storage.destination.flush([_FOLDER])
                expected = {f"{_FOLDER}.json": b"document", **_below(files)}
                check(await read_all(storage) == expected, "the files differ")

        self._run(tmp_path, test)

    def test_publish_folder_does_not_replace_a_file(self, tmp_path: Path) -> None:
        async def test(storage: Storage, folders: FolderStore) -> None:
            await publish(storage, "a/b", b"content")
            for key in ("a/b", "a/b/c"):
                try:
                    await folders.publish_folder(_create(folders, _NEW_FILES), key)
                except DestinationError:
                    continue
                check(False, f"{key}: a folder replaced a file")
            check(await read_all(storage) == {"a/b": b"content"}, "the object has changed")

        self._run(tmp_path, test)

    def test_delete_folder_deletes_only_the_expected_content(self, tmp_path: Path) -> None:
        async def test(storage: Storage, folders: FolderStore) -> None:
            size_bytes = await folders.publish_folder(_create(folders, _OLD_FILES), _FOLDER)
            await publish(storage, "file", b"content")
            for key, size in ((_FOLDER, 0), (_FOLDER, size_bytes + 1), ("file", 7), ("file", 0)):
                check(not await folders.delete_folder(key, size), f"{key} was deleted")
            check(await read_all(storage) == {"file": b"content", **_below(_OLD_FILES)}, "a file is missing")
            check(await folders.delete_folder(_FOLDER, size_bytes), "the folder was not deleted")
            check(await folders.delete_folder(_FOLDER, size_bytes), "the folder still exists")
            check(not await folders.has_entry(_FOLDER), "the name still exists")
            await folders.publish_folder(_create(folders, _OLD_FILES), _FOLDER)
            await storage.destination.delete(list(_below(_OLD_FILES)))
            check(await folders.delete_folder(_FOLDER, 0), "a folder without files was not deleted")
            check(await read_all(storage) == {"file": b"content"}, "the files differ")

        self._run(tmp_path, test)

    def test_delete_folder_killed_before_any_step_leaves_all_files_or_none(self, tmp_path: Path) -> None:
        async def prepare(_storage: Storage, folders: FolderStore) -> None:
            await folders.publish_folder(_create(folders, _OLD_FILES), _FOLDER)

        async def work(_storage: Storage, folders: FolderStore) -> None:
            await folders.delete_folder(_FOLDER, sum(map(len, _OLD_FILES.values())))

        async def complete(storage: Storage, folders: FolderStore) -> None:
            check(await read_all(storage) in ({}, _below(_OLD_FILES)), "a part of the folder is left")
            await work(storage, folders)
            check(await read_all(storage) == {}, "the folder still exists")
            shutil.rmtree(folders.scratch_folder)

        self.kill_at_each_step(tmp_path, _if_folders(prepare), _if_folders(work), _if_folders(complete))

    def test_publish_folder_cancelled_at_any_await_leaves_a_complete_folder(self, tmp_path: Path) -> None:
        async def test(storage: Storage, folders: FolderStore) -> None:
            async def check_folder() -> None:
                complete: tuple[dict[str, bytes], ...] = ({}, _below(_OLD_FILES), _below(_NEW_FILES))
                check(await read_all(storage) in complete, "a part of a folder is visible")
                await folders.publish_folder(_create(folders, _OLD_FILES), _FOLDER)

            async def publish_new() -> None:
                await folders.publish_folder(_create(folders, _NEW_FILES), _FOLDER)

            await cancel_at_each_step(publish_new, check_folder)

        self._run(tmp_path, test)

    def test_publish_folder_killed_before_any_step_leaves_a_complete_folder(self, tmp_path: Path) -> None:
        async def prepare(_storage: Storage, folders: FolderStore, *, is_new: bool) -> None:
            if not is_new:
                await folders.publish_folder(_create(folders, _OLD_FILES, "old"), _FOLDER)
            _create(folders, _NEW_FILES, "new")

        async def work(storage: Storage, folders: FolderStore) -> None:
            await folders.publish_folder(folders.scratch_folder / "new", _FOLDER)
            await storage.destination.flush([_FOLDER])

        async def complete(storage: Storage, folders: FolderStore, *, is_new: bool) -> None:
            possible = ({} if is_new else _below(_OLD_FILES), _below(_NEW_FILES))
            found = await read_all(storage)
            check(found in possible, f"a part of a folder is visible: {sorted(found)}")
            await asyncio.to_thread(shutil.rmtree, folders.scratch_folder)

        for is_new in (False, True):
            self.kill_at_each_step(
                tmp_path / str(is_new),
                _if_folders(partial(prepare, is_new=is_new)),
                _if_folders(work),
                _if_folders(partial(complete, is_new=is_new)),
            )

    def _run(self, folder: Path, test: _FolderTest) -> None:
        """Run *test* if the destination has folders."""
        self.run(folder, _if_folders(test))
        self.check_next_process(folder)


def _if_folders(test: _FolderTest) -> Callable[[Storage], Awaitable[None]]:
    """Return a function that calls *test* if the destination has folders."""

    async def run(storage: Storage) -> None:
        if storage.destination.folders is not None:
            await test(storage, storage.destination.folders)

    return run


def _create(folders: FolderStore, files: Mapping[str, bytes], name: str = "content") -> Path:
    """Create a folder with *files* in the scratch folder, in place of an earlier one."""
    folder = folders.scratch_folder / name
    shutil.rmtree(folder, ignore_errors=True)
    for key, content in files.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def _below(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{_FOLDER}/{name}": content for name, content in files.items()}
