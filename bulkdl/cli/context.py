"""
Run a downloader for a command: read the inputs, configure logs and progress, and handle signals.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from bulkdl import __version__
from bulkdl.cli.exit_codes import exit_code_of
from bulkdl.cli.signals import handle_stop_signals
from bulkdl.errors import BulkdlError, ConfigError, DownloaderStateError, OutputLockedError
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.downloader import Downloader
from bulkdl.log import get_logger
from bulkdl.redaction import register_secret
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet, LoadedSettings, Settings, choose_source, load_settings
from bulkdl.settings.parsers import parse_path
from bulkdl.settings.source_choice import STORAGE
from bulkdl.source_spec import AUTO, source_spec
from bulkdl.sources.registry import load_source_type
from bulkdl.state.storage import create_state
from bulkdl.telemetry.console_logging import create_stderr_console, log_to_console
from bulkdl.telemetry.events import Reporter, Reporters, StatusPageListening
from bulkdl.telemetry.exporters import ExporterHandle, no_exporters, start_exporters
from bulkdl.telemetry.progress import has_bars, progress_on

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
    selection: Selection
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
        loaded = resolve_source(params, loaded)
        selection = read_selection(params, loaded.settings)
        credentials = load_source_type(loaded.settings.source).load_credentials(loaded.settings)
        return cls(loaded, selection, credentials, expose_metrics)


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
    return load_settings(flags, _parse_path("--config", config) if config else None)


def resolve_source(params: Mapping[str, Any], loaded: LoadedSettings) -> LoadedSettings:
    """Return *loaded* with the source of the run instead of ``auto``."""
    settings = loaded.settings
    names_storage = bool(params.get("collection_ids") or settings.workspace or settings.order)
    job_ids = params.get("job_ids", ())
    names_projects = bool(params.get("project_ids")) or (bool(job_ids) and all("/" in job for job in job_ids))
    if settings.source == AUTO and names_storage and not names_projects:
        source = STORAGE
    else:
        source = choose_source(settings, has_projects=names_projects)
    sources = {**loaded.sources, "source": "auto"} if settings.source == AUTO else loaded.sources
    return replace(loaded, settings=settings.model_copy(update={"source": source}), sources=sources)


def read_selection(params: Mapping[str, Any], settings: Settings) -> Selection:
    """
    Build the selection from the flags in *params* and from *settings*.

    Raises:
        ConfigError: An ID is invalid, or the jobs file cannot be read or contains invalid lines.
    """
    name = params.get("jobs_file")
    return Selection.of(
        settings,
        projects=params.get("project_ids", ()),
        jobs=params.get("job_ids", ()),
        collections=params.get("collection_ids", ()),
        jobs_file_lines=_read_lines(name) if name else None,
        jobs_file_name="stdin" if name == "-" else str(name),
    )


def _parse_path(option: str, name: str) -> Path:
    try:
        return parse_path(Path(name))
    except ValueError as error:
        raise ConfigError(option, str(error)) from None


def _read_lines(name: str) -> list[str]:
    try:
        data = sys.stdin.buffer.read() if name == "-" else _parse_path("--jobs-file", name).read_bytes()
    except OSError as error:
        raise ConfigError("--jobs-file", f"{name} cannot be read: {error.strerror}") from error
    # Invalid UTF-8 becomes escape sequences. The parser rejects them and names the line.
    return data.decode("utf-8", "backslashreplace").splitlines()


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
        with progress_on(
            console, source_spec(choose_source(settings)).kind_names, settings.progress
        ) as reporter:
            yield reporter


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


async def run_downloader(
    request: RunRequest, work: Callable[[Downloader], Awaitable[T]], reporter: Reporter
) -> tuple[T, ExitCode | None]:
    """
    Open a downloader, await *work* with it, and close it. Signals stop the downloader.

    Returns:
        The result of *work*, and the exit code of the first signal, or None without a signal.
    """
    async with _open_exporters(request) as exporters:
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


def _open_exporters(request: RunRequest) -> AbstractAsyncContextManager[ExporterHandle]:
    settings = request.loaded.settings
    if not request.expose_metrics or (settings.listen is None and settings.metrics_file is None):
        return no_exporters()
    address = settings.listen
    output = request.output
    state = create_state(output, settings.state, shard=settings.shard).path
    return start_exporters(
        version=__version__,
        kinds=source_spec(choose_source(settings)).kind_names,
        output=output if isinstance(output, Path) else state,
        state=state,
        listen=(address.host, address.port) if address else None,
        metrics_file=settings.metrics_file,
    )


def _exit_code_after(error: BaseException) -> int:
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    return exit_code_of(error) if isinstance(error, BulkdlError) else ExitCode.BUG
