"""``bulkdl plan``: list the missing outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from bulkdl.cli import options
from bulkdl.cli.context import RunRequest, execute
from bulkdl.cli.help import Command
from bulkdl.cli.render import show_plan


@click.command(
    cls=Command, example="bulkdl plan --since 2022-01-01 --until 2022-12-31 --format json -o outputs"
)
@options.selection
@options.output
@options.transfer(listing_only=True)
@options.result_format("table", "json")
@options.common()
def plan(**params: Any) -> int:
    """
    List the outputs that bulkdl run would download, without downloading them.

    The command does not create or change the output directory.
    """
    return print_plan(params)


def print_plan(params: Mapping[str, Any]) -> int:
    """List the missing outputs and print them. ``run --dry-run`` also calls this function."""
    request = RunRequest.from_params(params, expose_metrics=False)
    result, signal_code = execute(request, lambda downloader: downloader.plan(request.selections))
    show_plan(result, params["result_format"])
    return int(signal_code or result.summary.exit_code)
