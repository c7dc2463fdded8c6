"""The interface of a destination for small objects with conditional writes; see ``Destination``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StateObject:
    """
    A small object of the state folder.

    Attributes:
        version: What a conditional write compares. Only the destination reads it.
    """

    data: bytes
    version: Mapping[str, str]


class WriteConflictError(Exception):
    """A conditional write changed nothing, because the object is not the expected one."""


class StateObjects(Protocol):
    """
    Small objects below the state folder with conditional writes, and the keys of all objects there.

    Runs on several machines use them for one lease and one sequence of state snapshots.
    """

    async def read(self, key: str) -> StateObject | None:
        """
        Return the object *key*; None if it does not exist.

        Raises:
            DestinationError: It cannot be read.
        """

    async def write(self, key: str, data: bytes, expected: StateObject | None) -> StateObject:
        """
        Write the object *key* if it still is *expected*; None: if it does not exist.

        Args:
            data: Must differ from the data of every other write, for example by a random value. After a lost
                response, the object is read to find out whether it was written.

        Raises:
            WriteConflictError: The object is not *expected*; it was not changed.
            DestinationError: The result is not known, or nothing was written.
        """

    async def list_keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with *prefix*, a folder with its slash."""

    def set_guard(self, guard: Callable[[], None]) -> None:
        """Call *guard* before each change of the destination. The change fails with what it raises."""
