"""
Write the metrics of a batch run to a file for the textfile collector of node-exporter.

The file is replaced atomically at the start of the run, every minute, and at the end. The result of the
previous run is copied from the existing file, so that an alert on it remains active during the next run, even
if that run is killed.
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

INTERVAL_S = 60.0


class TextfileWriter:
    """
    Writes *path* periodically from ``start`` to the end of the context.

    Args:
        render: Returns the text; called outside of the event loop.
    """

    def __init__(self, path: Path, render: Callable[[], bytes], interval_s: float = INTERVAL_S) -> None:
        self._path = path
        self._render = render
        self._interval_s = interval_s
        self._is_started = False
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        """
        Check that the file can be written.

        Raises:
            ConfigError: Its folder does not exist or is not writable.
        """
        folder = self._path.parent
        if not await asyncio.to_thread(os.access, folder, os.W_OK | os.X_OK):
            raise ConfigError(
                f"--metrics-file {self._path}",
                f"is not writable; {folder} must exist and be writable",
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await asyncio.wait({self._writing})
        if self._is_started:
            await asyncio.to_thread(self._write)

    def start(self) -> None:
        """Write the file now and periodically. Further calls have no effect."""
        if self._is_started:
            return
        self._is_started = True
        self._tick()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval_s, self._tick)
        if self._writing is None or self._writing.done():
            self._writing = loop.run_in_executor(None, self._write)

    def _write(self) -> None:
        temp_path = self._path.with_name(f".{self._path.name}.tmp")
        try:
            temp_path.write_bytes(self._render())
            temp_path.replace(self._path)
        except OSError as error:
            log.warning("metrics.failed", path=str(self._path), detail=error.strerror)
            with suppress(OSError):
                temp_path.unlink(missing_ok=True)


def read_last_run(path: Path) -> tuple[datetime, float] | None:
    """Return the end time and the exit code of the run that wrote *path*; None if they are unknown."""
    values = {}
    try:
        for family in text_string_to_metric_families(path.read_text("utf-8")):
            values[family.name] = next((sample.value for sample in family.samples), math.nan)
        ended_at = datetime.fromtimestamp(values["bulkdl_last_run_timestamp_seconds"], UTC)
        return ended_at, values["bulkdl_last_run_exit_code"]
    except (OSError, ValueError, KeyError, OverflowError):
        return None
