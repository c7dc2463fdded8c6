"""
List the deliveries of an account: collections, and original deliveries that are in no collection.

Four lists are read concurrently: assets, collections, processing jobs and orders. A collection is yielded
once the list of assets has reached its original, which has the creation time. Both lists begin with the
newest entry, so the first downloads start while the lists are still being read. The first response for the
list of assets is its oldest page, whose originals are used immediately. Originals without a collection are
known only at the end of both lists. All entries wait on disk, not in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TypeVar

from bulkdl.concurrency import Channel, WaitQueue
from bulkdl.errors import ApiError
from bulkdl.listings import UnreadableContainer
from bulkdl.log import get_logger
from bulkdl.models import Container, Reason
from bulkdl.sources.up42_storage.client import StorageClient, is_listing_withdrawn
from bulkdl.sources.up42_storage.containers import collection_container, original_container
from bulkdl.sources.up42_storage.delivery_index import DeliveryIndex
from bulkdl.sources.up42_storage.models import Collection, Order, Original, ProcessingJob, UnreadableEntry

_log = get_logger(__name__)
_Entry = TypeVar("_Entry")

BATCH_SIZE = 100
_MAX_UNREADABLE = 1_000
_MAX_MISSING_SHOWN = 10


class AccountListing:
    """
    One pass over the lists of an account. Close it after use.

    Args:
        workspace_id: List only this workspace; None lists all.
        needs_origins: Whether names and statuses of jobs and orders are needed for each container. Otherwise
            containers are yielded before these lists are complete.
        needs_times: Whether the creation times are needed. A collection without an original, such as the
            result of a job, then waits for these lists.
    """

    def __init__(
        self,
        client: StorageClient,
        workspace_id: str | None = None,
        *,
        needs_origins: bool = False,
        needs_times: bool = False,
    ) -> None:
        self._client = client
        self._workspace_id = workspace_id
        self._needs_origins = needs_origins
        self._needs_times = needs_times
        self._index = DeliveryIndex()
        self._collections: Channel[Collection | UnreadableEntry] = Channel(2 * BATCH_SIZE)
        self._unreadable: list[UnreadableContainer] = []
        self._progress = WaitQueue()
        self._oldest: dict[str, Original] = {}
        self._has_preview = False
        self._pages_read = 0
        self._are_originals_read = False
        self._failures: dict[str, ApiError] = {}

    async def containers(self) -> AsyncGenerator[Container | UnreadableContainer, None]:
        """
        Yield each delivery once.

        Raises:
            ApiError: The list of collections or of assets could not be read. It is raised at the end.
        """
        origins = [asyncio.create_task(self._read_jobs()), asyncio.create_task(self._read_orders())]
        tasks = [
            asyncio.create_task(self._read_originals()),
            asyncio.create_task(self._read_collections()),
            *origins,
        ]
        try:
            async with aclosing(self._batches()) as batches:
                async for batch in batches:
                    async with aclosing(self._collection_containers(batch, origins)) as found:
                        async for container in found:
                            yield container
            await asyncio.gather(*tasks)
            async with aclosing(self._remaining()) as remaining:
                async for entry in remaining:
                    yield entry
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._index.close()

    async def _remaining(self) -> AsyncGenerator[Container | UnreadableContainer, None]:
        """Yield what is known only at the end of all lists, then raise the first failure of a list."""
        for entry in self._unreadable:
            yield entry
        if "collections" not in self._failures:
            async with aclosing(self._uncollected()) as singles:
                async for container in singles:
                    yield container
            await self._report_missing_results()
        for failure in self._failures.values():
            raise failure

    # --- the four lists

    async def _read_originals(self) -> None:
        query = {"workspaceId": self._workspace_id} if self._workspace_id else {}
        try:
            pages = self._client.original_pages(query, self._preview_originals)
            await self._store(pages, self._index.add_originals, Original)
        except ApiError as failure:
            # After its first page, the list is known to exist, so a failure means that pages are missing.
            if self._has_preview or not is_listing_withdrawn(failure):
                self._fail("assets", failure)
            else:
                _log.warning(
                    "assets.not_offered", detail=failure.detail, hint="listing STAC collections only"
                )
        finally:
            self._are_originals_read = True
            self._progress.notify_all()

    def _preview_originals(self, entries: Sequence[Original | UnreadableEntry]) -> None:
        """Use *entries* for collections only. The end of the list shows which of them still exist."""
        self._oldest = {entry.id: entry for entry in entries if isinstance(entry, Original)}
        self._has_preview = True
        self._note_progress()

    async def _read_collections(self) -> None:
        query = {"workspace_id": self._workspace_id} if self._workspace_id else {}
        try:
            async with aclosing(self._client.collection_pages(query)) as pages:
                async for page in pages:
                    for entry in page:
                        await self._collections.put(entry)
        except ApiError as failure:
            self._fail("collections", failure)
        finally:
            self._collections.close()

    async def _read_jobs(self) -> None:
        query = {"workspaceId": self._workspace_id} if self._workspace_id else {}
        await self._read_origins("jobs", self._client.job_pages(query), self._index.add_jobs, ProcessingJob)

    async def _read_orders(self) -> None:
        query = {"workspaceId": self._workspace_id} if self._workspace_id else {}
        await self._read_origins("orders", self._client.order_pages(query), self._index.add_orders, Order)

    async def _read_origins(
        self,
        what: str,
        pages: AsyncGenerator[Sequence[_Entry | UnreadableEntry], None],
        add: Callable[[list[_Entry]], None],
        kind: type[_Entry],
    ) -> None:
        """Read a list that is needed only for names. Without it, the downloads are complete."""
        try:
            await self._store(pages, add, kind)
        except ApiError as failure:
            if failure.reason is Reason.CREDENTIALS:
                self._fail(what, failure)
            _log.warning("origins.not_listed", list=what, reason=failure.reason.value, detail=failure.detail)

    async def _store(
        self,
        pages: AsyncGenerator[Sequence[_Entry | UnreadableEntry], None],
        add: Callable[[list[_Entry]], None],
        kind: type[_Entry],
    ) -> None:
        """Add all entries to the index, a page at a time."""
        async with aclosing(pages):
            async for page in pages:
                await asyncio.to_thread(add, [entry for entry in page if isinstance(entry, kind)])
                for entry in page:
                    if isinstance(entry, UnreadableEntry):
                        self._add_unreadable(entry)
                self._note_progress()

    def _note_progress(self) -> None:
        self._pages_read += 1
        self._progress.notify_all()

    def _fail(self, what: str, failure: ApiError) -> None:
        _log.warning("list.failed", list=what, reason=failure.reason.value, detail=failure.detail)
        self._failures[what] = failure

    def _add_unreadable(self, entry: UnreadableEntry) -> None:
        _log.warning("entry.unreadable", kind=entry.kind, id=entry.identity, problem=entry.problem)
        # Unreadable jobs and orders only have no name.
        if entry.kind == "asset" and len(self._unreadable) < _MAX_UNREADABLE:
            self._unreadable.append(UnreadableContainer(entry.identity, entry.problem))

    # --- the deliveries

    async def _batches(self) -> AsyncGenerator[list[Collection | UnreadableEntry], None]:
        """Yield the collections in batches: all that are there, at most one page."""
        while await self._collections.wait_ready():
            batch: list[Collection | UnreadableEntry] = []
            while len(batch) < BATCH_SIZE and (entry := self._collections.get_nowait()) is not None:
                batch.append(entry)
            yield batch

    async def _collection_containers(
        self, batch: Sequence[Collection | UnreadableEntry], origins: Sequence[asyncio.Task[None]]
    ) -> AsyncGenerator[Container | UnreadableContainer, None]:
        """Yield the containers of *batch*, each once the list of assets has reached its original."""
        for entry in batch:
            if isinstance(entry, UnreadableEntry):
                _log.warning("entry.unreadable", kind=entry.kind, id=entry.identity, problem=entry.problem)
                yield UnreadableContainer(entry.identity, entry.problem)
        collections = {
            entry.id: entry
            for entry in batch
            if isinstance(entry, Collection) and self._is_in_workspace(entry.workspace_id)
        }
        new_ids = await asyncio.to_thread(
            self._index.add_collections, list(collections), _asset_ids(collections.values())
        )
        waiting = [entry for entry in collections.values() if entry.id in new_ids]
        while waiting:
            pages_read, is_complete = self._pages_read, self._are_originals_read
            originals = await self._find_originals(waiting)
            ready = [entry for entry in waiting if is_complete or _has_original(entry, originals)]
            if ready:
                waiting = [entry for entry in waiting if not (is_complete or _has_original(entry, originals))]
                has_all_times = all((entry.asset_id or "") in originals for entry in ready)
                if self._needs_origins or (self._needs_times and not has_all_times):
                    await asyncio.gather(*origins)
                for container in await asyncio.to_thread(self._create_containers, ready, originals):
                    yield container
            else:
                await self._progress.wait_for(partial(self._has_progressed, pages_read))

    def _create_containers(
        self, collections: Sequence[Collection], originals: Mapping[str, Original]
    ) -> list[Container | UnreadableContainer]:
        jobs = self._index.find_jobs([entry.id for entry in collections])
        orders = self._index.find_orders([entry.order_id for entry in collections if entry.order_id])
        return [
            collection_container(
                entry,
                originals.get(entry.asset_id or ""),
                jobs.get(entry.id),
                orders.get(entry.order_id or ""),
            )
            for entry in collections
        ]

    async def _find_originals(self, collections: Sequence[Collection]) -> dict[str, Original]:
        """Return the originals of *collections* that the list of assets has reached."""
        ids = [entry.asset_id for entry in collections if entry.asset_id is not None]
        oldest = {identity: self._oldest[identity] for identity in ids if identity in self._oldest}
        return oldest | await asyncio.to_thread(self._index.find_originals, ids)

    def _has_progressed(self, pages_read: int) -> bool:
        return self._are_originals_read or self._pages_read > pages_read

    def _is_in_workspace(self, workspace_id: str | None) -> bool:
        """Return whether a delivery is in the workspace to list. A server can ignore the filter."""
        return self._workspace_id is None or workspace_id == self._workspace_id

    async def _uncollected(self) -> AsyncGenerator[Container, None]:
        after = ""
        while originals := await asyncio.to_thread(self._index.find_uncollected, after, BATCH_SIZE):
            order_ids = [original.order_id for original in originals if original.order_id]
            orders = await asyncio.to_thread(self._index.find_orders, order_ids)
            for original in originals:
                if self._is_in_workspace(original.workspace_id):
                    yield original_container(original, orders.get(original.order_id or ""))
            after = originals[-1].id

    async def _report_missing_results(self) -> None:
        """Log jobs that were successful, but whose collection is not listed."""
        for job in await asyncio.to_thread(self._index.find_missing_results, _MAX_MISSING_SHOWN):
            _log.warning("job.result_not_listed", job_id=job.id, status=job.status)


def _has_original(collection: Collection, originals: Mapping[str, Original]) -> bool:
    """Return whether *collection* has its original in *originals*, or has none."""
    return collection.asset_id is None or collection.asset_id in originals


def _asset_ids(collections: Iterable[Collection]) -> list[str]:
    own = [entry.asset_id for entry in collections if entry.asset_id is not None]
    return own + [
        asset.asset_id for entry in collections for asset in entry.assets if asset.asset_id is not None
    ]
