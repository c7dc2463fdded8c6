"""The part of the conformance suite for destinations with state objects; other destinations pass it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bulkdl.destinations.interfaces import STATE_FOLDER, CompletedFile
from bulkdl.destinations.state_objects import StateObject, StateObjects, WriteConflictError
from bulkdl.errors import DestinationError
from bulkdl.models import Reason
from bulkdl.state.storage import Storage
from bulkdl.testing.destination_processes import DestinationProcesses, publish, read_all, sample_file
from bulkdl.testing.steps import check

_FOLDER = f"{STATE_FOLDER}/conformance/"
_KEY = f"{_FOLDER}lease.json"
_WRITERS = 5


class DestinationStateTests(DestinationProcesses):
    """Tests of the conditional writes of one destination."""

    def test_state_object_is_written_if_it_is_the_expected_one(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            objects = storage.destination.state_objects
            if objects is None:
                return
            check(await objects.read(_KEY) is None, "the object exists")
            first = await objects.write(_KEY, b"first", None)
            check(await objects.read(_KEY) == first, "the data or the version differs")
            second = await objects.write(_KEY, b"second", first)
            for expected in (None, first):
                check(not await _is_written(objects, b"third", expected), "a conflict was not detected")
            check(await objects.read(_KEY) == second, "a refused write has changed the object")
            check(await read_all(storage) == {}, "list_objects lists an object of the state folder")
            check(await objects.list_keys(_FOLDER) == [_KEY], "list_keys is not complete")
            check(await objects.list_keys(f"{STATE_FOLDER}/conf/") == [], "list_keys ignores the slash")
            await storage.destination.delete([_KEY])
            check(not await _is_written(objects, b"third", second), "a deleted object was written")

        self.run(tmp_path, test)

    def test_state_object_of_concurrent_writers_is_written_once(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            objects = storage.destination.state_objects
            if objects is None:
                return
            expected: StateObject | None = None
            for turn in range(3):
                values = [f"{turn} {number}".encode() for number in range(_WRITERS)]
                written = await asyncio.gather(*(_is_written(objects, data, expected) for data in values))
                check(written.count(True) == 1, f"expected one successful write, actual {written}")
                expected = await objects.read(_KEY)
                check(expected is not None and expected.data == values[written.index(True)], "another write")

        self.run(tmp_path, test)

    def test_guard_refuses_changes(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            destination = storage.destination
            if destination.state_objects is None:
                return
            await publish(storage, "a", b"content")
            destination.state_objects.set_guard(_refuse)
            file = sample_file("b", b"new")
            for change in (
                lambda: destination.publish(CompletedFile(None, b"new"), file),
                lambda: destination.copy("a", "b"),
                lambda: destination.delete(["a"]),
                lambda: destination.write_documents({"b": b"new"}),
            ):
                try:
                    await change()
                except DestinationError as error:
                    check(error.reason is Reason.LEASE_LOST, "the reason differs")
                else:
                    check(False, "the guard did not refuse a change")
            check(await read_all(storage) == {"a": b"content"}, "a refused change was made")

        self.run(tmp_path, test)


async def _is_written(objects: StateObjects, data: bytes, expected: StateObject | None) -> bool:
    try:
        await objects.write(_KEY, data, expected)
    except WriteConflictError:
        return False
    return True


def _refuse() -> None:
    raise DestinationError(Reason.LEASE_LOST, "refused")
