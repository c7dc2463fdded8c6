"""
Run a downloader for a command: read the inputs, configure logs and progress, and handle signals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bulkdl import __version__
from bulkdl.cli.exit_codes import exit_code_of
from bulkdl.cli.signals import handle_stop_signals
from bulkdl.cli.source_selection import parse_file, read_selections, resolve_sources
from bulkdl.errors import BulkdlError, DownloaderStateError, OutputLockedError
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.downloader import Downloader
from bulkdl.log import get_logger
from bulkdl.redaction import register_secret
from bulkdl.report.summary import Summary
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet, LoadedSettings, Settings, choose_sources, load_settings
from bulkdl.source_spec import source_spec
from bulkdl.sources.registry import load_credentials, load_source_type
from bulkdl.state.storage import create_state
from bulkdl.telemetry.console_logging import log_to_console
from bulkdl.telemetry.consoles import Console, create_stderr_console, has_bars, show_progress
from bulkdl.telemetry.events import Reporter, Reporters, StatusPageListening
from bulkdl.telemetry.exporters import ExporterHandle, no_exporters, start_exporters

if TYPE_CHECKING:
    from bulkdl.telemetry.web import ServiceViews

T = TypeVar("T")
log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """
    The validated inputs of a command that uses a downloader.

    Attributes:
        expose_metrics: Start the status page and the metrics file that the settings name.
    """

    loaded: LoadedSettings
    selections: Sequence[Selection]
    credentials: CredentialSet
    expose_metrics: bool = False

    @property
    def output(self) -> Path | str:
        """The output directory, or the URL of the destination."""
        return self.loaded.settings.require_output()

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, expose_metrics: bool) -> RunRequest:
        """
        Read and validate all inputs before the command changes anything.

        Raises:
            ConfigError: An input is missing or invalid.
        """
        loaded = read_settings(params)
        loaded.settings.require_output()
        loaded = resolve_sources(params, loaded)
        settings = loaded.settings
        selections = read_selections(params, settings)
        source_types = [load_source_type(name) for name in settings.source_names]
        return cls(loaded, selections, load_credentials(source_types, settings), expose_metrics)


def read_settings(params: Mapping[str, Any]) -> LoadedSettings:
    """
    Load the settings. The flags in *params* override variables, config file and defaults.

    Raises:
        ConfigError: A flag, a variable or a key is invalid.
    """
    flags = {key: value for key, value in params.items() if key in Settings.model_fields}
    louder, quieter = int(params.get("louder", 0)), int(params.get("quieter", 0))
    if louder or quieter:
        flags["verbose"] = max(-2, min(louder - quieter, 2))
    config = params.get("config")
    return load_settings(flags, parse_file("--config", config) if config else None)


@contextmanager
def configure_logging(loaded: LoadedSettings, credentials: CredentialSet) -> Iterator[Reporter]:
    """Write logs and progress bars to stderr inside the block, with all *credentials* masked."""
    for secret in credentials.secrets():
        register_secret(secret)
    settings = loaded.settings
    console = create_stderr_console()
    with log_to_console(console, settings.log_format, _log_verbosity(settings, console)):
        for warning in loaded.warnings:
            log.warning("settings.suspected", detail=warning)
        with show_progress(console, _kinds(settings), settings.progress) as reporter:
            yield reporter


def _kinds(settings: Settings) -> list[str]:
    """Return the kinds of the sources of the run."""
    return [kind for source in choose_sources(settings) for kind in source_spec(source).kind_names]


def _log_verbosity(settings: Settings, console: Console) -> int:
    """Return the verbosity of the log. Progress bars replace the log lines of a normal run."""
    if settings.log_format == "auto" and has_bars(console, settings.progress) and settings.verbose in (0, 1):
        return settings.verbose - 1
    return settings.verbose


def execute(request: RunRequest, work: Callable[[Downloader], Awaitable[T]]) -> tuple[T, ExitCode | None]:
    """
    Run *work* in a new event loop, with logs and progress on stderr; see ``run_downloader``.

    Logging ends after the loop, so that messages from the end of the loop are masked like the others.
    """
    with configure_logging(request.loaded, request.credentials) as reporter:
        return asyncio.run(run_downloader(request, work, reporter))


async def run_once(downloader: Downloader, request: RunRequest) -> tuple[Summary, str | None]:
    """Run the selections of *request*; return the summary and the report."""
    summary = await downloader.run(request.selections)
    return summary, downloader.report


async def run_downloader(
    request: RunRequest, work: Callable[[Downloader], Awaitable[T]], reporter: Reporter
) -> tuple[T, ExitCode | None]:
    """
    Open a downloader, await *work* with it, and close it. Signals stop the downloader.

    Returns:
        The result of *work*, and the exit code of the first signal, or None without a signal.
    """
    async with open_exporters(request) as exporters:
        if exporters.url is not None:
            reporter.report(StatusPageListening(exporters.url))
        try:
            downloader = Downloader(
                request.loaded.settings,
                credentials=request.credentials,
                reporter=Reporters(reporter, exporters),
            )

            def stop(cause: ExitCode) -> None:
                with suppress(DownloaderStateError):  # a signal may arrive after the end of the run
                    downloader.stop(cause)

            with handle_stop_signals(stop) as received:
                try:
                    async with downloader:
                        result = await work(downloader)
                # A signal may interrupt the observation of a stale lease.
                except (asyncio.CancelledError, OutputLockedError):
                    if received.exit_code is None:
                        raise
                    raise click.exceptions.Exit(int(received.exit_code)) from None
        except BaseException as error:  # the exporters report the exit code of an interrupt as well
            exporters.finish(_exit_code_after(error))
            raise
        if received.exit_code is not None:
            exporters.finish(received.exit_code)
        return result, received.exit_code


def open_exporters(
    request: RunRequest, service: ServiceViews | None = None
) -> AbstractAsyncContextManager[ExporterHandle]:
    """Start the exporters that the settings of *request* name; *service* as in ``start_exporters``."""
    settings = request.loaded.settings
    if not request.expose_metrics or (settings.listen is None and settings.metrics_file is None):
        return no_exporters()
    address = settings.listen
    output = request.output
    state = create_state(output, settings.state, shard=settings.shard).path
    return start_exporters(
        version=__version__,
        kinds=_kinds(settings),
        output=output if isinstance(output, Path) else state,
        state=state,
        listen=(address.host, address.port) if address else None,
        metrics_file=settings.metrics_file,
        service=service,
    )


def _exit_code_after(error: BaseException) -> int:
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    return exit_code_of(error) if isinstance(error, BulkdlError) else ExitCode.BUG
