"""Which jobs of a ledger have something to try again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from bulkdl.destinations.local.destination import STATE_FOLDER
from bulkdl.errors import LedgerMissingError
from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.ledger import maintenance_queries
from bulkdl.ledger.database import LEDGER_NAME, Ledger
from bulkdl.models import Reason
from bulkdl.selection import JobRef, Selection

REASONS = (*FAILURE_POLICIES, Reason.NOT_AVAILABLE)
"""What can be tried again: every failure, and what UP42 did not have then."""


async def retry_selection(
    output: Path, selection: Selection, reasons: Iterable[Reason] = ()
) -> Selection | None:
    """
    *selection* narrowed to what ended for one of *reasons*; None when there is no such job.

    Without reasons: everything that failed, and the files that ``verify --repair`` has rejected.
    The jobs are named one by one, so that a run with it lists no project; no watermark holds.

    Raises:
        LedgerMissingError: There is no ledger.
        LedgerError: It cannot be read.
    """
    path = output / STATE_FOLDER / LEDGER_NAME
    if not await asyncio.to_thread(path.is_file):
        raise LedgerMissingError(output)
    wanted: frozenset[Reason | None] = frozenset(reasons) or frozenset((*REASONS, None))
    ledger = await Ledger.open(path, read_only=True)
    try:
        found = await ledger.read(partial(maintenance_queries.jobs_to_retry, reasons=wanted))
    finally:
        await ledger.close()
    refs = _asked_for((JobRef(*ids) for ids in found), selection)
    return replace(selection, jobs=refs, reasons=wanted, since_last_s=None) if refs else None


def _asked_for(found: Iterable[JobRef], selection: Selection) -> tuple[JobRef, ...]:
    """Those whose ids fit; the other filters are for the enumeration, which has the whole job."""
    asked = frozenset(selection.jobs)
    if asked:
        return tuple(ref for ref in found if {ref, JobRef(None, ref.job_id)} & asked)
    projects = selection.project_ids
    return tuple(ref for ref in found if not projects or ref.project_id in projects)
