"""
Request the items of collections, many collections with one search.

Several workers list collections at the same time. While a search is in progress, the requests of the other
workers are collected, and the next search includes all of them. A collection without items in the result is
requested alone, because a server may not support the filter of the search or may not have indexed the
collection yet.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field

from bulkdl.errors import ApiError
from bulkdl.log import get_logger
from bulkdl.models import Reason
from bulkdl.sources.up42_storage.client import StorageClient
from bulkdl.sources.up42_storage.models import Item, UnreadableEntry

_log = get_logger(__name__)

MAX_COLLECTIONS = 100
# A search with more items is abandoned, and its collections are requested one by one.
MAX_ITEMS_IN_SEARCH = 5_000
MAX_ITEMS_IN_COLLECTION = 200_000
_UNSUPPORTED = frozenset({Reason.REJECTED, Reason.NOT_FOUND, Reason.FORBIDDEN})


@dataclass(slots=True)
class ItemList:
    """The items of one collection by ID, and the problems of items that are unreadable."""

    items: dict[str, Item] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class _SearchAbandoned(Exception):
    """The result of a search cannot be used."""


class ItemSearch:
    """Lists the items of collections. All workers of one account share an instance."""

    def __init__(self, client: StorageClient) -> None:
        self._client = client
        self._waiting: dict[str, asyncio.Future[ItemList | None]] = {}
        self._lock = asyncio.Lock()
        self._is_supported = True

    async def items(self, collection_id: str) -> ItemList:
        """
        Return the items of a collection.

        Raises:
            ApiError: A request failed.
        """
        found = await self._search(collection_id) if self._is_supported else None
        return found if found is not None and found.items else await self._list_alone(collection_id)

    async def _search(self, collection_id: str) -> ItemList | None:
        """Return what a search finds for the collection; None if the search gave no usable result."""
        waiting = self._waiting.get(collection_id)
        if waiting is None:
            waiting = self._waiting[collection_id] = asyncio.get_running_loop().create_future()
        async with self._lock:
            if waiting.done():
                return waiting.result()
            try:
                return await self._search_batch(collection_id)
            finally:
                self._waiting.pop(collection_id, None)

    async def _search_batch(self, collection_id: str) -> ItemList | None:
        """Search for the waiting collections, *collection_id* first; set the results of the others."""
        others = [identity for identity in self._waiting if identity != collection_id]
        batch = [collection_id, *others[: MAX_COLLECTIONS - 1]]
        found: dict[str, ItemList] = {}
        try:
            found = await self._request(batch)
        except _SearchAbandoned:
            pass
        except ApiError as failure:
            if failure.reason not in _UNSUPPORTED:
                raise
            self._is_supported = False
            _log.info("search.unsupported", reason=failure.reason.value, detail=failure.detail)
        for identity in batch:
            waiting = self._waiting.pop(identity, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(found.get(identity))
        return found.get(collection_id)

    async def _request(self, batch: list[str]) -> dict[str, ItemList]:
        found = {identity: ItemList() for identity in batch}
        count = 0
        async with aclosing(self._client.search_items(batch)) as entries:
            async for entry in entries:
                count += 1
                if isinstance(entry, UnreadableEntry) or (count > MAX_ITEMS_IN_SEARCH and len(batch) > 1):
                    # The list of each collection shows which of them has the unreadable item.
                    raise _SearchAbandoned
                if entry.collection_id in found:
                    found[entry.collection_id].items.setdefault(entry.id, entry)
        return found

    async def _list_alone(self, collection_id: str) -> ItemList:
        found = ItemList()
        async with aclosing(self._client.items(collection_id)) as entries:
            async for entry in entries:
                if isinstance(entry, UnreadableEntry):
                    found.problems.append(entry.problem)
                elif entry.collection_id == collection_id:
                    found.items.setdefault(entry.id, entry)
                if len(found.items) > MAX_ITEMS_IN_COLLECTION:
                    detail = f"collection {collection_id} has more than {MAX_ITEMS_IN_COLLECTION} items"
                    raise ApiError(Reason.TOO_LARGE, detail)
        return found
