"""``bulkdl status``: what the ledger knows."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from bulkdl.cli import options
from bulkdl.cli.inputs import output_of, settings_from
from bulkdl.cli.show import show_status
from bulkdl.graph.status import read_status


@click.command(epilog="Example:  bulkdl status -o outputs --format json | jq .failures_total")
@options.output
@options.result_format
@options.common
def status(**params: Any) -> int:
    """Show outputs by kind and state, and failures with their reasons. Asks nobody but the ledger."""
    output = output_of(settings_from(params).settings)
    show_status(asyncio.run(read_status(output)), params["result_format"])
    return 0
