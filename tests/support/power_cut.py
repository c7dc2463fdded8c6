"""
The states of a directory that a power cut can leave, from the file operations of a recorded run.

The model is that of a journaling file system such as ext4, and a little weaker:

- Writes to a file reach the disk in any order, until fsync of that file. Half of a write can be lost.
- Creations, renames, links and unlinks in one directory reach the disk in their order, until fsync of that
  directory. Operations in different directories reach the disk in any order. A rename is atomic.
- fsync of a file does not make its name durable.
- syncfs makes all earlier operations durable.

A state is a prefix of the operations without some of those that are not durable at its end.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

BASE = 0
"""The node of the recorded directory itself."""


@dataclass(frozen=True)
class DataOperation:
    """
    A change of the content of a file.

    Attributes:
        data: Bytes at *offset*.
        size_bytes: The new size, instead of data.
        is_whole: Whether *data* replaces the whole content, which is atomic.
    """

    node: int
    offset: int = 0
    data: bytes = b""
    size_bytes: int | None = None
    is_whole: bool = False

    def apply(self, content: bytearray, *, is_torn: bool = False) -> None:
        if self.is_whole:
            content[:] = self.data
            return
        if self.size_bytes is not None:
            del content[self.size_bytes :]
            content.extend(bytes(self.size_bytes - len(content)))
            return
        data = self.data[: len(self.data) // 2] if is_torn else self.data
        content.extend(bytes(max(0, self.offset - len(content))))
        content[self.offset : self.offset + len(data)] = data


@dataclass(frozen=True)
class NameOperation:
    """
    A change of directory entries, which is atomic.

    Attributes:
        entries: The new node of each (directory, name); None removes the name.
    """

    entries: Mapping[tuple[int, str], int | None]
    new_folder: int | None = None

    @property
    def folders(self) -> frozenset[int]:
        return frozenset(folder for folder, _ in self.entries)


@dataclass(frozen=True)
class Sync:
    """An fsync of the file or directory *node*; None is a sync of all files."""

    node: int | None


Operation = DataOperation | NameOperation | Sync
FileContent = tuple[int, tuple[tuple[int, bool], ...]]
"""A node, and the numbers of its writes with whether half of the write was lost."""


@dataclass(frozen=True)
class DiskState:
    """The files and directories after a power cut. Equal states have equal content."""

    folders: frozenset[str]
    files: Mapping[str, FileContent]
    description: str

    @property
    def key(self) -> tuple[frozenset[str], frozenset[tuple[str, FileContent]]]:
        return self.folders, frozenset(self.files.items())


@dataclass
class OperationLog:
    """The operations of a run, in the order in which they returned."""

    operations: list[Operation] = field(default_factory=list)
    digests: dict[FileContent, bytes] = field(default_factory=dict)

    def read(self, file: FileContent) -> bytes:
        content = bytearray()
        for number, is_torn in file[1]:
            operation = self.operations[number]
            assert isinstance(operation, DataOperation)
            operation.apply(content, is_torn=is_torn)
        return bytes(content)

    def digest(self, file: FileContent) -> bytes:
        if file not in self.digests:
            self.digests[file] = hashlib.sha256(self.read(file)).digest()
        return self.digests[file]

    def states(self, seed: int, pairs_per_prefix: int = 3) -> Iterator[DiskState]:
        """
        Yield the different states of all prefixes.

        For each prefix: without any loss, without all that is not durable, without each single operation
        (and with half of each write), and without some pairs of operations.
        """
        chooser = random.Random(seed)
        seen = set()
        volatile: list[int] = []
        for end in range(len(self.operations) + 1):
            for state in self._states_after(end, volatile, chooser, pairs_per_prefix):
                if state.key not in seen:
                    seen.add(state.key)
                    yield state
            volatile = self._volatile_after(end, volatile)

    def last_states(self, seed: int) -> Iterator[DiskState]:
        """Yield the states after all operations."""
        volatile: list[int] = []
        for end in range(len(self.operations)):
            volatile = self._volatile_after(end, volatile)
        yield from self._states_after(len(self.operations), volatile, random.Random(seed), len(volatile))

    def last_state(self) -> DiskState:
        """Return the state after all operations without any loss."""
        return self._state(len(self.operations), frozenset(), None)

    def _states_after(
        self, end: int, volatile: list[int], chooser: random.Random, pairs: int
    ) -> Iterator[DiskState]:
        for lost, torn in _choose_losses(volatile, self.operations, chooser, pairs):
            yield self._state(end, self._with_followers(lost, volatile), torn)

    def _volatile_after(self, number: int, volatile: list[int]) -> list[int]:
        """Return the operations that are not durable after operation *number*."""
        if number == len(self.operations):
            return volatile
        operation = self.operations[number]
        return (
            self._remaining_after(operation, volatile) if isinstance(operation, Sync) else [*volatile, number]
        )

    def _remaining_after(self, sync: Sync, volatile: list[int]) -> list[int]:
        """Return the operations that are still not durable after *sync*."""
        if sync.node is None:
            return []
        remaining: list[int] = []
        folders = {sync.node}  # grows: an earlier operation in a directory of a durable rename is durable
        for number in reversed(volatile):
            operation = self.operations[number]
            if isinstance(operation, NameOperation) and operation.folders & folders:
                folders |= operation.folders
            elif not (isinstance(operation, DataOperation) and operation.node == sync.node):
                remaining.append(number)
        return remaining[::-1]

    def _with_followers(self, lost: frozenset[int], volatile: list[int]) -> frozenset[int]:
        """Add the later operations in the directories of lost operations."""
        folders: frozenset[int] = frozenset()
        all_lost = set(lost)
        for number in volatile:
            operation = self.operations[number]
            if isinstance(operation, NameOperation) and (number in lost or operation.folders & folders):
                folders |= operation.folders
                all_lost.add(number)
        return frozenset(all_lost)

    def _state(self, end: int, lost: frozenset[int], torn: int | None) -> DiskState:
        entries: dict[int, dict[str, int]] = {BASE: {}}
        writes: dict[int, list[tuple[int, bool]]] = {}
        for number, operation in enumerate(self.operations[:end]):
            if number in lost or isinstance(operation, Sync):
                continue
            if isinstance(operation, DataOperation):
                writes.setdefault(operation.node, []).append((number, number == torn))
                continue
            if operation.new_folder is not None:
                entries[operation.new_folder] = {}
            for (folder, name), node in operation.entries.items():
                names = entries.setdefault(folder, {})
                if node is None:
                    names.pop(name, None)
                else:
                    names[name] = node
        folders, files = _walk(entries, writes)
        description = f"after {end} operations, without {sorted(lost)}, torn {torn}"
        return DiskState(frozenset(folders), files, description)

    def write(self, state: DiskState, base: Path) -> None:
        """Create the files and directories of *state* in the existing directory *base*."""
        for folder in sorted(state.folders):
            (base / folder).mkdir()
        first_names: dict[int, Path] = {}
        for name, file in state.files.items():
            path = base / name
            if file[0] in first_names:
                os.link(first_names[file[0]], path)
                continue
            first_names[file[0]] = path
            path.write_bytes(self.read(file))

    def explain(self, state: DiskState) -> str:
        """Return the description of *state* with the last operations."""
        numbers = sorted({int(digits) for digits in re.findall(r"\d+", state.description)})
        operations = dict(enumerate(self.operations))
        lines = [f"{number}: {operations[number]!r:.160}" for number in numbers if number in operations]
        return "\n".join([state.description, *lines])


def _walk(
    entries: Mapping[int, Mapping[str, int]], writes: Mapping[int, list[tuple[int, bool]]]
) -> tuple[set[str], dict[str, FileContent]]:
    """Return the paths of all directories, and the files with their paths."""
    folders: set[str] = set()
    files: dict[str, FileContent] = {}
    waiting = [("", BASE)]
    while waiting:
        prefix, folder = waiting.pop()
        for name, node in entries[folder].items():
            if node in entries:
                folders.add(prefix + name)
                waiting.append((f"{prefix}{name}/", node))
            else:
                files[prefix + name] = node, tuple(writes.get(node, ()))
    return folders, files


def _choose_losses(
    volatile: list[int], operations: list[Operation], chooser: random.Random, pairs: int
) -> Iterator[tuple[frozenset[int], int | None]]:
    yield frozenset(), None
    yield frozenset(volatile), None
    for number in volatile:
        yield frozenset({number}), None
        operation = operations[number]
        if isinstance(operation, DataOperation) and len(operation.data) > 1 and not operation.is_whole:
            yield frozenset(), number
            yield frozenset(volatile) - {number}, None
    for _ in range(pairs if len(volatile) > 2 else 0):
        yield frozenset(chooser.sample(volatile, 2)), None
