"""``bulkdl plan``: what a run would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from bulkdl.cli import options
from bulkdl.cli.session import Order, carry_out
from bulkdl.cli.show import show_plan


@click.command(epilog="Example:  bulkdl plan --since 2022-01-01 --until 2022-12-31 --format json -o outputs")
@options.selection
@options.output
@options.pools
@options.result_format
@options.common
def plan(**params: Any) -> int:
    """
    List what run would fetch, without fetching a byte of output.

    The directory stays as it was; one that is not there is not made.
    """
    return tell_plan(params)


def tell_plan(params: Mapping[str, Any]) -> int:
    """Enumerate and tell; also what ``run --dry-run`` does."""
    order = Order.read(params)
    result, signalled = carry_out(order, lambda downloader: downloader.plan(order.selection))
    show_plan(result, params["result_format"])
    return int(signalled or result.summary.exit_code)
