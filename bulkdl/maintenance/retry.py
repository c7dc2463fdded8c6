"""Select the containers of a ledger that have outputs to retry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bulkdl.destinations.network import UploadOptions
from bulkdl.errors import LedgerMissingError
from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.ledger import maintenance_queries
from bulkdl.models import Reason
from bulkdl.selection import ContainerSelector, Selection
from bulkdl.state.readable_ledger import open_readable_ledger
from bulkdl.state.storage import create_storage

REASONS = (*FAILURE_POLICIES, Reason.NOT_AVAILABLE)
"""The reasons that can be retried: all failures, and outputs that were not available."""


@dataclass(frozen=True, slots=True)
class RetrySelection:
    """
    What a retry downloads.

    Attributes:
        selections: The selections that have outputs to retry; each contains the IDs of its containers.
        other_sources: Sources that have outputs to retry in the ledger, but no selection.
    """

    selections: tuple[Selection, ...]
    other_sources: tuple[str, ...]


async def select_retries(
    output: Path | str,
    selections: Sequence[Selection],
    reasons: Iterable[Reason] = (),
    *,
    state: Path | None = None,
    uploads: UploadOptions | None = None,
) -> RetrySelection:
    """
    Restrict *selections* to outputs with one of *reasons*.

    Without reasons, all failed outputs and the files that ``verify --repair`` rejected are selected. The
    result contains the IDs of the containers, so that a run lists no scope. It has no watermark.

    Args:
        selections: One for each source, all with the same shard.
        uploads: For a destination that is reached over the network.

    Raises:
        LedgerMissingError: There is no ledger.
        LedgerError: The ledger cannot be read.
    """
    selected: frozenset[Reason | None] = frozenset(reasons) or frozenset((*REASONS, None))
    async with (
        create_storage(output, state, shard=selections[0].shard, uploads=uploads) as storage,
        open_readable_ledger(storage) as ledger,
    ):
        if ledger is None:
            raise LedgerMissingError(storage.state.setting)
        containers = await ledger.read(
            partial(maintenance_queries.find_containers_to_retry, reasons=selected)
        )
    by_source: dict[str, list[ContainerSelector]] = {}
    for container in containers:
        by_source.setdefault(container.source, []).append(ContainerSelector(container.scope, container.id))
    restricted = []
    for selection in selections:
        refs = _filter_by_ids(by_source.pop(selection.source, []), selection)
        if refs:
            restricted.append(replace(selection, containers=refs, reasons=selected, since_last_s=None))
    return RetrySelection(tuple(restricted), tuple(by_source))


def _filter_by_ids(refs: Iterable[ContainerSelector], selection: Selection) -> tuple[ContainerSelector, ...]:
    """Apply the container and scope IDs of *selection*. The enumeration applies the other filters."""
    selected = frozenset(selection.containers)
    if selected:
        return tuple(ref for ref in refs if {ref, ContainerSelector(None, ref.container_id)} & selected)
    scopes = selection.scopes
    return tuple(ref for ref in refs if not scopes or ref.scope in scopes)
