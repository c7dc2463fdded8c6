"""
Metrics for a batch run that nobody scrapes: a file that node-exporter's textfile collector reads.

It is written when the run begins, each minute, and at the end, each time whole under a new name and
then renamed. How the last run ended is taken over from the file of that run, so that an alert on it
does not fall silent while the next one is at work, nor for ever when that one is killed.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from bulkdl.errors import ConfigError
from bulkdl.log import get_logger

log = get_logger(__name__)

EVERY_S = 60.0


class Textfile:
    """
    Keeps *path* up to date from ``begin`` to the end of the context.

    Args:
        render: Gives the text; called outside of the event loop.
    """

    def __init__(self, path: Path, render: Callable[[], bytes], every_s: float = EVERY_S) -> None:
        self._path = path
        self._render = render
        self._every_s = every_s
        self._begun = False
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        """
        Make sure that the file can be written.

        Raises:
            ConfigError: Its folder is not there or not writable.
        """
        folder = self._path.parent
        if not await asyncio.to_thread(os.access, folder, os.W_OK | os.X_OK):
            raise ConfigError(
                f"--metrics-file {self._path}", f"cannot be written; {folder} must be a folder that can be"
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await asyncio.wait({self._writing})
        if self._begun:
            await asyncio.to_thread(self._write)

    def begin(self) -> None:
        """Write now and from now on."""
        self._begun = True
        self._tick()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._every_s, self._tick)
        if self._writing is None or self._writing.done():
            self._writing = loop.run_in_executor(None, self._write)

    def _write(self) -> None:
        aside = self._path.with_name(f".{self._path.name}.tmp")
        try:
            aside.write_bytes(self._render())
            aside.replace(self._path)
        except OSError as error:
            log.warning("metrics.failed", path=str(self._path), detail=error.strerror)
            with suppress(OSError):
                aside.unlink(missing_ok=True)


def last_run_in(path: Path) -> tuple[datetime, float] | None:
    """When and with which exit code the run ended that wrote *path*; None if it cannot be told."""
    values = {}
    try:
        for family in text_string_to_metric_families(path.read_text("utf-8")):
            values[family.name] = next((sample.value for sample in family.samples), math.nan)
        ended_at = datetime.fromtimestamp(values["bulkdl_last_run_timestamp_seconds"], UTC)
        return ended_at, values["bulkdl_last_run_exit_code"]
    except (OSError, ValueError, KeyError, OverflowError):
        return None
