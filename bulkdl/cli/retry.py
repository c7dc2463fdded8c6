"""``bulkdl retry``: download failed outputs again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

import click

from bulkdl.cli import options
from bulkdl.cli.context import RunRequest, carry_out
from bulkdl.cli.help import Command, Group
from bulkdl.cli.inputs import output_of
from bulkdl.cli.output import emit_json, emit_lines
from bulkdl.cli.render import show_summary
from bulkdl.errors import ConfigError
from bulkdl.maintenance.retry import REASONS, retry_selection
from bulkdl.models import Reason
from bulkdl.report.summary import SummaryBuilder


@click.command(cls=Command, example="bulkdl retry --reason stalled --reason throttled -o outputs")
@options.option(
    "--reason",
    "reasons",
    metavar="REASON",
    multiple=True,
    envvar="BULKDL_REASON",
    help="only outputs with this reason, such as stalled or not_available; repeatable",
    group=Group.SELECTION,
)
@options.selection
@options.output
@options.transfer()
@options.monitoring
@options.result_format("table", "json")
@options.common()
def retry(reasons: tuple[str, ...], **params: Any) -> int:
    """
    Download failed outputs, outputs not available before, and files that bulkdl verify --repair rejected.

    The ledger contains these outputs, so the command lists no projects. The options of Selection narrow
    them.
    """
    wanted = [reason_of(text) for value in reasons for text in value.replace(",", " ").split()]
    order = RunRequest.read(params)
    output = output_of(order.loaded.settings)
    selection = asyncio.run(retry_selection(output, order.selection, wanted))
    if selection is None:
        _tell_nothing(wanted, params["result_format"])
        return 0
    order = replace(order, selection=selection)
    summary, signalled = carry_out(order, lambda downloader: downloader.run(order.selection))
    summary = summary.after_signal(signalled)
    show_summary(summary, output, params["result_format"])
    return int(summary.exit_code)


def reason_of(text: str) -> Reason:
    """
    The reason of that name.

    Raises:
        ConfigError: There is none, or it is nothing to try again for.
    """
    names = [reason.value for reason in REASONS]
    if text in names:
        return Reason(text)
    near = get_close_matches(text.lower().replace("-", "_"), names, n=1, cutoff=0.5)
    proposal = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
    raise ConfigError("--reason", f"{text[:60]!r} is none that can be tried again; {proposal}")


def _tell_nothing(wanted: Iterable[Reason], result_format: str) -> None:
    if result_format == "json":
        now = datetime.now(UTC)
        emit_json({**SummaryBuilder("", now).build(now).as_dict(), "run_id": None})
        return
    named = ", ".join(wanted)
    emit_lines(
        f"nothing to retry: nothing ended with {named}" if named else "nothing to retry: nothing failed"
    )
