"""The catalogue at the end of a run. Its modules are loaded only if a run writes one."""

from __future__ import annotations

from pathlib import Path

from bulkdl.errors import ConfigError
from bulkdl.failure_policy import ExitCode
from bulkdl.log import get_logger
from bulkdl.report.summary import Summary
from bulkdl.settings import Settings

log = get_logger(__name__)

_COMPLETE_EXITS = frozenset({ExitCode.OK, ExitCode.FAILED, ExitCode.TEMPORARY})


def catalog_after(
    settings: Settings, summary: Summary, result_format: str, signal_code: ExitCode | None
) -> None:
    """
    Write the catalogue at the end of a run, if the settings enable it.

    A run that was stopped, or ended with another failure than that of single outputs, has no catalogue.
    """
    if signal_code is not None or not has_catalog(settings, summary):
        return
    from bulkdl.cli.catalog import show_catalog, write_catalog_of  # noqa: PLC0415 - slow to import

    result = write_catalog_of(settings)
    if result_format != "json":  # stdout has one JSON document, the summary
        show_catalog(result, settings, result_format)


def has_catalog(settings: Settings, summary: Summary) -> bool:
    """Return whether the settings enable a catalogue and the run of *summary* was complete."""
    return settings.catalog and summary.exit_code in _COMPLETE_EXITS


async def catalog_after_service_run(settings: Settings, summary: Summary) -> None:
    """Write the catalogue after a run of the service, if it has one."""
    if not has_catalog(settings, summary):
        return
    from bulkdl.cli.catalog import write_catalog_async  # noqa: PLC0415 - slow to import
    from bulkdl.processors.catalog.build import default_formats  # noqa: PLC0415

    result = await write_catalog_async(settings, default_formats(), {})
    log.info("serve.catalog_written", entries=result.entries, containers=result.containers)


def require_local_output(settings: Settings) -> None:
    """
    Check before a run that its catalogue can be written.

    Raises:
        ConfigError: The output directory is not local.
    """
    if settings.catalog and not isinstance(settings.require_output(), Path):
        raise ConfigError("--catalog", "needs a local output directory")
