"""
Request the items of collections, many collections with one search.

A search includes the collections that are waiting: those that the workers request, and those that were
announced because a worker will request them soon. The number of requests is therefore that of the pages, not
that of the collections. A collection without items in the result is requested alone, because a server may not
support the filter of the search or may not have indexed the collection yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice

from bulkdl.errors import ApiError
from bulkdl.log import get_logger
from bulkdl.models import Reason
from bulkdl.sources.up42_storage.client import StorageClient
from bulkdl.sources.up42_storage.models import Item, UnreadableEntry

_log = get_logger(__name__)

MAX_COLLECTIONS = 100
# All items of a search are in memory. A search with more items is repeated with fewer collections.
MAX_ITEMS_IN_SEARCH = 1_000
_SIZE_FACTOR = 4
MAX_ITEMS_IN_COLLECTION = 200_000
_UNSUPPORTED = frozenset({Reason.REJECTED, Reason.NOT_FOUND, Reason.FORBIDDEN})


@dataclass(slots=True)
class ItemList:
    """The items of one collection by ID, and the problems of items that are unreadable."""

    items: dict[str, Item] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, entry: Item | UnreadableEntry) -> None:
        """
        Add an entry of a list. An item that occurs again is not added.

        Raises:
            ApiError: The collection has too many items.
        """
        if isinstance(entry, UnreadableEntry):
            self.problems.append(entry.problem)
            return
        self.items.setdefault(entry.id, entry)
        if len(self.items) > MAX_ITEMS_IN_COLLECTION:
            detail = f"collection {entry.collection_id} has more than {MAX_ITEMS_IN_COLLECTION} items"
            raise ApiError(Reason.TOO_LARGE, detail)


class _SearchTooLarge(Exception):
    """A search has more items than the memory permits."""


class ItemSearch:
    """Lists the items of collections. All workers of one account share an instance."""

    def __init__(self, client: StorageClient) -> None:
        self._client = client
        self._waiting: dict[str, asyncio.Future[ItemList | None]] = {}
        self._lock = asyncio.Lock()
        self._is_supported = True
        self._max_collections = MAX_COLLECTIONS

    def announce(self, collection_ids: Iterable[str]) -> None:
        """Include collections in the next searches. The items of each must be requested soon."""
        if self._is_supported:
            for identity in collection_ids:
                self._wait_for(identity)

    async def items(self, collection_id: str) -> ItemList:
        """
        Return the items of a collection.

        Raises:
            ApiError: A request failed.
        """
        found = await self._search(collection_id) if self._is_supported else None
        has_result = found is not None and (found.items or found.problems)
        return found if found is not None and has_result else await self._list_alone(collection_id)

    def _wait_for(self, collection_id: str) -> asyncio.Future[ItemList | None]:
        """Return the result of the collection, which the next search sets if it is not done."""
        waiting = self._waiting.get(collection_id)
        if waiting is None:
            waiting = self._waiting[collection_id] = asyncio.get_running_loop().create_future()
        return waiting

    async def _search(self, collection_id: str) -> ItemList | None:
        """Return what a search finds for the collection; None if the search gave no usable result."""
        waiting = self._wait_for(collection_id)
        try:
            async with self._lock:
                while not waiting.done():
                    await self._search_batch(collection_id)
            return waiting.result()
        finally:
            if self._waiting.get(collection_id) is waiting:
                del self._waiting[collection_id]

    async def _search_batch(self, collection_id: str) -> None:
        """Search for the waiting collections, *collection_id* first, and set their results."""
        pending = (identity for identity, waiting in self._waiting.items() if not waiting.done())
        others = (identity for identity in pending if identity != collection_id)
        batch = [collection_id, *islice(others, self._max_collections - 1)]
        found: dict[str, ItemList] = {}
        try:
            found = await self._request(batch)
        except _SearchTooLarge:
            self._max_collections = max(1, len(batch) // _SIZE_FACTOR)
            return
        except ApiError as failure:
            if failure.reason not in _UNSUPPORTED:
                raise
            self._is_supported = False
            _log.info("search.unsupported", reason=failure.reason.value, detail=failure.detail)
        if sum(len(result.items) for result in found.values()) * _SIZE_FACTOR < MAX_ITEMS_IN_SEARCH:
            self._max_collections = min(MAX_COLLECTIONS, 2 * self._max_collections)
        for identity in batch:
            waiting = self._waiting.get(identity)
            if waiting is not None and not waiting.done():
                waiting.set_result(found.get(identity))

    async def _request(self, batch: list[str]) -> dict[str, ItemList]:
        """Return the items of the collections of *batch*; nothing if an unreadable item can be of any."""
        found = {identity: ItemList() for identity in batch}
        count = 0
        async with aclosing(self._client.search_items(batch)) as entries:
            async for entry in entries:
                count += 1
                if count > MAX_ITEMS_IN_SEARCH and len(batch) > 1:
                    raise _SearchTooLarge
                if entry.collection_id in found:
                    found[entry.collection_id].add(entry)
                elif isinstance(entry, UnreadableEntry):
                    # The list of each collection shows which of them has the item.
                    return {}
        return found

    async def _list_alone(self, collection_id: str) -> ItemList:
        found = ItemList()
        async with aclosing(self._client.items(collection_id)) as entries:
            async for entry in entries:
                if isinstance(entry, UnreadableEntry) or entry.collection_id == collection_id:
                    found.add(entry)
        return found
