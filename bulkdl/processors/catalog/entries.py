"""Create the entries of a container of any source."""

from __future__ import annotations

from collections.abc import Callable

from bulkdl.processors.catalog.deliveries import create_delivery_entries
from bulkdl.processors.catalog.entry_building import EntryFactory, is_completed
from bulkdl.processors.catalog.facts import CatalogContainer, CatalogEntry
from bulkdl.processors.catalog.files import output_file
from bulkdl.processors.catalog.ids import container_folder
from bulkdl.processors.catalog.jobs import create_job_entries
from bulkdl.processors.catalog.output_tree import OutputTree, clean
from bulkdl.processors.catalog.records import LedgerContainer

VERSION = 2
"""
Changes when the same files give other entries or other texts of writers. Then the next catalogue is written
completely.
"""

_Create = Callable[[LedgerContainer, OutputTree], tuple[CatalogEntry, ...]]


def create_entries(container: LedgerContainer, tree: OutputTree) -> tuple[CatalogEntry, ...]:
    """Return the entries of *container*: by the rules of its source, otherwise one for each output."""
    return _BY_SOURCE.get(container.source, _create_output_entries)(container, tree)


def create_container(
    container: LedgerContainer,
    entries: tuple[CatalogEntry, ...],
    *,
    is_unchanged: bool = False,
) -> CatalogContainer:
    """Return *container* with its *entries* as the writers receive it."""
    return CatalogContainer(
        source=container.source,
        scope_id=container.scope,
        scope_name="",
        id=container.id,
        name=clean(container.name),
        status=container.status,
        folder=container_folder(container.scope, container.id),
        created_at=container.created_at,
        finished_at=container.finished_at,
        entries=entries,
        failure=container.failure,
        failure_detail=clean(container.failure_detail),
        is_unchanged=is_unchanged,
    )


def _create_output_entries(container: LedgerContainer, tree: OutputTree) -> tuple[CatalogEntry, ...]:
    """Return an entry for each output of another source."""
    factory = EntryFactory(tree, container)
    entries = []
    for output in container.outputs:
        name = output.name or output.key.rpartition("/")[2]
        files = [output_file(tree, output, "data", "data")] if is_completed(output, tree) else []
        entry = factory.create(
            output,
            names=[name],
            files=files,
            datetime_source="container",
            start=container.created_at,
            end=container.finished_at or container.created_at,
        )
        entries.append(entry)
    return tuple(entries)


_BY_SOURCE: dict[str, _Create] = {"jobs": create_job_entries, "storage": create_delivery_entries}
