"""``bulkdl unpack``: unpack downloaded archives."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import click

from bulkdl.cli import options
from bulkdl.cli.context import configure_logging, read_settings
from bulkdl.cli.help import Command, Group
from bulkdl.cli.render import show_summary
from bulkdl.cli.signals import handle_stop_signals
from bulkdl.cli.source_selection import read_recorded_selections
from bulkdl.errors import ConfigError, OutputLockedError
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.run_processors import ProcessorRunner
from bulkdl.models import UnpackMode
from bulkdl.report.summary import Summary
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet

_FILTERS = (*("since", "since_overlap", "until", "status", "mode", "name", "workflow", "workspace", "order"),)


@click.command(cls=Command, example="bulkdl unpack --job 5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d -o outputs")
@options.selection
@options.output
@options.option(
    "--replace",
    is_flag=True,
    envvar="BULKDL_REPLACE",
    help="delete the archives that are unpacked completely",
    group=Group.DESTINATION,
)
@options.result_format("table", "json")
@options.common(network=False)
def unpack(**params: Any) -> int:
    """
    Unpack the downloaded archives of an output directory.

    The command sends no requests and needs no credentials. It processes archives that are not unpacked yet.
    An archive gets a folder next to it, with regular files and folders only. The archive is kept, except with
    --replace.
    """
    _reject_filters(params)
    loaded = read_settings(params)
    mode = UnpackMode.REPLACE if params["replace"] else UnpackMode.KEEP
    settings = loaded.settings.model_copy(update={"unpack": mode, "processors": ()})
    output = settings.require_output()
    selections = read_recorded_selections(params, loaded)
    with configure_logging(replace(loaded, settings=settings), CredentialSet()) as reporter:
        runner = ProcessorRunner(settings, reporter=reporter)
        summary, signal_code = asyncio.run(_run(runner, selections))
    summary = summary.after_signal(signal_code)
    show_summary(summary, output, params["result_format"])
    return int(summary.exit_code)


async def _run(runner: ProcessorRunner, selections: Sequence[Selection]) -> tuple[Summary, ExitCode | None]:
    with handle_stop_signals(runner.stop) as received:
        try:
            summary = await runner.run(selections)
        except (asyncio.CancelledError, OutputLockedError):  # a signal may interrupt the wait for the lease
            if received.exit_code is None:
                raise
            raise click.exceptions.Exit(int(received.exit_code)) from None
    return summary, received.exit_code


def _reject_filters(params: Mapping[str, Any]) -> None:
    """Reject flags that compare values of containers: the ledger does not have all of these values."""
    for name in _FILTERS:
        if params.get(name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(
                flag, "is not supported by bulkdl unpack; use --project, --job, --collection or --shard"
            )
