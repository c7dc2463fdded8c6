"""
What makes a run seen from outside: the page and the metrics that are served, the file that is written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from bulkdl.telemetry.dashboard import RunStatus
from bulkdl.telemetry.disk_probe import DiskProbe
from bulkdl.telemetry.events import Reporters
from bulkdl.telemetry.exporter_handle import ExporterHandle
from bulkdl.telemetry.metrics import Metrics
from bulkdl.telemetry.readiness import Readiness
from bulkdl.telemetry.textfile import Textfile, last_run_in
from bulkdl.telemetry.web import Views, application, serving


@asynccontextmanager
async def start_exporters(
    *, version: str, output: Path, state: Path, http: tuple[str, int] | None, metrics_file: Path | None
) -> AsyncIterator[ExporterHandle]:
    """
    Let a run be seen until left.

    Args:
        output: Where its outputs go.
        state: The folder below it for what is not finished.
        http: Host and port to listen on.
        metrics_file: For node-exporter's textfile collector.

    Raises:
        ConfigError: Nothing can listen there, or the file cannot be written.
    """
    disk = DiskProbe(output, state)
    metrics = Metrics(version, lambda: disk.free_bytes)
    board = RunStatus(version, time.monotonic, lambda: datetime.now(UTC))
    readiness = Readiness()
    async with AsyncExitStack() as stack:
        textfile = None
        if metrics_file is not None:
            textfile = await stack.enter_async_context(_textfile(metrics_file, metrics, disk))
        url = None
        if http is not None:
            app = application(Views(board, metrics, readiness, disk))
            url = await stack.enter_async_context(serving(app, *http))
        begin = textfile.begin if textfile is not None else None
        yield ExporterHandle(Reporters(metrics, board, readiness), url=url, begin=begin)


@asynccontextmanager
async def _textfile(path: Path, metrics: Metrics, disk: DiskProbe) -> AsyncIterator[Textfile]:
    def render() -> bytes:
        disk.measure()
        return metrics.textfile()

    async with Textfile(path, render) as textfile:
        last = await asyncio.to_thread(last_run_in, path)
        if last is not None:
            metrics.last_run(*last)
        yield textfile
