"""
Delete derived files that the current result of their processor does not contain.

The ledger lists them in the transaction that records the new result. They are deleted at the end of the
stage, when no processor is running. If the run is killed before, the next run with processors deletes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bulkdl.destinations.interfaces import Destination
from bulkdl.errors import DestinationError
from bulkdl.graph.processor_calls import ProcessingContext
from bulkdl.ledger import derived_queries
from bulkdl.ledger.derived_queries import DerivedRow
from bulkdl.log import get_logger

log = get_logger(__name__)


async def remove_obsolete_files(context: ProcessingContext) -> None:
    """
    Delete the obsolete files whose keys are not in use: by an output, a document or a derived file.

    Call it only while no processor and no download is running, because a file that is not recorded yet can
    have the same key. A file that cannot be deleted stays listed, and the next run tries again.
    """
    ledger, destination = context.ledger, context.storage.destination
    page = await ledger.read(derived_queries.list_obsolete_files)
    if page:
        await ledger.write(derived_queries.forget_used_obsolete_files)
        page = await ledger.read(derived_queries.list_obsolete_files)
    while page:
        files = [file for file in page if not context.documents.match_documents(file.key)]
        kept = await _delete_files(destination, files)
        gone = [file.key for file in page if file.key not in kept]
        await ledger.write(partial(derived_queries.forget_obsolete_files, keys=gone))
        log.info("derived.removed", files=len(gone))
        page = await ledger.read(partial(derived_queries.list_obsolete_files, before_key=page[-1].key))


async def _delete_files(destination: Destination, files: Sequence[DerivedRow]) -> set[str]:
    """Delete *files*, and return the keys of those that cannot be deleted."""
    try:
        await destination.delete([file.key for file in files])
        kept: set[str] = set()
    except DestinationError:
        kept = {file.key for file in files if not await _delete_file(destination, file)}
    for file in files:
        if file.digest is None and destination.folders is not None and file.key not in kept:
            try:
                is_gone = await destination.folders.delete_folder(file.key, file.size_bytes)
            except DestinationError as error:
                log.warning("derived.not_removed", key=file.key, detail=error.detail)
                kept.add(file.key)
            else:
                if not is_gone:
                    log.warning("derived.not_removed", key=file.key, detail="the folder contains other files")
    return kept


async def _delete_file(destination: Destination, file: DerivedRow) -> bool:
    try:
        await destination.delete([file.key])
    except DestinationError as error:
        log.warning("derived.not_removed", key=file.key, detail=error.detail)
        return False
    return True
