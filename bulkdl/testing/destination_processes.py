"""Simulate the processes of a run for the conformance suite of destinations."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bulkdl import syscalls
from bulkdl.destinations.interfaces import CompletedFile, Destination, DestinationOptions
from bulkdl.models import CommittedFile, ContainerRef, Durability, Output, RemoteObject, Validator
from bulkdl.state.storage import StateDirectory, Storage
from bulkdl.testing.steps import Killed, check, kill_at
from bulkdl.transfer.checksums import Digester

OUTPUT = Output(ContainerRef("sample", "scope", "container"), "parent", "archive")
_MAX_STEPS = 60
KEY = "scope/container/parent/output.tar.gz"
# Both have the same size, so that the size does not distinguish them, and more than one block.
OLD, NEW = b"old!" * 600_000, b"NEW?" * 600_000


class DestinationProcesses:
    """Runs tests as processes. A subclass defines ``create`` and ``damage``."""

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
        names = ("fsync", "replace", "rename", "link", "unlink", "mkdir", "open")
        return [*((os, name) for name in names), (syscalls, "exchange_names")]

    @contextmanager
    def storage(self, folder: Path) -> Iterator[Storage]:
        """Create the storage of one process for the objects of *folder*."""
        root = folder / "objects"
        state = StateDirectory(self.state_folder(folder), root, self.durability, setting="--state")
        root.mkdir(parents=True, exist_ok=True)
        try:
            yield Storage(self.create(root, state.destination_options), state)
        finally:
            state.close()

    def check_next_process(self, folder: Path) -> None:
        """Check that the next process leaves nothing of the earlier processes but their objects."""

        async def test(storage: Storage) -> None:
            check_no_state(storage)

        self.run(folder, test)
        self.check_clean(folder / "objects")

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

    def kill_at_each_step(
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
            with kill_at(number, self.steps()) as process, suppress(Killed):
                self.run(attempt, work)
            self.run(attempt, complete)
            self.check_next_process(attempt)
            if process.steps < number:
                check(number > 1, "the suite has seen no step: override steps()")
                return


def sample_file(key: str, content: bytes) -> CommittedFile:
    """Return the description of *content* under *key*."""
    digester = Digester()
    digester.update(content)
    return CommittedFile(key, len(content), digester.crc32c, Validator('"1"'), "https://storage/object")


async def publish(storage: Storage, key: str, content: bytes) -> None:
    """Publish *content* from memory."""
    await storage.destination.publish(CompletedFile(None, content, "owner"), sample_file(key, content))


async def fill_partial_file(storage: Storage, content: bytes) -> None:
    """Write a complete partial file."""
    partial_file = storage.partial_file(OUTPUT)
    await partial_file.create(RemoteObject("https://storage/object", Validator('"1"'), len(content)))
    await partial_file.write(content)
    await partial_file.flush_and_close()
    partial_file.close()


async def read_all(storage: Storage) -> dict[str, bytes]:
    """Return the content of all objects."""
    contents = {}
    async for page in storage.destination.list_objects(lambda _key: True):
        for info in page:
            with storage.destination.open_reader(info.key) as stream:
                contents[info.key] = await asyncio.to_thread(stream.read)
            check(len(contents[info.key]) == info.size_bytes, f"{info.key}: the listed size differs")
    return contents


def check_no_state(storage: Storage) -> None:
    """Raise AssertionError if the state directory contains partial files."""
    names = sorted(path.name for path in storage.state.partial_folder.iterdir())
    check(names == [], f"files are left in the state directory: {names}")
