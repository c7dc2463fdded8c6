"""Stores the report of a run."""

from __future__ import annotations

from functools import partial

from bulkdl.errors import DestinationError
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.run_context import LockedRun
from bulkdl.ledger import queries
from bulkdl.log import get_logger
from bulkdl.printable import json_text
from bulkdl.report.run_report import run_report
from bulkdl.report.summary import Summary
from bulkdl.selection import SelectionBySource
from bulkdl.settings import Settings
from bulkdl.telemetry.events import RunFinished

log = get_logger(__name__)


async def store_report(
    run: LockedRun, selections: SelectionBySource, settings: Settings, summary: Summary
) -> tuple[Summary, str]:
    """
    Store the report of the run and the last snapshot of the ledger; return the summary and the report.

    A full disk is logged and does not hide the result. A snapshot that cannot be published is a problem of
    the run.
    """
    document = await _record_end(run, selections, settings, summary)
    if not await _publish_snapshot(run):
        summary = run.recorder.summary.build(stopped_by=run.shutdown.cause)
        document = await _record_end(run, selections, settings, summary)
    log.info(
        "run.finished",
        exit_code=int(summary.exit_code),
        duration_s=round(summary.duration_s, 3),
        downloaded_bytes=summary.downloaded_bytes,
    )
    run.reporter.report(RunFinished(summary.finished_at, int(summary.exit_code)))
    return summary, document


async def _publish_snapshot(run: LockedRun) -> bool:
    """Publish the last snapshot; return False and record a problem if that fails."""
    shared = run.storage.shared_state
    if shared is None:
        return True
    try:
        await shared.publish_last(run.ledger)
    except DestinationError as failure:
        location = run.storage.destination.location
        run.recorder.record_problem(failure.reason, f"state snapshot in {location}", failure.detail)
        return False
    return True


async def _record_end(
    run: LockedRun, selections: SelectionBySource, settings: Settings, summary: Summary
) -> str:
    document = json_text(run_report(summary, selections.values(), settings), indent=1)
    finish = partial(
        queries.finish_run,
        run_id=summary.run_id,
        exit_code=int(summary.exit_code),
        summary=document,
        exit_codes={source: int(part.exit_code) for source, part in summary.sources.items()},
    )
    try:
        await run.ledger.write(finish)
        await run.storage.state.write_report(summary.run_id, document.encode())
        if summary.exit_code is ExitCode.OK:
            await run.ledger.remove_copies()
    except DestinationError as failure:
        log.warning("report.failed", reason=failure.reason.value, detail=failure.detail)
    return document
