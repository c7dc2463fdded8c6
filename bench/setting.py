"""What the rows are given: how often, how much, and where to work."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Setting:
    """
    Attributes:
        outputs: Of the backfill.
        scratch: An empty folder on the disk that is measured.
        profiler: The path of py-spy; None to do without profiles.
    """

    pairs: int
    outputs: int
    scratch: Path
    profiler: str | None = None

    @property
    def peer_python(self) -> Path:
        return REPOSITORY / ".venv-peer/bin/python"

    def has(self, tool: str) -> bool:
        return shutil.which(tool) is not None

    def fresh(self, name: str) -> Path:
        """An empty folder of that name."""
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder
