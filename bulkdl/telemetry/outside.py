"""
A run as it is seen from outside: what listens, what is written, and the reporters that feed them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from bulkdl.telemetry.board import Board
from bulkdl.telemetry.disk import Disk
from bulkdl.telemetry.events import Event, NullReporter, Reporter, Reporters, RunFinished, RunStarted
from bulkdl.telemetry.http import Views, application, serving
from bulkdl.telemetry.metrics import Metrics
from bulkdl.telemetry.readiness import Readiness
from bulkdl.telemetry.textfile import Textfile, last_run_in


class Outside:
    """
    A reporter for everything outside; ``ended`` has the last word on how a run ended.

    Attributes:
        url: Of the page; None if there is none.
    """

    def __init__(self, reporter: Reporter, textfile: Textfile | None, url: str | None) -> None:
        self.url = url
        self._reporter = reporter
        self._textfile = textfile

    def report(self, event: Event) -> None:
        """Pass *event* on; the textfile begins with the run, which by then holds its directory."""
        self._reporter.report(event)
        if isinstance(event, RunStarted) and self._textfile is not None:
            self._textfile.begin()

    def ended(self, exit_code: int) -> None:
        """The process will end with *exit_code*, whatever the run itself came to."""
        self.report(RunFinished(datetime.now(UTC), exit_code))


@asynccontextmanager
async def unseen() -> AsyncIterator[Outside]:
    """Nothing listens, nothing is written."""
    yield Outside(NullReporter(), None, None)


@asynccontextmanager
async def outside(
    *, version: str, output: Path, state: Path, http: tuple[str, int] | None, metrics_file: Path | None
) -> AsyncIterator[Outside]:
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
    disk = Disk(output, state)
    metrics = Metrics(version, lambda: disk.free_bytes)
    board = Board(version, time.monotonic, lambda: datetime.now(UTC))
    readiness = Readiness()
    async with AsyncExitStack() as stack:
        textfile = None
        if metrics_file is not None:
            textfile = await stack.enter_async_context(_textfile(metrics_file, metrics, disk))
        url = None
        if http is not None:
            app = application(Views(board, metrics, readiness, disk))
            url = await stack.enter_async_context(serving(app, *http))
        yield Outside(Reporters(metrics, board, readiness), textfile, url)


@asynccontextmanager
async def _textfile(path: Path, metrics: Metrics, disk: Disk) -> AsyncIterator[Textfile]:
    def render() -> bytes:
        disk.measure()
        return metrics.textfile()

    async with Textfile(path, render) as textfile:
        last = await asyncio.to_thread(last_run_in, path)
        if last is not None:
            metrics.last_run(*last)
        yield textfile
