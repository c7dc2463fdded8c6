"""Tests that cancel or end the calls of a destination at every step; part of its conformance suite."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bulkdl.destinations.interfaces import CompletedFile
from bulkdl.models import CommittedFile
from bulkdl.state.storage import Storage
from bulkdl.testing.destination_processes import (
    KEY,
    NEW,
    OLD,
    OUTPUT,
    DestinationProcesses,
    check_no_state,
    fill_partial_file,
    publish,
    read_all,
    sample_file,
)
from bulkdl.testing.steps import cancel_at_each_step, check


class DestinationCrashTests(DestinationProcesses):
    """Tests that cancel or end calls. ``DestinationSuite`` contains them."""

    def test_calls_cancelled_at_any_await_leave_complete_objects(self, tmp_path: Path) -> None:
        async def test(storage: Storage) -> None:
            destination = storage.destination
            await publish(storage, "source", NEW)

            async def check_object() -> None:
                found = await read_all(storage)
                check(found.pop("source") == NEW, "another object has changed")
                check(set(found) <= {KEY}, f"unexpected objects: {sorted(found)}")
                check(found.get(KEY, OLD) in (OLD, NEW), "a cancelled call published a part")
                await publish(storage, KEY, OLD)

            path = storage.state.new_temp_path()

            async def publish_file() -> None:
                path.write_bytes(NEW)
                await destination.publish(CompletedFile(path), sample_file(KEY, NEW))

            for call in (
                partial(publish, storage, KEY, NEW),
                publish_file,
                partial(destination.copy, "source", KEY),
                partial(destination.write_documents, {KEY: NEW}),
            ):
                await cancel_at_each_step(call, check_object)
            await publish(storage, KEY, OLD)
            await cancel_at_each_step(partial(destination.delete, [KEY]), check_object)
            path.unlink(missing_ok=True)

        self.run(tmp_path, test)
        self.check_next_process(tmp_path)

    def test_commit_killed_before_any_step_is_completed_by_the_next_process(self, tmp_path: Path) -> None:
        async def prepare(storage: Storage) -> None:
            await publish(storage, KEY, OLD)
            await fill_partial_file(storage, NEW)

        async def commit(storage: Storage) -> None:
            partial_file = storage.partial_file(OUTPUT)
            await partial_file.load()
            await partial_file.commit(sample_file(KEY, NEW))

        async def complete(storage: Storage) -> None:
            found = await read_all(storage)
            check(found in ({KEY: OLD}, {KEY: NEW}), "a killed commit left a part, or another object")
            state = await storage.partial_file(OUTPUT).load()
            check(state is not None, "the bytes were lost")
            if not isinstance(state, CommittedFile):
                await commit(storage)
            await storage.destination.flush([KEY])
            await storage.partial_file(OUTPUT).forget()
            check(await read_all(storage) == {KEY: NEW}, "the object differs")
            check_no_state(storage)

        self.kill_at_each_step(tmp_path, prepare, commit, complete)

    def test_other_calls_killed_before_any_step_leave_complete_objects(self, tmp_path: Path) -> None:
        async def prepare(storage: Storage) -> None:
            await publish(storage, "source", NEW)
            await publish(storage, KEY, OLD)

        async def change(storage: Storage, call: str) -> None:
            if call == "publish":
                await publish(storage, KEY, NEW)
            elif call == "copy":
                await storage.destination.copy("source", KEY)
            else:
                await storage.destination.write_documents({KEY: NEW})
            await storage.destination.flush([KEY])

        async def complete(storage: Storage, call: str) -> None:
            found = await read_all(storage)
            check(found.pop("source") == NEW, "another object has changed")
            check(found in ({KEY: OLD}, {KEY: NEW}), "a killed call left a part, or another object")
            await change(storage, call)
            check((await read_all(storage))[KEY] == NEW, "the object differs")
            check_no_state(storage)

        for call in ("publish", "copy", "documents"):
            self.kill_at_each_step(
                tmp_path / call, prepare, partial(change, call=call), partial(complete, call=call)
            )

    def test_delete_killed_before_any_step_is_completed_by_the_next_process(self, tmp_path: Path) -> None:
        expected = {"source": NEW, KEY: OLD, "other": OLD}

        async def prepare(storage: Storage) -> None:
            for key, content in expected.items():
                await publish(storage, key, content)

        async def delete(storage: Storage) -> None:
            await storage.destination.delete([KEY, "other"])

        async def complete(storage: Storage) -> None:
            found = await read_all(storage)
            check(found.items() <= expected.items(), "a killed call left a part")
            check(found.get("source") == NEW, "another object has changed")
            await delete(storage)
            check(await read_all(storage) == {"source": NEW}, "an object still exists")

        self.kill_at_each_step(tmp_path, prepare, delete, complete)
