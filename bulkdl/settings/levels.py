"""The values of the setting ``scope``."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """The level of an output: of a job (the output of its last task) or of one task."""

    JOB = "job"
    TASK = "task"
