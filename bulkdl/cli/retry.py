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
from bulkdl.cli.context import RunRequest, execute, run_once
from bulkdl.cli.help import Command, Group
from bulkdl.cli.notification import notify_after, read_notifier
from bulkdl.cli.render import show_summary, write_json, write_lines
from bulkdl.cli.run_catalog import catalog_after, require_local_output
from bulkdl.errors import ConfigError
from bulkdl.graph.upload_options import upload_options
from bulkdl.maintenance.retry import REASONS, select_retries
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

    The ledger contains these outputs, so the command lists no containers. The options of Selection narrow
    them.
    """
    chosen = [parse_reason(text) for value in reasons for text in value.replace(",", " ").split()]
    request = RunRequest.from_params(params, expose_metrics=True)
    settings, output = request.loaded.settings, request.output
    require_local_output(settings)
    notifier = read_notifier(settings)
    uploads = upload_options(settings)
    retried = asyncio.run(
        select_retries(output, request.selections, chosen, state=settings.state, uploads=uploads)
    )
    if not retried.selections:
        _report_nothing_to_retry(chosen, retried.other_sources, params["result_format"])
        return 0
    request = replace(request, selections=retried.selections)
    (summary, report), signal_code = execute(request, lambda downloader: run_once(downloader, request))
    summary = summary.after_signal(signal_code)
    show_summary(summary, output, params["result_format"])
    catalog_after(settings, summary, params["result_format"], signal_code)
    notify_after(notifier, request, report, signal_code)
    return int(summary.exit_code)


def parse_reason(text: str) -> Reason:
    """
    Return the reason with the name *text*.

    Raises:
        ConfigError: The name is unknown, or outputs with this reason cannot be retried.
    """
    names = [reason.value for reason in REASONS]
    if text in names:
        return Reason(text)
    near = get_close_matches(text.lower().replace("-", "_"), names, n=1, cutoff=0.5)
    proposal = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
    raise ConfigError("--reason", f"{text[:60]!r} is not a retryable reason; {proposal}")


def _report_nothing_to_retry(
    reasons: Iterable[Reason], other_sources: Iterable[str], result_format: str
) -> None:
    if result_format == "json":
        now = datetime.now(UTC)
        write_json({**SummaryBuilder("", now).build(now).as_dict(), "run_id": None})
        return
    names = ", ".join(reasons)
    wanted = f"outputs with {names}" if names else "failures"
    others = ", ".join(other_sources)
    if others:
        write_lines(
            f"nothing to retry: the ledger contains {wanted} of another source only; add --source {others}"
        )
    else:
        write_lines(f"nothing to retry: the ledger contains no {wanted}")
