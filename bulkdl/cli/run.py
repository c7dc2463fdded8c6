"""``bulkdl run``: fetch what is not there yet."""

from __future__ import annotations

from typing import Any

import click

from bulkdl.cli import options
from bulkdl.cli.plan import tell_plan
from bulkdl.cli.session import Order, carry_out
from bulkdl.cli.show import show_summary


@click.command(epilog="Example:  bulkdl run --since 7d --only archive,geojson -o outputs")
@options.selection
@options.output
@options.pools
@options.outside
@click.option("--dry-run", is_flag=True, envvar="BULKDL_DRY_RUN", help="the same as plan  [BULKDL_DRY_RUN]")
@options.result_format
@options.common
def run(**params: Any) -> int:
    """
    Fetch every selected output that is not there yet.

    Stopped at any moment, it goes on where it was when it is run again. The first Ctrl-C lets
    what is in flight end within the grace, the second stops it, the third ends the process.
    """
    if params["dry_run"]:
        return tell_plan(params)
    order = Order.read(params)
    summary, signalled = carry_out(order, lambda downloader: downloader.run(order.selection))
    summary = summary.after_signal(signalled)
    show_summary(summary, params["result_format"])
    return int(summary.exit_code)
