"""``bulkdl run``: download missing outputs."""

from __future__ import annotations

from typing import Any

import click

from bulkdl.cli import options
from bulkdl.cli.context import RunRequest, execute, run_once
from bulkdl.cli.help import Command
from bulkdl.cli.notification import notify_after, read_notifier
from bulkdl.cli.plan import print_plan
from bulkdl.cli.render import show_summary
from bulkdl.cli.run_catalog import catalog_after, require_local_output


@click.command(cls=Command, example="bulkdl run --since 7d --only archive,geojson -o outputs")
@options.selection
@options.output
@options.transfer()
@options.monitoring
@options.option(
    "--dry-run",
    is_flag=True,
    envvar="BULKDL_DRY_RUN",
    help="list the missing outputs only, as bulkdl plan does",
)
@options.result_format("table", "json")
@options.common()
def run(**params: Any) -> int:
    """
    Download all selected outputs that are missing in the output directory.

    An interrupted run resumes when the same command runs again. The first Ctrl-C lets running downloads
    finish within --shutdown-timeout, the second one stops them, the third one exits immediately.
    """
    if params["dry_run"]:
        return print_plan(params)
    request = RunRequest.from_params(params, expose_metrics=True)
    settings = request.loaded.settings
    require_local_output(settings)
    notifier = read_notifier(settings)
    (summary, report), signal_code = execute(request, lambda downloader: run_once(downloader, request))
    summary = summary.after_signal(signal_code)
    show_summary(summary, request.output, params["result_format"])
    catalog_after(settings, summary, params["result_format"], signal_code)
    notify_after(notifier, request, report, signal_code)
    return int(summary.exit_code)
