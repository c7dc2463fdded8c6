"""
Serve STAC: catalog, collections, items and the search.

Lists are newest first, by the creation of the delivery, which no STAC document contains. A page has ``limit``
entries (default 10). The end of a list is the absence of a link ``next``. Its token is ``next:`` with the ID
of the last entry of the page, so the walk continues after that entry even if it was deleted meanwhile.

``GET /v2/assets/stac`` (with or without slash): the catalog. ``GET …/collections?limit&token&workspace_id``:
``{"collections", "links"}``. ``GET …/collections/{id}``: the collection. ``DELETE …/collections/{id}``: 204.
``GET …/collections/{id}/items?limit&token`` and ``GET|POST …/search``: ``{"type": "FeatureCollection",
"features", "links"}``. ``GET|PATCH …/collections/{id}/items/{item}``: the item. The link ``next`` of a POST
search has ``method`` and ``body``, which is the whole next body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from bulkdl.simulator.documents import Json
from bulkdl.simulator.ids import IdKind
from bulkdl.simulator.messages import Reply
from bulkdl.simulator.v2 import stac_documents
from bulkdl.simulator.v2.deliveries import Deliveries, Delivery, Item
from bulkdl.simulator.v2.messages import ApiRequest, RequestRejected, create_reply, parse_json, read_object
from bulkdl.simulator.v2.search import ItemQuery, parse_search
from bulkdl.simulator.v2.stac_documents import link, page_links

_DEFAULT_LIMIT = 10
_GEOJSON = "application/geo+json"
_USER_KEYS = ("up42-user:title", "up42-user:tags")
ItemPlace = tuple[Delivery, Item]


class StacApi:
    """
    Attributes:
        changes: Titles and tags that a user has set.
        max_limit: Maximum number of entries in a page.
    """

    def __init__(
        self,
        read_deliveries: Callable[[], Deliveries],
        changes: MutableMapping[str, dict[str, Any]],
        delete_collection: Callable[[str], None],
        max_limit: int,
    ) -> None:
        self._read_deliveries, self._delete_collection = read_deliveries, delete_collection
        self.changes, self.max_limit = changes, max_limit
        self.endpoints: dict[tuple[str, str], Callable[[ApiRequest], Reply]] = {
            ("catalog", "GET"): self._catalog,
            ("queryables", "GET"): self._queryables,
            ("collections", "GET"): self._collections,
            ("collection", "GET"): self._collection,
            ("collection", "DELETE"): self._remove_collection,
            ("items", "GET"): self._items,
            ("item", "GET"): self._item,
            ("item", "PATCH"): self._change_item,
            ("search", "GET"): self._search_by_query,
            ("search", "POST"): self._search_by_body,
        }

    @property
    def _deliveries(self) -> Deliveries:
        return self._read_deliveries()

    def _catalog(self, request: ApiRequest) -> Reply:
        return create_reply(stac_documents.catalog_document(request.base_url))

    def _queryables(self, request: ApiRequest) -> Reply:
        return create_reply(stac_documents.queryables_document(request.base_url))

    def _collections(self, request: ApiRequest) -> Reply:
        query = request.call.query
        limit = self._limit(query.get("limit"))
        start = self._start(IdKind.COLLECTION, query.get("token"))
        workspace = query.get("workspace_id")
        found = list(islice(self._iter_deliveries(start, workspace), limit + 1))
        page = found[:limit]
        documents = [self._collection_document(request, delivery) for delivery in page]
        own = f"{stac_documents.root_url(request.base_url)}collections"
        links = page_links(request.base_url, None, own)
        if len(found) > limit or request.is_endless:
            last = _last(request, [str(delivery.collection_id) for delivery in page], len(found) > limit)
            links.append(_next_link(request, own, last))
        return create_reply({"collections": documents, "links": links})

    def _collection(self, request: ApiRequest) -> Reply:
        return create_reply(self._collection_document(request, self._require_collection(request)))

    def _remove_collection(self, request: ApiRequest) -> Reply:
        self._delete_collection(str(self._require_collection(request).collection_id))
        return Reply(204)

    def _items(self, request: ApiRequest) -> Reply:
        delivery = self._require_collection(request)
        own = stac_documents.collection_url(request.base_url, str(delivery.collection_id)) + "/items"
        query = request.call.query
        page = self._find_items(
            request, ItemQuery(lambda _delivery, _item: True, [delivery.number]), query.get("limit")
        )
        collection_id = delivery.collection_id
        return self._item_page(
            request, page, own, lambda token: _next_link(request, own, token), collection_id
        )

    def _item(self, request: ApiRequest) -> Reply:
        delivery, item = self._require_item(request)
        return create_reply(self._item_document(request, delivery, item), content_type=_GEOJSON)

    def _change_item(self, request: ApiRequest) -> Reply:
        delivery, item = self._require_item(request)
        body = read_object(request)
        self.changes.setdefault(item.id, {}).update({key: body[key] for key in _USER_KEYS if key in body})
        return create_reply(self._item_document(request, delivery, item), content_type=_GEOJSON)

    def _search_by_query(self, request: ApiRequest) -> Reply:
        query: dict[str, Any] = dict(request.call.query)
        for key in ("ids", "collections", "bbox"):
            if key in query:
                query[key] = query[key].split(",")
        if "filter" in query:
            query["filter"] = parse_json(query["filter"])
        own = f"{stac_documents.root_url(request.base_url)}search"
        page = self._find_items(request, parse_search(query, self._deliveries), query.get("limit"))
        return self._item_page(request, page, own, lambda token: _next_link(request, own, token))

    def _search_by_body(self, request: ApiRequest) -> Reply:
        body = read_object(request)
        own = f"{stac_documents.root_url(request.base_url)}search"
        request.call.overrides.setdefault("token", body.get("token"))
        page = self._find_items(request, parse_search(body, self._deliveries), body.get("limit"))

        def next_link(token: dict[str, str]) -> Json:
            rest = {key: value for key, value in body.items() if key != "token"}
            return {**link("next", own), "method": "POST", "body": {**rest, **token}}

        return self._item_page(request, page, own, next_link)

    def _item_page(
        self,
        request: ApiRequest,
        page: tuple[list[ItemPlace], bool],
        own: str,
        next_link: Callable[[dict[str, str]], Json],
        collection_id: str | None = None,
    ) -> Reply:
        places, has_more = page
        features = [self._item_document(request, delivery, item) for delivery, item in places]
        links = page_links(request.base_url, collection_id, own)
        if has_more or request.is_endless:
            links.append(next_link(_last(request, [item.id for _, item in places], has_more)))
        document = {"type": "FeatureCollection", "features": features, "links": links}
        return create_reply(document, content_type=_GEOJSON)

    def _find_items(self, request: ApiRequest, query: ItemQuery, limit: Any) -> tuple[list[ItemPlace], bool]:
        """Return the items of the page of *request*, and whether there are more."""
        number = self._limit(limit)
        token = request.call.overrides.get("token", request.call.query.get("token"))
        start = self._start(IdKind.ITEM, token)
        found = list(islice(self._iter_items(query, start), number + 1))
        return found[:number], len(found) > number

    def _iter_deliveries(
        self, start: tuple[int, int] | None, workspace: str | None = None
    ) -> Iterator[Delivery]:
        """Yield the collections after *start* (the place of the last entry), newest first."""
        deliveries = self._deliveries
        for number in deliveries.collections.newest_first(start[0] if start else None):
            delivery = deliveries.delivery(number)
            if workspace in {None, delivery.workspace_id}:
                yield delivery

    def _iter_items(self, query: ItemQuery, start: tuple[int, int] | None) -> Iterator[ItemPlace]:
        """Yield the matching items after *start*: deliveries newest first, their items in order."""
        deliveries = self._deliveries
        below = start[0] + 1 if start else deliveries.count
        if query.numbers is None:
            numbers = deliveries.collections.newest_first(below)
        else:
            numbers = (
                number
                for number in reversed(query.numbers)
                if number < below and number in deliveries.collections
            )
        for number in numbers:
            delivery = deliveries.delivery(number)
            for item in deliveries.items(number):
                is_after = start is None or number != start[0] or item.number > start[1]
                if is_after and query.matches(delivery, item):
                    yield delivery, item

    def _start(self, kind: IdKind, token: Any) -> tuple[int, int] | None:
        """Return the place of the entry in *token*. Raises: RequestRejected."""
        if token is None:
            return None
        index = self._deliveries.find(kind, str(token).removeprefix("next:"))
        if index is None or not str(token).startswith("next:"):
            raise RequestRejected(400, f"invalid token {token!r}")
        return index.job, index.task

    def _limit(self, value: Any) -> int:
        if value is None:
            return min(_DEFAULT_LIMIT, self.max_limit)
        text = str(value)
        if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
            raise RequestRejected(400, f"invalid limit {text!r}")
        return min(int(text), self.max_limit)

    def _collection_document(self, request: ApiRequest, delivery: Delivery) -> Json:
        return stac_documents.collection_document(self._deliveries, delivery, self.changes, request.base_url)

    def _item_document(self, request: ApiRequest, delivery: Delivery, item: Item) -> Json:
        return stac_documents.item_document(self._deliveries, delivery, item, self.changes, request.base_url)

    def _require_collection(self, request: ApiRequest) -> Delivery:
        delivery = self._deliveries.find_collection(request.parameters["collection"])
        if delivery is None:
            raise RequestRejected(404, f"Collection {request.parameters['collection']} does not exist.")
        return delivery

    def _require_item(self, request: ApiRequest) -> ItemPlace:
        delivery = self._require_collection(request)
        for item in self._deliveries.items(delivery.number):
            if item.id == request.parameters["item"]:
                return delivery, item
        raise RequestRejected(404, f"Item {request.parameters['item']} does not exist.")


def _last(request: ApiRequest, ids: list[str], has_more: bool) -> dict[str, str]:
    """Return the token of the page after *ids*. After the last page of an endless list it is the first."""
    if not has_more:
        return {}
    return {"token": f"next:{ids[max(0, len(ids) - 1 - request.overlap)]}"}


def _next_link(request: ApiRequest, own: str, token: dict[str, str]) -> Json:
    query = {key: value for key, value in request.call.query.items() if key != "token"} | token
    return {**link("next", f"{own}?{urlencode(query, safe=':')}"), "method": "GET"}
