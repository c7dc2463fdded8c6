"""``bulkdl unpack``: unpack downloaded archives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from bulkdl.cli import options
from bulkdl.cli.context import RunRequest, execute, read_selection, read_settings
from bulkdl.cli.help import Command, Group
from bulkdl.cli.render import show_summary
from bulkdl.errors import ConfigError
from bulkdl.models import UnpackMode
from bulkdl.settings import CredentialSet

_FILTERS = ("since", "since_overlap", "until", "status", "mode", "name", "workflow")


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
    settings = loaded.settings
    settings.require_output()
    mode = UnpackMode.REPLACE if params["replace"] else UnpackMode.KEEP
    loaded = replace(loaded, settings=settings.model_copy(update={"unpack": mode, "processors": ()}))
    request = RunRequest(loaded, read_selection(params, settings), CredentialSet())
    summary, signal_code = execute(request, lambda downloader: downloader.process(request.selection))
    summary = summary.after_signal(signal_code)
    show_summary(summary, request.output, params["result_format"])
    return int(summary.exit_code)


def _reject_filters(params: Mapping[str, Any]) -> None:
    """Reject flags that compare values of jobs: the ledger does not have all of these values."""
    for name in _FILTERS:
        if params[name] is not None:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(
                flag, "is not supported by bulkdl unpack; use --project, --job, --scope or --shard"
            )
