"""``bulkdl plan``: list the missing outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from bulkdl.cli import options
from bulkdl.cli.context import RunRequest, carry_out
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
    """List the missing outputs and print them; used by ``run --dry-run`` too."""
    order = RunRequest.read(params)
    result, signalled = carry_out(order, lambda downloader: downloader.plan(order.selection))
    show_plan(result, params["result_format"])
    return int(signalled or result.summary.exit_code)
