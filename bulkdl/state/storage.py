"""The storage of a run: the destination for its outputs, and the state directory for everything else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bulkdl.concurrency import Executors
from bulkdl.destinations.interfaces import Destination
from bulkdl.destinations.registry import create_destination
from bulkdl.models import Durability, Output
from bulkdl.state.directory import StateDirectory
from bulkdl.state.partial_file import PartialFile


@dataclass(frozen=True, slots=True)
class Storage:
    """The destination and the state directory of a run."""

    destination: Destination
    state: StateDirectory

    def partial_file(self, output: Output) -> PartialFile:
        """Return the partial file of *output*. It is published to the destination."""
        return self.state.partial_file(output, self.destination)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the destination and let idle threads end. The storage can be used again."""
        await self.destination.close()
        self.state.close()


def create_storage(
    output: Path,
    *,
    durability: Durability = Durability.FULL,
    executors: Executors | None = None,
) -> Storage:
    """Return the storage for *output*. Nothing is created or changed."""
    state = StateDirectory.below(output, durability, executors)
    return Storage(create_destination(output, state.destination_options), state)
