"""Parameters of a measurement."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """
    Attributes:
        outputs: Number of outputs of the backfill.
        scratch: An empty directory on the measured disk.
        profiler: Path of py-spy. None disables profiles.
        scale: Factor for the sizes of uploads.
    """

    pairs: int
    outputs: int
    scratch: Path
    profiler: str | None = None
    scale: float = 1.0

    def scaled(self, amount: int) -> int:
        """Return *amount* for a trial with smaller uploads."""
        return max(1, int(amount * self.scale))

    @property
    def peer_python(self) -> Path:
        return REPOSITORY / ".venv-peer/bin/python"

    @property
    def stac_python(self) -> Path:
        return REPOSITORY / ".venv-peer_stac/bin/python"

    def has_tool(self, tool: str) -> bool:
        return shutil.which(tool) is not None

    def create_directory(self, name: str) -> Path:
        """Create an empty directory called *name*."""
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder
