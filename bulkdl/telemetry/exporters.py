"""
Start and stop the exporters of a run: the status page, the metrics endpoint and the metrics file.

The web server and the metrics library are imported only by ``start_exporters``, because the import takes
longer than a short command.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bulkdl.telemetry.events import Event, NullReporter, Reporter, Reporters, RunFinished, RunStarted

if TYPE_CHECKING:
    from bulkdl.telemetry.metrics import Metrics
    from bulkdl.telemetry.web import ServiceViews


class ExporterHandle:
    """
    A reporter that passes the events of a run to all exporters.

    Attributes:
        url: URL of the status page; None without ``--listen``.
    """

    def __init__(
        self, reporter: Reporter, *, url: str | None = None, on_run_started: Callable[[], None] | None = None
    ) -> None:
        """
        Pass events to *reporter*.

        Args:
            on_run_started: Called when the run has locked its directory.
        """
        self.url = url
        self._reporter = reporter
        self._on_run_started = on_run_started

    def report(self, event: Event) -> None:
        """Pass *event* to the exporters."""
        self._reporter.report(event)
        if isinstance(event, RunStarted) and self._on_run_started is not None:
            self._on_run_started()

    def finish(self, exit_code: int) -> None:
        """Report the exit code of the process, which replaces the exit code of the run."""
        self.report(RunFinished(datetime.now(UTC), exit_code))


@asynccontextmanager
async def no_exporters() -> AsyncIterator[ExporterHandle]:
    """Provide a handle without exporters."""
    yield ExporterHandle(NullReporter())


@asynccontextmanager
async def start_exporters(
    *,
    version: str,
    kinds: Sequence[str],
    output: Path,
    state: Path,
    listen: tuple[str, int] | None,
    metrics_file: Path | None,
    service: ServiceViews | None = None,
) -> AsyncIterator[ExporterHandle]:
    """
    Run the exporters until the context ends.

    Args:
        kinds: The kinds of the source of the run.
        output: The output directory.
        state: The state directory.
        listen: Host and port of the status page and the metrics endpoint.
        metrics_file: File for the textfile collector.
        service: The service of the runs; None for one run.

    Raises:
        ConfigError: The address or the metrics file cannot be used.
    """
    from bulkdl.telemetry.dashboard import RunStatus  # noqa: PLC0415 - see the module docstring
    from bulkdl.telemetry.health import DiskProbe, Readiness  # noqa: PLC0415
    from bulkdl.telemetry.metrics import Metrics  # noqa: PLC0415
    from bulkdl.telemetry.textfile import TextfileWriter  # noqa: PLC0415
    from bulkdl.telemetry.web import Views, create_app, serve  # noqa: PLC0415

    disk = DiskProbe(output, state)
    metrics = Metrics(version, kinds, lambda: disk.free_bytes)
    run_status = RunStatus(version, kinds, time.monotonic, lambda: datetime.now(UTC))
    readiness = Readiness()

    def render() -> bytes:
        disk.measure()
        return metrics.render_textfile()

    async with AsyncExitStack() as stack:
        on_run_started = url = None
        if metrics_file is not None:
            await asyncio.to_thread(_restore_last_run, metrics, metrics_file)
            on_run_started = (await stack.enter_async_context(TextfileWriter(metrics_file, render))).start
        if listen is not None:
            app = create_app(Views(run_status, metrics, readiness, disk, service))
            url = await stack.enter_async_context(serve(app, *listen))
        yield ExporterHandle(
            Reporters(metrics, run_status, readiness), url=url, on_run_started=on_run_started
        )


def _restore_last_run(metrics: Metrics, metrics_file: Path) -> None:
    """Set the end of the previous run from the metrics file that it wrote; blocks."""
    from bulkdl.telemetry.textfile import read_last_run  # noqa: PLC0415

    last_run = read_last_run(metrics_file)
    if last_run is not None:
        metrics.set_last_run(*last_run)
