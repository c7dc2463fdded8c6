"""``bulkdl status``: show the content of the ledgers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from bulkdl.cli import options
from bulkdl.cli.context import read_settings
from bulkdl.cli.help import Command
from bulkdl.cli.render import show_status, write_csv, write_json, write_lines
from bulkdl.cli.streams import output_error
from bulkdl.destinations.network import UploadOptions
from bulkdl.graph.upload_options import upload_options
from bulkdl.maintenance.status import all_failures, failure_dict, read_status
from bulkdl.report.status import COUNT_COLUMNS, FAILURE_COLUMNS
from bulkdl.source_spec import OUTPUT_KEYS


@click.command(cls=Command, example="bulkdl status -o outputs --failures --format csv > failures.csv")
@options.output
@options.option(
    "--failures",
    is_flag=True,
    envvar="BULKDL_FAILURES",
    help="list all failures, one per line (JSON lines with json)",
)
@options.result_format("table", "json", "csv")
@options.common(network=False, logs=False)
def status(**params: Any) -> int:
    """
    Show the outputs in the ledger by source, kind and state, and the failures with their reasons.

    The command reads the ledger only. It works during a run and changes nothing. For a directory that
    contains the output directories of shards, it adds up their ledgers.
    """
    settings = read_settings(params).settings
    output, state = settings.require_output(), settings.state
    result_format, uploads = params["result_format"], upload_options(settings)
    if params["failures"]:
        asyncio.run(_print_failures(output, state, result_format, uploads))
        return 0
    content = asyncio.run(read_status(output, state, uploads))
    if result_format == "csv":
        write_csv(COUNT_COLUMNS, content.rows())
    else:
        show_status(content, result_format)
    return 0


async def _print_failures(
    output: Path | str, state: Path | None, result_format: str, uploads: UploadOptions
) -> None:
    """Print one line per failure while the ledger is read, because there can be a million failures."""
    header = result_format == "csv"
    async for ledger, failed in all_failures(output, state, uploads):
        row = failure_dict(failed, ledger)
        if result_format == "json":
            write_json(row)
        elif result_format == "csv":
            write_csv(tuple(row), [list(row.values())], with_header=header)
            header = False
        else:
            write_lines(_line(row))
        if output_error() is not None:
            return  # stdout is closed: do not read the other rows
    if header:
        write_csv(FAILURE_COLUMNS, ())


def _line(row: dict[str, object]) -> str:
    output = "/".join(str(row[key]) for key in OUTPUT_KEYS if key != "source" and row[key])
    return f"failed: {output}: {row['reason']}: {row['detail']}; {row['hint']}"
