"""
Archives that their unpacked members replace.

An archive whose file is missing counts as present as long as all of its members are there with their sizes.
With ``--unpack replace``, the archives are deleted at the end of a complete run: before, another output can
still be linked to them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import TYPE_CHECKING

from bulkdl.destinations.interfaces import Destination
from bulkdl.graph.ledger_view import LedgerView
from bulkdl.ledger import derived_queries
from bulkdl.ledger.derived_queries import UNPACKER, UnpackedArchive
from bulkdl.ledger.rows import OutputRecord
from bulkdl.log import get_logger
from bulkdl.models import ContainerRef

if TYPE_CHECKING:
    from bulkdl.graph.processor_calls import ProcessingContext

log = get_logger(__name__)


async def find_replaced_sizes(
    outputs: Iterable[OutputRecord], sizes: dict[str, int], destination: Destination, view: LedgerView
) -> dict[str, int]:
    """
    Return the sizes of the archives that are missing in *sizes* and whose members are there, by key.

    If a member is missing too, the archive is unpacked again after its next download.
    """
    missing = {
        output.file.key: output.output.container
        for output in outputs
        if output.is_completed and output.file is not None and output.file.key not in sizes
    }
    replaced: dict[str, int] = {}
    for container in set(missing.values()):
        incomplete = set()
        for archive in await view.unpacked_archives(container):
            if archive.key not in missing:
                continue
            if await has_all_members(archive, destination):
                replaced[archive.key] = archive.size_bytes
            else:
                incomplete.add((archive.unpacked_id, UNPACKER))
        if incomplete and not view.is_read_only:
            await view.write(partial(derived_queries.mark_for_processing, outputs=incomplete))
    return replaced


async def has_all_members(archive: UnpackedArchive, destination: Destination) -> bool:
    """Return whether all members of *archive* exist with their sizes."""
    infos = await destination.stat(list(archive.members))
    return all(
        key in infos and infos[key].size_bytes == size_bytes for key, size_bytes in archive.members.items()
    )


async def remove_replaced_archives(context: ProcessingContext) -> None:
    """Delete the archives of the selected outputs whose members are recorded and present."""
    destination = context.storage.destination
    archives, size_bytes = 0, 0
    async for container in _selected_containers(context):
        unpacked = await context.ledger.read(partial(derived_queries.read_unpacked, container=container))
        present = await destination.stat([archive.key for archive in unpacked])
        for archive in unpacked:
            is_same = archive.key in present and present[archive.key].size_bytes == archive.size_bytes
            if is_same and await has_all_members(archive, destination):
                await destination.delete([archive.key])
                archives, size_bytes = archives + 1, size_bytes + archive.size_bytes
    if archives:
        log.info("archives.removed", archives=archives, size_bytes=size_bytes)


async def _selected_containers(context: ProcessingContext) -> AsyncIterator[ContainerRef]:
    """Yield the containers of selected outputs; rows of one container are next to each other."""
    last_id, last = 0, None
    while rows := await context.ledger.read(
        partial(derived_queries.list_unpacked_outputs_after, row_id=last_id)
    ):
        for row_id, output in rows:
            last_id = row_id
            if output.container != last and context.selects(output):
                last = output.container
                yield output.container
