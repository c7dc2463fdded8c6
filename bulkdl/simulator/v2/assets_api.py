"""
Serve originals, signed URLs, orders and processing jobs.

``GET /v2/assets`` returns the originals as a Spring page (``content``, ``totalPages``, ``last`` …). Its query
has ``page``, ``size`` (default 20), ``sort`` (default ``createdAt,desc``), ``createdAfter``,
``createdBefore`` (inclusive), ``workspaceId``, ``collectionNames``, ``producerNames``, ``tags``, ``sources``
(repeated), ``search`` and ``geospatialMetadataExtractionStatus``.

``GET|POST /v2/assets/{id}/metadata`` is one original. ``POST /v2/assets/{id}/download-url`` returns
``{"url"}`` for an original or an item asset. ``GET /v2/orders`` is a Spring page, ``GET /v2/orders/{id}``
one order. ``GET /v2/processing/jobs`` returns ``{"jobs", "links"}`` with a relative ``next`` href,
``GET /v2/processing/jobs/{id}`` one job.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

from bulkdl.simulator.documents import Json
from bulkdl.simulator.ids import IdKind
from bulkdl.simulator.messages import Reply
from bulkdl.simulator.v2 import documents
from bulkdl.simulator.v2.deliveries import Deliveries, Delivery, order_numbers
from bulkdl.simulator.v2.messages import ApiRequest, RequestRejected, create_reply, read_object
from bulkdl.simulator.v2.objects import asset_path

_DEFAULT_SIZE = 20
_ASSET_SORTS: dict[str, Callable[[Delivery], Any]] = {
    "name": lambda delivery: delivery.name or "",
    "title": lambda delivery: delivery.title or "",
    "source": lambda delivery: delivery.source or "",
    "collectionName": lambda delivery: delivery.collection_name or "",
    "producerName": lambda delivery: delivery.producer or "",
}
_FILTERS = (
    *("createdAfter", "createdBefore", "workspaceId", "collectionNames", "producerNames", "tags", "sources"),
    *("search", "geospatialMetadataExtractionStatus"),
)
_ORDER_FILTERS = {
    "workspaceId": "workspaceId",
    "type": "type",
    "status": "status",
    "displayName": "displayName",
    "orderIds": "id",
}
_JOB_FILTERS = {"workspaceId": "workspaceID", "processId": "processID", "status": "status", "ids": "jobID"}
_TOKEN = re.compile(r"[\w.+-]+", re.ASCII)  # needs no quotes; UP42 sends both forms
Query = tuple[tuple[str, str], ...]


class AssetsApi:
    def __init__(
        self,
        read_deliveries: Callable[[], Deliveries],
        changes: MutableMapping[str, dict[str, Any]],
        sign: Callable[[str, str], str],
        read_size: Callable[[str], int],
        max_size: int,
    ) -> None:
        """
        Create the API.

        *sign* returns the signed URL for an object path and a Content-Disposition. *read_size* returns the
        size of an object. *max_size* limits the entries of a page.
        """
        self._read_deliveries, self._sign, self._read_size = read_deliveries, sign, read_size
        self._changes, self.max_size = changes, max_size
        self.endpoints: dict[tuple[str, str], Callable[[ApiRequest], Reply]] = {
            ("assets", "GET"): self._assets,
            ("asset", "GET"): self._asset,
            ("asset", "POST"): self._change_asset,
            ("download_url", "POST"): self._download_url,
            ("orders", "GET"): self._orders,
            ("order", "GET"): self._order,
            ("processing_jobs", "GET"): self._jobs,
            ("processing_job", "GET"): self._job,
        }

    @property
    def _deliveries(self) -> Deliveries:
        return self._read_deliveries()

    def _assets(self, request: ApiRequest) -> Reply:
        query, sort = _read_query(request, _FILTERS, "createdAt,desc")
        if sort.partition(",")[0] == "size":
            numbers = _sort(select_originals(self._deliveries, query, ",asc"), sort, self._size_of)
        else:
            numbers = select_originals(self._deliveries, query, sort)
        return self._page(request, numbers, self._asset_document)

    def _asset(self, request: ApiRequest) -> Reply:
        return create_reply(self._asset_document(self._require_original(request)))

    def _change_asset(self, request: ApiRequest) -> Reply:
        number = self._require_original(request)
        body = read_object(request)
        # A key that is not sent is cleared, as UP42 does.
        self._changes[request.parameters["asset"]] = {key: body.get(key) for key in ("title", "tags")}
        return create_reply(self._asset_document(number))

    def _download_url(self, request: ApiRequest) -> Reply:
        found = self._deliveries.find_asset(request.parameters["asset"])
        if found is None:
            raise RequestRejected(404, f"Asset {request.parameters['asset']} not found")
        file = found[1]
        name = file.name if _TOKEN.fullmatch(file.name) else f'"{file.name}"'
        return create_reply({"url": self._sign(asset_path(file.id), f"attachment; filename={name}")})

    def _orders(self, request: ApiRequest) -> Reply:
        numbers = select_orders(self._deliveries, *_read_query(request, _ORDER_FILTERS, "createdAt,desc"))
        return self._page(request, numbers, lambda number: documents.order_document(self._deliveries, number))

    def _order(self, request: ApiRequest) -> Reply:
        index = self._deliveries.find(IdKind.ORDER, request.parameters["order"])
        if index is None:
            raise RequestRejected(404, f"Order {request.parameters['order']} not found")
        return create_reply(documents.order_document(self._deliveries, index.job))

    def _jobs(self, request: ApiRequest) -> Reply:
        numbers = select_jobs(self._deliveries, *_read_query(request, _JOB_FILTERS, "created,desc"))
        limit = max(1, request.count("limit", _DEFAULT_SIZE, self.max_size))
        offset = request.count("offset", 0, len(numbers))
        links = []
        if offset + limit < len(numbers) or (request.is_endless and numbers):
            following = (offset + max(1, limit - request.overlap)) % len(numbers)
            query = urlencode({**request.call.query, "offset": str(following)})
            links.append({"rel": "next", "href": f"/v2/processing/jobs?{query}"})
        page = numbers[offset : offset + limit]
        jobs = [documents.job_document(self._deliveries, number, request.base_url) for number in page]
        return create_reply({"jobs": jobs, "links": links})

    def _job(self, request: ApiRequest) -> Reply:
        index = self._deliveries.find(IdKind.PROCESSING_JOB, request.parameters["job"])
        if index is None:
            raise RequestRejected(404, f"Job {request.parameters['job']} not found")
        return create_reply(documents.job_document(self._deliveries, index.job, request.base_url))

    def _page(self, request: ApiRequest, numbers: Sequence[int], create: Callable[[int], Json]) -> Reply:
        size = max(1, request.count("size", _DEFAULT_SIZE, self.max_size))
        page = request.count("page", 0, 10**9)
        offset, total = page * max(1, size - request.overlap), len(numbers)
        if request.is_endless and numbers:
            offset, total = offset % len(numbers), 10**9
        content = [create(number) for number in numbers[offset : offset + size]]
        return create_reply(documents.page_document(content, page, size, total))

    def _asset_document(self, number: int) -> Json:
        delivery = self._deliveries.delivery(number)
        original = delivery.original
        assert original is not None, "selected by has_original"  # noqa: S101 - for the type checker
        size = self._size_of(number)
        changes = self._changes.get(original.id, {})
        return documents.asset_document(self._deliveries, delivery, original, size, changes)

    def _size_of(self, number: int) -> int:
        original = self._deliveries.original(number)
        return self._read_size(asset_path(original.id)) if original else 0

    def _require_original(self, request: ApiRequest) -> int:
        found = self._deliveries.find(IdKind.ORIGINAL, request.parameters["asset"])
        if found is None or found.job not in self._deliveries.originals:
            raise RequestRejected(404, f"Asset {request.parameters['asset']} not found")
        return found.job


def _read_query(request: ApiRequest, names: Iterable[str], sort: str) -> tuple[Query, str]:
    """Return the filters of *request* and its order, which is *sort* by default."""
    pairs = parse_qsl(request.call.target.partition("?")[2])
    return tuple(pair for pair in pairs if pair[0] in names), request.call.query.get("sort", sort)


@lru_cache(maxsize=8)
def select_originals(deliveries: Deliveries, query: Query, sort: str) -> Sequence[int]:
    """Return the numbers of the originals that match *query* in the order of *sort*."""
    filters = {key: [value for name, value in query if name == key] for key in _FILTERS}
    numbers = _candidates(deliveries, filters)
    if any(filters[key] for key in _FILTERS if not key.startswith("created")):
        keep = _create_filter(filters)
        numbers = array("L", (at for at in numbers if keep(deliveries.delivery(at))))
    read = _ASSET_SORTS.get(sort.partition(",")[0])
    return _sort(numbers, sort, (lambda at: read(deliveries.delivery(at))) if read else None)


def _candidates(deliveries: Deliveries, filters: Mapping[str, list[str]]) -> Sequence[int]:
    """
    Return the originals that *filters* can select, without looking at each of them.

    The ID of an order selects its deliveries. The times of creation select a range.
    """
    numbers: Sequence[int] = deliveries.originals
    index = deliveries.find(IdKind.ORDER, filters["search"][0]) if filters["search"] else None
    if index is not None:
        numbers = [number for number in order_numbers(index.job) if number in numbers]
    for text in filters["createdAfter"]:
        start = bisect_left(numbers, _timestamp(text), key=deliveries.created_at)
        numbers = array("L", numbers[start:])
    for text in filters["createdBefore"]:
        stop = bisect_right(numbers, _timestamp(text), key=deliveries.created_at)
        numbers = array("L", numbers[:stop])
    return numbers


@lru_cache(maxsize=8)
def select_orders(deliveries: Deliveries, query: Query, sort: str) -> Sequence[int]:
    """Return the first delivery number of each order that matches *query*, in the order of *sort*."""
    return _select(
        deliveries.orders,
        lambda number: documents.order_document(deliveries, number),
        _read_filters(query, _ORDER_FILTERS),
        sort,
        {"type", "status"},
    )


@lru_cache(maxsize=8)
def select_jobs(deliveries: Deliveries, query: Query, sort: str) -> Sequence[int]:
    """Return the delivery numbers of the processing jobs that match *query*, in the order of *sort*."""
    return _select(
        deliveries.jobs,
        lambda number: documents.job_document(deliveries, number, ""),
        _read_filters(query, _JOB_FILTERS),
        sort,
        {"status", "processID"},
    )


def _read_filters(query: Query, names: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the permitted values by document key. A value is a list with commas, and a key can repeat."""
    found: dict[str, set[str]] = {}
    for name, value in query:
        found.setdefault(names[name], set()).update(value.split(","))
    return found


def _select(
    numbers: Sequence[int],
    create: Callable[[int], Json],
    filters: Mapping[str, set[str]],
    sort: str,
    sorts: set[str],
) -> Sequence[int]:
    if filters:
        found = ((number, create(number)) for number in numbers)
        numbers = array(
            "L",
            (
                number
                for number, document in found
                if all(document[key] in values for key, values in filters.items())
            ),
        )
    name = sort.partition(",")[0]
    return _sort(numbers, sort, (lambda number: create(number)[name]) if name in sorts else None)


class _Reversed(Sequence[int]):
    """A sequence in the opposite order, without a copy."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        return self._numbers[-1 - index]


def _sort(numbers: Sequence[int], sort: str, key: Callable[[int], Any] | None) -> Sequence[int]:
    """Return *numbers*, which are in the order of creation, by *key* in the direction of *sort*."""
    ordered = array("L", sorted(numbers, key=key)) if key else numbers
    return ordered if sort.partition(",")[2].lower() == "asc" else _Reversed(ordered)


def _create_filter(filters: dict[str, list[str]]) -> Callable[[Delivery], bool]:
    search = [text.lower() for text in filters["search"]]

    def keep(delivery: Delivery) -> bool:
        texts = [text.lower() for text in (delivery.name, delivery.title, delivery.order_id) if text]
        return (
            _is_in(delivery.workspace_id, filters["workspaceId"])
            and _is_in(delivery.collection_name, filters["collectionNames"])
            and _is_in(delivery.producer, filters["producerNames"])
            and _is_in(delivery.source, filters["sources"])
            and _is_in(str(delivery.extraction), filters["geospatialMetadataExtractionStatus"])
            and (not filters["tags"] or bool(set(filters["tags"]) & set(delivery.tags or ())))
            and all(any(part in text for text in texts) for part in search)
        )

    return keep


def _is_in(value: str | None, wanted: Iterable[str]) -> bool:
    values = [part for text in wanted for part in text.split(",")]
    return not values or value in values


def _timestamp(text: str) -> datetime:
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        stamp = None
    if stamp is None or stamp.tzinfo is None:
        raise RequestRejected(400, f"{text!r} is not a valid timestamp")
    return stamp
