"""Select the jobs of a ledger that contain outputs to retry."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from bulkdl.errors import LedgerMissingError
from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.ledger import maintenance_queries
from bulkdl.ledger.database import Ledger
from bulkdl.models import Reason
from bulkdl.selection import ContainerSelector, Selection
from bulkdl.state.storage import create_state

REASONS = (*FAILURE_POLICIES, Reason.NOT_AVAILABLE)
"""The reasons that can be retried: all failures, and outputs that were not available."""


async def retry_selection(
    output: Path | str,
    selection: Selection,
    reasons: Iterable[Reason] = (),
    *,
    state: Path | None = None,
) -> Selection | None:
    """
    Restrict *selection* to outputs with one of *reasons*; return None if there is no such output.

    Without reasons, all failed outputs and the files that ``verify --repair`` rejected are selected. The
    result contains the IDs of the jobs, so that a run does not list projects. It has no watermark.

    Raises:
        LedgerMissingError: There is no ledger.
        LedgerError: The ledger cannot be read.
    """
    directory = create_state(output, state, shard=selection.shard)
    path = directory.ledger_path
    if not await asyncio.to_thread(path.is_file):
        raise LedgerMissingError(directory.setting)
    await asyncio.to_thread(directory.check_destination)
    selected: frozenset[Reason | None] = frozenset(reasons) or frozenset((*REASONS, None))
    ledger = await Ledger.open(path, read_only=True)
    try:
        containers = await ledger.read(
            partial(maintenance_queries.find_containers_to_retry, reasons=selected)
        )
    finally:
        await ledger.close()
    refs = _filter_jobs(
        (ContainerSelector(container.scope, container.id) for container in containers), selection
    )
    return replace(selection, containers=refs, reasons=selected, since_last_s=None) if refs else None


def _filter_jobs(refs: Iterable[ContainerSelector], selection: Selection) -> tuple[ContainerSelector, ...]:
    """Apply the job and project IDs of *selection*. The enumeration applies the other filters."""
    selected = frozenset(selection.containers)
    if selected:
        return tuple(ref for ref in refs if {ref, ContainerSelector(None, ref.container_id)} & selected)
    projects = selection.scopes
    return tuple(ref for ref in refs if not projects or ref.scope in projects)
