"""A script of faults: which requests meet which fault."""

from __future__ import annotations

from pathlib import Path
from typing import Self


class FaultScriptError(ValueError):
    """The script is wrong; the message names file, rule and key."""


class Faults:
    @classmethod
    def load(cls, path: Path) -> Self:
        raise NotImplementedError(path)
