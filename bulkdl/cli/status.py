"""``bulkdl status``: show the content of the ledgers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from bulkdl.cli import options
from bulkdl.cli.help import Command
from bulkdl.cli.inputs import output_of, settings_from
from bulkdl.cli.output import emit_csv, emit_json, emit_lines
from bulkdl.cli.render import show_status
from bulkdl.cli.streams import output_error
from bulkdl.maintenance.status import all_failures, failure_dict, read_status
from bulkdl.report.status import COUNT_COLUMNS, FAILURE_COLUMNS


@click.command(cls=Command, example="bulkdl status -o outputs --failures --format csv > failures.csv")
@options.output
@options.option("--failures", is_flag=True, help="list all failures, one per line (JSON lines with json)")
@options.result_format("table", "json", "csv")
@options.common(network=False, logs=False)
def status(**params: Any) -> int:
    """
    Show the outputs in the ledger by kind and state, and the failures with their reasons.

    The command reads the ledger only. It works during a run and changes nothing. For a directory that
    contains the output directories of shards, it adds up their ledgers.
    """
    output = output_of(settings_from(params).settings)
    result_format = params["result_format"]
    if params["failures"]:
        asyncio.run(_tell_failures(output, result_format))
        return 0
    found = asyncio.run(read_status(output))
    if result_format == "csv":
        emit_csv(COUNT_COLUMNS, found.rows())
    else:
        show_status(found, result_format)
    return 0


async def _tell_failures(output: Path, result_format: str) -> None:
    """One line each, as they are read: there may be a million."""
    header = result_format == "csv"
    async for ledger, failed in all_failures(output):
        row = failure_dict(failed, ledger)
        if result_format == "json":
            emit_json(row)
        elif result_format == "csv":
            emit_csv(FAILURE_COLUMNS, [[row[column] for column in FAILURE_COLUMNS]], header_too=header)
            header = False
        else:
            emit_lines(_line(row))
        if output_error() is not None:
            return  # the reader has gone: do not read a million rows for it
    if header:
        emit_csv(FAILURE_COLUMNS, ())


def _line(row: dict[str, object]) -> str:
    parts = (row[part] for part in ("project_id", "job_id", "task_id", "kind", "name"))
    where = "/".join(str(part) for part in parts if part)
    return f"failed: {where}: {row['reason']}: {row['detail']}; {row['hint']}"
