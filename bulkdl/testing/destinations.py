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
import inspect
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from bulkdl.destinations.interfaces import CompletedFile, Destination, DestinationOptions
from bulkdl.models import CommittedFile, ContainerRef, Durability, Output, RemoteObject, Validator
from bulkdl.state.directory import StateDirectory
from bulkdl.state.storage import Storage
from bulkdl.testing.steps import cancel_at_each_step, check
from bulkdl.transfer.checksums import Digester

_OUTPUT = Output(ContainerRef("sample", "scope", "container"), "parent", "archive")
_KEY = "scope/container/parent/output.tar.gz"
# Both have the same size, so that the size does not distinguish them, and more than one block.
_OLD, _NEW = b"old!" * 600_000, b"NEW?" * 600_000
_MAX_STEPS = 60
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


class DestinationSuite:
    """Tests of one destination. A subclass defines ``create`` and ``damage``."""

    durability = Durability.FULL

    def create(self, folder: Path, options: DestinationOptions) -> Destination:
        """
        Return a new instance for the objects that belong to *folder*, an empty local folder.

        Another call with the same folder returns what a new process would create.
        """
        raise NotImplementedError

    def damage(self, folder: Path, key: str, content: bytes) -> None:
        """Replace the stored content of the object *key* without using the destination."""
        raise NotImplementedError

    def check_clean(self, folder: Path) -> None:
        """Raise AssertionError if something other than objects is stored for *folder*, such as old parts."""

    def state_folder(self, folder: Path) -> Path:
        """Return the folder for the state directory. It can be on another file system."""
        return folder / "state"

    def steps(self) -> Sequence[tuple[Any, str]]:
        """Return owner and name of the functions that change the destination or the state directory."""
        return [(os, name) for name in ("fsync", "replace", "link", "unlink", "mkdir", "open")]

    @contextmanager
    def storage(self, folder: Path) -> Iterator[Storage]:
        """Create the storage of one process for the objects of *folder*."""
        state = StateDirectory(self.state_folder(folder), self.durability, setting="--state")
        root = folder / "objects"
        root.mkdir(parents=True, exist_ok=True)
        try:
            yield Storage(root, self.create(root, state.destination_options), state)
        finally:
            state.close()

    def run(self, folder: Path, test: Callable[[Storage], Awaitable[None]]) -> None:
        """Run *test* as one process: prepare the state directory, open the destination, and close it."""

        async def run() -> None:
            with self.storage(folder) as storage:
                storage.state.prepare()
                storage.state.remove_stale_temp_files()
                await storage.destination.open()
                await test(storage)
                await storage.destination.close()

        asyncio.run(run())

    def test_open_can_be_repeated_after_close(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            await _publish(storage, "a", b"content")
            await storage.destination.close()
            await storage.destination.open()
            check(await _read_all(storage) == {"a": b"content"}, "an object was lost")
            check(storage.destination.location, "the location is empty")

        self.run(tmp_path, test)
        self.run(tmp_path, test)

    def test_publish_replaces_the_content(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            for content in (b"", _OLD, _NEW, b"short"):
                await _publish(storage, _KEY, content)
                await storage.destination.flush([_KEY])
                check(await _read_all(storage) == {_KEY: content}, "the content differs")

        self.run(tmp_path, test)

    def test_publish_of_a_partial_file_moves_or_keeps_it(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            path = storage.state.new_temp_path()
            for content in (_OLD, _NEW):
                path.write_bytes(content)
                publication = await storage.destination.publish(
                    CompletedFile(path, owner_id="owner"), _file(_KEY, content)
                )
                check(publication.is_moved != path.exists(), "is_moved is not true")
                check(publication.info.size_bytes == len(content), "the size differs")
                check(await _read_all(storage) == {_KEY: content}, "the content differs")
                path.unlink(missing_ok=True)

        self.run(tmp_path, test)

    def test_publish_of_a_missing_file_fails_and_changes_nothing(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            await _publish(storage, _KEY, _OLD)
            missing = CompletedFile(storage.state.new_temp_path())
            try:
                await storage.destination.publish(missing, _file(_KEY, _NEW))
            except Exception:  # noqa: BLE001, S110 - any error
                pass
            else:
                check(False, "the content does not exist, but publish succeeded")
            check(await _read_all(storage) == {_KEY: _OLD}, "the object has changed")

        self.run(tmp_path, test)

    def test_stat_omits_missing_keys_and_has_a_new_version_for_new_content(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            destination = storage.destination
            await _publish(storage, "a/b", b"1234")
            first = await destination.stat(["a/b", "a", "a/b/c", "missing"])
            check({key: info.size_bytes for key, info in first.items()} == {"a/b": 4}, f"found {first}")
            await _publish(storage, "a/b", b"4321")
            again = await destination.stat(["a/b"])
            if first["a/b"].version is not None:
                check(again["a/b"].version != first["a/b"].version, "the version did not change")
            for info in (first["a/b"], again["a/b"]):
                expected = _file("a/b", b"1234" if info is first["a/b"] else b"4321").digest
                check(info.digest in (None, expected), "the digest is not that of the content")

        self.run(tmp_path, test)

    def test_invalid_keys_are_rejected(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            destination = storage.destination
            await _publish(storage, "a", b"content")
            for key in _INVALID_KEYS:
                for call in (
                    partial(_publish, storage, key, b"x"),
                    partial(destination.copy, "a", key),
                    partial(destination.write_documents, {key: b"x"}),
                ):
                    try:
                        await call()
                    except ValueError:
                        continue
                    check(False, f"the key {key!r} is accepted")
            check(await _read_all(storage) == {"a": b"content"}, "an invalid key changed an object")

        self.run(tmp_path, test)

    def test_unusual_names_are_kept(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            expected = {name: name.encode() for name in _NAMES}
            for name, content in expected.items():
                await _publish(storage, name, content)
            await storage.destination.flush(list(expected))
            check(await _read_all(storage) == expected, "names or contents differ")
            check((await storage.destination.stat(_NAMES)).keys() == expected.keys(), "stat misses a name")

        self.run(tmp_path, test)

    def test_copy_has_the_content_and_is_independent(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            destination = storage.destination
            await _publish(storage, "a", _OLD)
            await _publish(storage, "b/c", b"older")
            for key in ("b/c", "b/c", "a"):
                info = await destination.copy("a", key)
                check((info.key, info.size_bytes) == (key, len(_OLD)), "the information differs")
            await destination.flush(["a", "b/c"])
            check(await _read_all(storage) == {"a": _OLD, "b/c": _OLD}, "the copy differs")
            await _publish(storage, "a", _NEW)
            check(await _read_all(storage) == {"a": _NEW, "b/c": _OLD}, "the copy changed with its source")

        self.run(tmp_path, test)

    def test_write_documents_publishes_all_of_them(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            documents = {f"p/{number}/job.json": b"{%d}" % number for number in range(20)}
            await storage.destination.write_documents({"p/0/job.json": b"older"})
            await storage.destination.write_documents(documents)
            check(await _read_all(storage) == documents, "the documents differ")

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
            await _publish(storage, _KEY, _NEW)
            with storage.destination.open_reader(_KEY) as stream:
                check(stream.read(8) == _NEW[:8], "the first bytes differ")
                stream.seek(len(_NEW) - 6)
                check(stream.read() == _NEW[-6:], "the last bytes differ")
                stream.seek(-6, os.SEEK_END)
                check(stream.read(6) == _NEW[-6:], "the bytes before the end differ")
            for key in ("missing", "scope", f"{_KEY}/below"):
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
                    group.create_task(_publish(storage, key, content))
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(storage.destination.flush(list(expected)))
            check(await _read_all(storage) == expected, "the objects differ")

        self.run(tmp_path, test)

    def test_publish_of_one_key_concurrently_never_shows_a_mixture(self, tmp_path: Path) -> None:
        contents = [bytes([number]) * 100_000 for number in range(1, 9)]

        async def read(storage: Storage) -> None:
            for _ in range(20):
                with suppress(FileNotFoundError), storage.destination.open_reader(_KEY) as stream:
                    check(await asyncio.to_thread(stream.read) in contents, "a reader saw a mixture")

        async def test(storage: Storage) -> None:
            async with asyncio.TaskGroup() as group:
                for content in contents:
                    group.create_task(_publish(storage, _KEY, content))
                group.create_task(read(storage))
            check((await _read_all(storage))[_KEY] in contents, "the object is a mixture")

        self.run(tmp_path, test)

    def test_published_file_is_adopted_until_it_is_recorded(self, tmp_path: Path) -> None:
        async def publish(storage: Storage) -> None:
            await _fill(storage, _NEW)
            await storage.partial_file(_OUTPUT).load()
            partial_file = storage.partial_file(_OUTPUT)
            await partial_file.load()
            await partial_file.commit(_file(_KEY, _NEW))

        async def adopt(storage: Storage) -> None:
            check(await storage.partial_file(_OUTPUT).load() == _file(_KEY, _NEW), "it is not adopted")
            check(await _read_all(storage) == {_KEY: _NEW}, "the object differs")

        async def record(storage: Storage) -> None:
            await adopt(storage)
            await storage.destination.flush([_KEY])
            await storage.partial_file(_OUTPUT).forget()
            check(await storage.partial_file(_OUTPUT).load() is None, "it is adopted twice")
            _check_no_state(storage)

        for test in (publish, adopt, record):
            self.run(tmp_path, test)

    def test_damaged_object_is_not_adopted_and_can_be_published_again(self, tmp_path: Path) -> None:
        async def publish(storage: Storage) -> None:
            await _fill(storage, _NEW)
            partial_file = storage.partial_file(_OUTPUT)
            await partial_file.load()
            await partial_file.commit(_file(_KEY, _NEW))

        async def test(storage: Storage) -> None:
            info = (await storage.destination.stat([_KEY]))[_KEY]
            check(info.size_bytes == len(_NEW) - 1, "stat does not show the damage")
            check(await storage.partial_file(_OUTPUT).load() is None, "a damaged object is adopted")
            await publish(storage)
            check(await _read_all(storage) == {_KEY: _NEW}, "the object is still damaged")

        self.run(tmp_path, publish)
        self.damage(tmp_path / "objects", _KEY, _NEW[:-1])
        self.run(tmp_path, test)

    def test_calls_cancelled_at_any_await_leave_complete_objects(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            destination = storage.destination
            await _publish(storage, "source", _NEW)

            async def check_object() -> None:
                found = await _read_all(storage)
                check(found.pop("source") == _NEW, "another object has changed")
                check(set(found) <= {_KEY}, f"unexpected objects: {sorted(found)}")
                check(found.get(_KEY, _OLD) in (_OLD, _NEW), "a cancelled call published a part")
                await _publish(storage, _KEY, _OLD)

            path = storage.state.new_temp_path()

            async def publish_file() -> None:
                path.write_bytes(_NEW)
                await destination.publish(CompletedFile(path), _file(_KEY, _NEW))

            for call in (
                partial(_publish, storage, _KEY, _NEW),
                publish_file,
                partial(destination.copy, "source", _KEY),
                partial(destination.write_documents, {_KEY: _NEW}),
            ):
                await cancel_at_each_step(call, check_object)
            path.unlink(missing_ok=True)

        self.run(tmp_path, test)
        self._check_clean(tmp_path)

    def test_commit_killed_before_any_step_is_completed_by_the_next_process(self, tmp_path: Path) -> None:
        async def prepare(storage: Storage) -> None:
            await _publish(storage, _KEY, _OLD)
            await _fill(storage, _NEW)

        async def commit(storage: Storage) -> None:
            partial_file = storage.partial_file(_OUTPUT)
            await partial_file.load()
            await partial_file.commit(_file(_KEY, _NEW))

        async def complete(storage: Storage) -> None:
            found = await _read_all(storage)
            check(found in ({_KEY: _OLD}, {_KEY: _NEW}), "a killed commit left a part, or another object")
            state = await storage.partial_file(_OUTPUT).load()
            check(state is not None, "the bytes were lost")
            if not isinstance(state, CommittedFile):
                await commit(storage)
            await storage.destination.flush([_KEY])
            await storage.partial_file(_OUTPUT).forget()
            check(await _read_all(storage) == {_KEY: _NEW}, "the object differs")
            _check_no_state(storage)

        self._kill_at_each_step(tmp_path, prepare, commit, complete)

    def test_other_calls_killed_before_any_step_leave_complete_objects(self, tmp_path: Path) -> None:
        async def prepare(storage: Storage) -> None:
            await _publish(storage, "source", _NEW)
            await _publish(storage, _KEY, _OLD)

        async def change(storage: Storage, call: str) -> None:
            if call == "publish":
                await _publish(storage, _KEY, _NEW)
            elif call == "copy":
                await storage.destination.copy("source", _KEY)
            else:
                await storage.destination.write_documents({_KEY: _NEW})
            await storage.destination.flush([_KEY])

        async def complete(storage: Storage, call: str) -> None:
            found = await _read_all(storage)
            check(found.pop("source") == _NEW, "another object has changed")
            check(found in ({_KEY: _OLD}, {_KEY: _NEW}), "a killed call left a part, or another object")
            await change(storage, call)
            check((await _read_all(storage))[_KEY] == _NEW, "the object differs")
            _check_no_state(storage)

        for call in ("publish", "copy", "documents"):
            self._kill_at_each_step(
                tmp_path / call, prepare, partial(change, call=call), partial(complete, call=call)
            )

    def _check_clean(self, folder: Path) -> None:
        """Check that the next process leaves nothing of the earlier processes but their objects."""

        async def test(storage: Storage) -> None:
            _check_no_state(storage)

        self.run(folder, test)
        self.check_clean(folder / "objects")

    def _kill_at_each_step(
        self,
        folder: Path,
        prepare: Callable[[Storage], Awaitable[None]],
        work: Callable[[Storage], Awaitable[None]],
        complete: Callable[[Storage], Awaitable[None]],
    ) -> None:
        """End *work* before each of its steps in turn. Then run *complete* as the next process."""
        for number in range(1, _MAX_STEPS):
            attempt = folder / str(number)
            self.run(attempt, prepare)
            with _killed_at(number, self.steps()) as process, suppress(_Killed):
                self.run(attempt, work)
            self.run(attempt, complete)
            self._check_clean(attempt)
            if process.steps < number:
                check(number > 1, "the suite has seen no step: override steps()")
                return


class _Killed(BaseException):
    """The simulated end of the process."""


class _Process:
    """Counts the steps of a simulated process, which can do nothing more after its end."""

    def __init__(self, killed_at: int) -> None:
        self.steps = 0
        self._killed_at = killed_at

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            if self.steps >= self._killed_at:
                raise _Killed
            return function(*args, **kwargs)

        return step


@contextmanager
def _killed_at(number: int, steps: Sequence[tuple[Any, str]]) -> Iterator[_Process]:
    """End the process inside the block before its *number*-th step."""
    process = _Process(number)
    originals = [(owner, name, inspect.getattr_static(owner, name)) for owner, name in steps]
    for owner, name, function in originals:
        wrapped = process.wrap(getattr(owner, name))
        setattr(owner, name, staticmethod(wrapped) if isinstance(function, staticmethod) else wrapped)
    try:
        yield process
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)


def _file(key: str, content: bytes) -> CommittedFile:
    digester = Digester()
    digester.update(content)
    return CommittedFile(key, len(content), digester.crc32c, Validator('"1"'), "https://storage/object")


async def _publish(storage: Storage, key: str, content: bytes) -> None:
    await storage.destination.publish(CompletedFile(None, content, "owner"), _file(key, content))


async def _fill(storage: Storage, content: bytes) -> None:
    """Write a complete partial file."""
    partial_file = storage.partial_file(_OUTPUT)
    await partial_file.create(RemoteObject("https://storage/object", Validator('"1"'), len(content)))
    await partial_file.write(content)
    await partial_file.flush_and_close()
    partial_file.close()


async def _read_all(storage: Storage) -> dict[str, bytes]:
    """Return the content of all objects."""
    contents = {}
    async for page in storage.destination.list_objects(lambda _key: True):
        for info in page:
            with storage.destination.open_reader(info.key) as stream:
                contents[info.key] = await asyncio.to_thread(stream.read)
            check(len(contents[info.key]) == info.size_bytes, f"{info.key}: the listed size differs")
    return contents


def _check_no_state(storage: Storage) -> None:
    names = sorted(path.name for path in storage.state.partial_folder.iterdir())
    check(names == [], f"files are left in the state directory: {names}")
