"""
A processor for bulkdl: writes a checksum file next to each output.

At the end of a run it writes the list of all checksum files.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bulkdl.concurrency import open_stoppable
from bulkdl.processors.interfaces import (
    BaseProcessor,
    CompletedOutput,
    DerivedFile,
    FinishedRun,
    LocalFile,
    OutputArea,
)


class Checksums(BaseProcessor):
    """The table ``[processor_settings.checksums]`` can contain ``algorithm``, a name from ``hashlib``."""

    name = "checksums"
    version = 1  # increase it when the content of the derived files changes

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._algorithm = settings.get("algorithm", "sha256")
        if self._algorithm not in ("md5", "sha1", "sha256", "sha512"):
            raise ValueError(f"algorithm: unknown algorithm {self._algorithm!r}")

    def accepts(self, record: CompletedOutput) -> bool:
        return record.output.kind != "quicklook"

    async def process(
        self, file: LocalFile, record: CompletedOutput, area: OutputArea
    ) -> Sequence[DerivedFile]:
        checksum = await area.run(self._read, file.path)  # in a thread, because it blocks
        name = record.file.key.rpartition("/")[2]
        # The format of sha256sum and similar commands.
        return [await area.write(f"{record.file.key}.{self._algorithm}", f"{checksum}  {name}\n".encode())]

    async def finish(self, run: FinishedRun, area: OutputArea) -> Sequence[DerivedFile]:
        path = area.new_path()
        with path.open("w") as lines:  # one line at a time: the memory does not grow with the outputs
            async for output, file in run.derived_files(self.name):
                lines.write(f"{output.kind}\t{file.key}\n")
        return [await area.publish(path, f"checksums-{self._algorithm}.tsv")]

    def _read(self, stop: threading.Event, path: Path) -> str:
        digest = hashlib.new(self._algorithm, usedforsecurity=False)
        with open_stoppable(path, stop) as stream:  # a read ends when the run is stopped
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
