"""The storage of a run: the destination for its outputs, and the state directory for everything else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bulkdl.concurrency import Executors
from bulkdl.destinations.interfaces import STATE_FOLDER, Destination
from bulkdl.destinations.registry import create_destination
from bulkdl.models import Durability, Output
from bulkdl.state.directory import StateDirectory
from bulkdl.state.partial_file import PartialFile


@dataclass(frozen=True, slots=True)
class Storage:
    """
    The destination and the state directory of a run.

    Attributes:
        output: The path or the URL of the destination.
    """

    output: Path | str
    destination: Destination
    state: StateDirectory

    def partial_file(self, output: Output) -> PartialFile:
        """Return the partial file of *output*. It is published to the destination."""
        return self.state.partial_file(output, self.destination)

    def check_destination(self) -> None:
        """Check that earlier runs published to the same destination; see ``StateDirectory``. Blocks."""
        self.state.check_destination(self.output)

    def record_destination(self) -> None:
        """Record the destination in the state directory; blocks. Call it only while holding the lease."""
        self.state.record_destination(self.output)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the destination and let idle threads end. The storage can be used again."""
        await self.destination.close()
        self.state.close()


def create_storage(
    output: Path | str,
    state: Path | None = None,
    *,
    shard: object = None,
    durability: Durability = Durability.FULL,
    executors: Executors | None = None,
) -> Storage:
    """
    Return the storage for *output*. Nothing is created or changed.

    Args:
        state: The state directory; see ``create_state`` for the default.

    Raises:
        ConfigError: There is no destination for the URL.
    """
    directory = create_state(output, state, shard=shard, durability=durability, executors=executors)
    return Storage(output, create_destination(output, directory.destination_options), directory)


def create_state(
    output: Path | str,
    state: Path | None = None,
    *,
    shard: object = None,
    durability: Durability = Durability.FULL,
    executors: Executors | None = None,
    env: Mapping[str, str] = os.environ,
) -> StateDirectory:
    """
    Return the state directory *state*. Nothing is created or changed.

    The default is ``.bulkdl`` in a local output directory. For a URL it is a directory below
    ``XDG_STATE_HOME``, which is different for each URL and shard.
    """
    setting = f"--state {state}" if state is not None else f"--output {output}"
    if state is None:
        state = output / STATE_FOLDER if isinstance(output, Path) else _state_of_url(output, shard, env)
    return StateDirectory(state, durability, executors, setting=setting)


def _state_of_url(url: str, shard: object, env: Mapping[str, str]) -> Path:
    home = Path(env.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
    identity = url if shard is None else f"{url} {shard}"
    return home / "bulkdl" / hashlib.sha256(identity.encode()).hexdigest()[:16]
