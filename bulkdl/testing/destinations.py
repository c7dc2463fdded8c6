"""
The conformance suite that every destination must pass.

An author of a destination writes one test class and runs it with pytest:

    class TestMemory(DestinationSuite):
        def create(self, folder, options):
            return MemoryDestination(f"memory://{folder}", options)

        def damage(self, folder, key, content):
            STORES[f"memory://{folder}"][key] = content

The suite publishes real files from a real state directory. It cancels calls at every point at which they
wait. It also ends them before every step that changes the destination, as ``kill -9`` does, and then checks
what the next process finds.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from bulkdl.destinations.interfaces import CompletedFile
from bulkdl.models import CommittedFile
from bulkdl.state.storage import Storage
from bulkdl.testing.destination_crashes import DestinationCrashTests
from bulkdl.testing.destination_folders import DestinationFolderTests
from bulkdl.testing.destination_processes import (
    KEY,
    NEW,
    OLD,
    OUTPUT,
    check_no_state,
    fill_partial_file,
    publish,
    read_all,
    sample_file,
)
from bulkdl.testing.destination_state import DestinationStateTests
from bulkdl.testing.steps import check

_INVALID_KEYS = ("", ".", "..", "/etc/passwd", "../up", "a/../../up", "a/..", "a\0b")
_NAMES = (
    "plain.tar.gz",
    "with space.json",
    "ünï-日本.json",
    "percent%2Fescaped#a?b=c&d.json",
    "-rf *.json",
    "$(touch x).json",
    "a/very/deep/path/x.json",
    "x" * 180,
)


class DestinationSuite(DestinationCrashTests, DestinationFolderTests, DestinationStateTests):
    """Tests of one destination. A subclass defines ``create`` and ``damage``."""

    def test_open_can_be_repeated_after_close(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            await publish(storage, "a", b"content")
            await storage.destination.close()
            await storage.destination.open()
            check(await read_all(storage) == {"a": b"content"}, "an object was lost")
            check(storage.destination.location, "the location is empty")

        self.run(tmp_path, test)
        self.run(tmp_path, test)

    def test_publish_replaces_the_content(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            for content in (b"", OLD, NEW, b"short"):
                await publish(storage, KEY, content)
                await storage.destination.flush([KEY])
                check(await read_all(storage) == {KEY: content}, "the content differs")

        self.run(tmp_path, test)

    def test_publish_of_a_partial_file_moves_or_keeps_it(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            path = storage.state.new_temp_path()
            for content in (OLD, NEW):
                path.write_bytes(content)
                publication = await storage.destination.publish(
                    CompletedFile(path, owner_id="owner"), sample_file(KEY, content)
                )
                check(publication.is_moved != path.exists(), "is_moved is not true")
                check(publication.info.size_bytes == len(content), "the size differs")
                check(await read_all(storage) == {KEY: content}, "the content differs")
                path.unlink(missing_ok=True)

        self.run(tmp_path, test)

    def test_publish_of_a_missing_file_fails_and_changes_nothing(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            await publish(storage, KEY, OLD)
            missing = CompletedFile(storage.state.new_temp_path())
            try:
                await storage.destination.publish(missing, sample_file(KEY, NEW))
            except Exception:  # noqa: BLE001, S110 - any error
                pass
            else:
                check(False, "the content does not exist, but publish succeeded")
            check(await read_all(storage) == {KEY: OLD}, "the object has changed")

        self.run(tmp_path, test)

    def test_stat_omits_missing_keys_and_has_a_new_version_for_new_content(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            destination = storage.destination
            await publish(storage, "a/b", b"1234")
            first = await destination.stat(["a/b", "a", "a/b/c", "missing"])
            check({key: info.size_bytes for key, info in first.items()} == {"a/b": 4}, f"found {first}")
            await publish(storage, "a/b", b"4321")
            again = await destination.stat(["a/b"])
            if first["a/b"].version is not None:
                check(again["a/b"].version != first["a/b"].version, "the version did not change")
            for info in (first["a/b"], again["a/b"]):
                expected = sample_file("a/b", b"1234" if info is first["a/b"] else b"4321").digest
                check(info.digest in (None, expected), "the digest is not that of the content")

        self.run(tmp_path, test)

    def test_invalid_keys_are_rejected(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            destination = storage.destination
            await publish(storage, "a", b"content")
            for key in _INVALID_KEYS:
                for call in (
                    partial(publish, storage, key, b"x"),
                    partial(destination.copy, "a", key),
                    partial(destination.write_documents, {key: b"x"}),
                    partial(destination.delete, [key]),
                ):
                    try:
                        await call()
                    except ValueError:
                        continue
                    check(False, f"the key {key!r} is accepted")
            check(await read_all(storage) == {"a": b"content"}, "an invalid key changed an object")

        self.run(tmp_path, test)

    def test_unusual_names_are_kept(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            expected = {name: name.encode() for name in _NAMES}
            for name, content in expected.items():
                await publish(storage, name, content)
            await storage.destination.flush(list(expected))
            check(await read_all(storage) == expected, "names or contents differ")
            check((await storage.destination.stat(_NAMES)).keys() == expected.keys(), "stat misses a name")

        self.run(tmp_path, test)

    def test_copy_has_the_content_and_is_independent(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            destination = storage.destination
            await publish(storage, "a", OLD)
            await publish(storage, "b/c", b"older")
            for key in ("b/c", "b/c", "a"):
                info = await destination.copy("a", key)
                check((info.key, info.size_bytes) == (key, len(OLD)), "the information differs")
            await destination.flush(["a", "b/c"])
            check(await read_all(storage) == {"a": OLD, "b/c": OLD}, "the copy differs")
            await publish(storage, "a", NEW)
            check(await read_all(storage) == {"a": NEW, "b/c": OLD}, "the copy changed with its source")

        self.run(tmp_path, test)

    def test_write_documents_publishes_all_of_them(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            documents = {f"p/{number}/job.json": b"{%d}" % number for number in range(20)}
            await storage.destination.write_documents({"p/0/job.json": b"older"})
            await storage.destination.write_documents(documents)
            check(await read_all(storage) == documents, "the documents differ")

        self.run(tmp_path, test)

    def test_delete_removes_only_these_objects(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            destination = storage.destination
            for key in ("a/b", "a/bc", "a/d/e", "f"):
                await publish(storage, key, key.encode())
            copied = await destination.copy("f", "g")
            await destination.delete([])
            await destination.delete(["a/b", "f", "a/d", "a", "missing", "a/bc/below"])
            check(await read_all(storage) == {"a/bc": b"a/bc", "a/d/e": b"a/d/e", "g": b"f"}, "they differ")
            check((await destination.stat(["a/b", "g"])).keys() == {copied.key}, "stat differs")
            await publish(storage, "a/b", b"again")
            check((await read_all(storage))["a/b"] == b"again", "the key cannot be used again")

        self.run(tmp_path, test)

    def test_list_objects_yields_each_object_once(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            expected = {f"{number % 7}/{number}.json": b"x" * number for number in range(1, 1203)}
            await storage.destination.write_documents(expected)
            pages = [page async for page in storage.destination.list_objects(lambda _key: True)]
            found = [(info.key, info.size_bytes) for page in pages for info in page]
            check(sorted(found) == sorted((key, len(data)) for key, data in expected.items()), "they differ")
            check(max(map(len, pages)) <= 1000, "a page is not of bounded size")

        self.run(tmp_path, test)

    def test_open_reader_can_seek(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            await publish(storage, KEY, NEW)
            with storage.destination.open_reader(KEY) as stream:
                check(stream.read(8) == NEW[:8], "the first bytes differ")
                stream.seek(len(NEW) - 6)
                check(stream.read() == NEW[-6:], "the last bytes differ")
                stream.seek(-6, os.SEEK_END)
                check(stream.read(6) == NEW[-6:], "the bytes before the end differ")
            for key in ("missing", "scope", f"{KEY}/below"):
                try:
                    with storage.destination.open_reader(key):
                        check(False, f"{key} can be opened")
                except OSError:
                    pass

        self.run(tmp_path, test)

    def test_publish_of_different_keys_concurrently(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            expected = {f"{number}/x": bytes([number]) * (number * 3_000) for number in range(1, 40)}
            async with asyncio.TaskGroup() as group:
                for key, content in expected.items():
                    group.create_task(publish(storage, key, content))
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(storage.destination.flush(list(expected)))
            check(await read_all(storage) == expected, "the objects differ")

        self.run(tmp_path, test)

    def test_publish_of_one_key_concurrently_never_shows_a_mixture(self, tmp_path: Path) -> None:
        contents = [bytes([number]) * 100_000 for number in range(1, 9)]

        async def read(storage: Storage) -> None:
            for _ in range(20):
                with suppress(FileNotFoundError), storage.destination.open_reader(KEY) as stream:
                    check(await asyncio.to_thread(stream.read) in contents, "a reader saw a mixture")

        async def test(storage: Storage) -> None:
            async with asyncio.TaskGroup() as group:
                for content in contents:
                    group.create_task(publish(storage, KEY, content))
                group.create_task(read(storage))
            check((await read_all(storage))[KEY] in contents, "the object is a mixture")

        self.run(tmp_path, test)

    def test_published_file_is_adopted_until_it_is_recorded(self, tmp_path: Path) -> None:
        async def publish(storage: Storage) -> None:
            await fill_partial_file(storage, NEW)
            await storage.partial_file(OUTPUT).load()
            partial_file = storage.partial_file(OUTPUT)
            await partial_file.load()
            committed = await partial_file.commit(sample_file(KEY, NEW))
            check(committed == await expected(storage), "the version differs from that of stat")

        async def expected(storage: Storage) -> CommittedFile:
            info = (await storage.destination.stat([KEY]))[KEY]
            return replace(sample_file(KEY, NEW), version=info.version)

        async def adopt(storage: Storage) -> None:
            check(await storage.partial_file(OUTPUT).load() == await expected(storage), "it is not adopted")
            check(await read_all(storage) == {KEY: NEW}, "the object differs")

        async def record(storage: Storage) -> None:
            await adopt(storage)
            await storage.destination.flush([KEY])
            await storage.partial_file(OUTPUT).forget()
            check(await storage.partial_file(OUTPUT).load() is None, "it is adopted twice")
            check_no_state(storage)

        for test in (publish, adopt, record):
            self.run(tmp_path, test)

    def test_damaged_object_is_not_adopted_and_can_be_published_again(self, tmp_path: Path) -> None:
        async def publish(storage: Storage) -> None:
            await fill_partial_file(storage, NEW)
            partial_file = storage.partial_file(OUTPUT)
            await partial_file.load()
            await partial_file.commit(sample_file(KEY, NEW))

        async def test(storage: Storage) -> None:
            info = (await storage.destination.stat([KEY]))[KEY]
            check(info.size_bytes == len(NEW) - 1, "stat does not show the damage")
            check(await storage.partial_file(OUTPUT).load() is None, "a damaged object is adopted")
            await publish(storage)
            check(await read_all(storage) == {KEY: NEW}, "the object is still damaged")

        self.run(tmp_path, publish)
        self.damage(tmp_path / "objects", KEY, NEW[:-1])
        self.run(tmp_path, test)
