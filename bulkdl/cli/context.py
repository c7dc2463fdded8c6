"""
What a command that works has around it: logs, bars, signals, and the downloader inside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from rich.console import Console

from bulkdl import __version__
from bulkdl.cli.exit_codes import exit_code_of
from bulkdl.cli.inputs import output_of, selection_from, settings_from
from bulkdl.cli.signals import handle_stop_signals
from bulkdl.destinations.local.destination import STATE_FOLDER
from bulkdl.errors import BulkdlError, DownloaderStateError, OutputLockedError
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.downloader import Downloader
from bulkdl.log import get_logger
from bulkdl.redaction import register_secret
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet, LoadedSettings, Settings, load_credentials
from bulkdl.telemetry.console_logging import logging_to, stderr_console
from bulkdl.telemetry.events import Reporter, Reporters, StatusPageListening
from bulkdl.telemetry.exporter_handle import ExporterHandle, no_exporters
from bulkdl.telemetry.progress import has_bars, progress_on

T = TypeVar("T")
log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What the command line asks for, read and checked before anything is done."""

    loaded: LoadedSettings
    selection: Selection
    credentials: CredentialSet
    expose_metrics: bool = False

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> RunRequest:
        """
        Read every input there is.

        Raises:
            ConfigError: One of them is wrong or missing.
        """
        loaded = settings_from(params)
        output_of(loaded.settings)
        selection = selection_from(params, loaded.settings)
        credentials = load_credentials(loaded.settings)
        watched = "listen" in params and not params.get("dry_run")
        return cls(loaded, selection, credentials, watched)


@contextmanager
def configure_logging(loaded: LoadedSettings, credentials: CredentialSet) -> Iterator[Reporter]:
    """Logs and bars on stderr until left, with every secret masked."""
    for secret in credentials.secrets():
        register_secret(secret)
    settings = loaded.settings
    console = stderr_console()
    with logging_to(console, settings.log_format, _verbosity(settings, console)):
        for warning in loaded.warnings:
            log.warning("settings.suspected", detail=warning)
        with progress_on(console, settings.progress) as reporter:
            yield reporter


def _verbosity(settings: Settings, console: Console) -> int:
    """Bars tell what the lines of a normal run would; with them only what went wrong is a line."""
    if settings.log_format == "auto" and has_bars(console, settings.progress) and settings.verbose in (0, 1):
        return settings.verbose - 1
    return settings.verbose


def carry_out(order: RunRequest, work: Callable[[Downloader], Awaitable[T]]) -> tuple[T, ExitCode | None]:
    """
    Open a downloader, do *work* with it, and close it.

    Returns:
        What *work* gave, and the exit code of the signal that came meanwhile, if one did.
    """
    with configure_logging(order.loaded, order.credentials) as reporter:
        return asyncio.run(run_downloader(order, work, reporter))


async def run_downloader(
    order: RunRequest, work: Callable[[Downloader], Awaitable[T]], reporter: Reporter
) -> tuple[T, ExitCode | None]:
    """Do *work*, seen from outside if the order says so."""
    async with _outside(order) as view:
        if view.url is not None:
            reporter.report(StatusPageListening(view.url))
        try:
            result, signalled = await _worked(order, work, Reporters(reporter, view))
        except BaseException as error:  # who looks from outside is told of every end, an interrupt too
            view.finish(_code_of(error))
            raise
        if signalled is not None:
            view.finish(signalled)
        return result, signalled


def _outside(order: RunRequest) -> AbstractAsyncContextManager[ExporterHandle]:
    settings = order.loaded.settings
    if not order.expose_metrics or (settings.listen is None and settings.metrics_file is None):
        return no_exporters()
    from bulkdl.telemetry.exporters import start_exporters  # noqa: PLC0415 - a web server is loaded for those who ask

    root, address = output_of(settings), settings.listen
    return start_exporters(
        version=__version__,
        output=root,
        state=root / STATE_FOLDER,
        http=(address.host, address.port) if address else None,
        metrics_file=settings.metrics_file,
    )


def _code_of(error: BaseException) -> int:
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    return exit_code_of(error) if isinstance(error, BulkdlError) else ExitCode.BUG


async def _worked(
    order: RunRequest, work: Callable[[Downloader], Awaitable[T]], reporter: Reporter
) -> tuple[T, ExitCode | None]:
    downloader = Downloader(order.loaded.settings, credentials=order.credentials, reporter=reporter)

    def stop(cause: ExitCode) -> None:
        with suppress(DownloaderStateError):  # a signal may arrive after the end of the run
            downloader.stop(cause)

    with handle_stop_signals(stop) as caught:
        try:
            async with downloader:
                result = await work(downloader)
        except (asyncio.CancelledError, OutputLockedError):  # a signal ends the observation of a stale lease
            if caught.exit_code is None:
                raise
            raise click.exceptions.Exit(int(caught.exit_code)) from None
    return result, caught.exit_code
