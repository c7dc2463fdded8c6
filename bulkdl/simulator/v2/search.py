"""
Select items by the body of a STAC search.

A filter in CQL2-JSON is a tree of ``and``, ``or``, ``not``, ``=``, ``<>``, ``<``, ``<=``, ``>``, ``>=`` and
``in``. A property has its bare name (``order_id``) or its name in the item (``up42-order:id``). The older
official client wraps the filter in another object with the key ``filter``; the API accepts this.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bulkdl.simulator.ids import IdKind
from bulkdl.simulator.v2.deliveries import Deliveries, Delivery, Item, order_numbers
from bulkdl.simulator.v2.messages import RequestRejected

_ALIASES = {
    "up42-system:asset_id": "asset_id",
    "up42-system:workspace_id": "workspace_id",
    "up42-system:job_id": "job_id",
    "up42-order:id": "order_id",
    "up42-product:collection_name": "collection_name",
    "up42-product:product_id": "data_product_id",
    "product_id": "data_product_id",
    "up42-user:title": "title",
    "up42-user:tags": "tags",
}
_VALUES: dict[str, Callable[[Delivery, Item], Any]] = {
    "id": lambda _, item: item.id,
    "collection": lambda delivery, _: delivery.collection_id,
    "asset_id": lambda delivery, _: delivery.original.id if delivery.original else None,
    "order_id": lambda delivery, _: delivery.order_id,
    "job_id": lambda delivery, _: delivery.job_id,
    "workspace_id": lambda delivery, _: delivery.workspace_id,
    "collection_name": lambda delivery, _: delivery.collection_name,
    "constellation": lambda delivery, _: delivery.collection_name,
    "data_product_id": lambda delivery, _: delivery.product_id,
    "title": lambda delivery, _: delivery.title,
    "tags": lambda delivery, _: delivery.tags,
    "datetime": lambda _, item: item.acquired_at,
    "eo:cloud_cover": lambda _, item: item.number * 10 % 100,
    "gsd": lambda _delivery, _item: 0.5,
}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "eq": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_IDS = {
    "id": IdKind.ITEM,
    "collection": IdKind.COLLECTION,
    "asset_id": IdKind.ORIGINAL,
    "order_id": IdKind.ORDER,
    "job_id": IdKind.PROCESSING_JOB,
}
_MAX_DEPTH = 50

Condition = Callable[[Delivery, Item], bool]


@dataclass(frozen=True, slots=True)
class ItemQuery:
    """
    A parsed search.

    Attributes:
        numbers: The only deliveries that can match, in ascending order. None: all.
    """

    matches: Condition
    numbers: list[int] | None = None


def parse_search(body: Mapping[str, Any], deliveries: Deliveries) -> ItemQuery:
    """Return the query of a search *body*. Raises: RequestRejected."""
    conditions: list[Condition] = []
    numbers: list[set[int]] = []
    for key, name in (("ids", "id"), ("collections", "collection")):
        if body.get(key):
            wanted = _read_ids(body[key])
            conditions.append(_member(name, wanted))
            numbers.append(_find_numbers(deliveries, name, wanted))
    if body.get("bbox") is not None:
        conditions.append(_overlaps(body["bbox"]))
    if body.get("intersects") is not None:
        conditions.append(_overlaps(_bounds(body["intersects"])))
    if body.get("datetime") is not None:
        conditions.append(_during(str(body["datetime"])))
    tree = body.get("filter")
    if isinstance(tree, Mapping) and "op" not in tree:
        tree = tree.get("filter")
    if tree:
        conditions.append(_parse(tree, 0))
        numbers += _narrow(deliveries, tree)
    only = sorted(set.intersection(*numbers)) if numbers else None
    return ItemQuery(lambda delivery, item: all(holds(delivery, item) for holds in conditions), only)


def _read_ids(value: Any) -> set[str]:
    if not isinstance(value, list):
        raise RequestRejected(400, "expected a list of IDs")
    return set(map(str, value))


def _parse(node: Any, depth: int) -> Condition:
    if not isinstance(node, Mapping) or not isinstance(node.get("args"), list) or depth > _MAX_DEPTH:
        raise RequestRejected(400, "the filter is not valid CQL2-JSON")
    name, args = str(node.get("op")).lower(), node["args"]
    if name in {"and", "or"}:
        parts = [_parse(part, depth + 1) for part in args]
        join = all if name == "and" else any
        return lambda delivery, item: join(part(delivery, item) for part in parts)
    if name == "not" and len(args) == 1:
        inner = _parse(args[0], depth + 1)
        return lambda delivery, item: not inner(delivery, item)
    if len(args) == 2 and name == "in" and isinstance(args[1], list):
        return _member(_property(args[0]), set(map(str, args[1])))
    if len(args) == 2 and name in _COMPARISONS:
        return _compare(_COMPARISONS[name], _property(args[0]), args[1])
    raise RequestRejected(400, f"the operator {name!r} is not supported")


def _property(node: Any) -> str:
    name = node.get("property") if isinstance(node, Mapping) else None
    name = _ALIASES.get(str(name), str(name))
    if name not in _VALUES:
        raise RequestRejected(400, f"{name!r} is not a queryable property")
    return name


def _compare(compare: Callable[[Any, Any], bool], name: str, wanted: Any) -> Condition:
    if name == "datetime":
        wanted = _timestamp(str(wanted.get("timestamp") if isinstance(wanted, Mapping) else wanted))

    def holds(delivery: Delivery, item: Item) -> bool:
        actual = _VALUES[name](delivery, item)
        if name == "tags":
            return wanted in (actual or ())
        try:
            return actual is not None and compare(actual, wanted)
        except TypeError:
            return False

    return holds


def _member(name: str, wanted: set[str]) -> Condition:
    return lambda delivery, item: _VALUES[name](delivery, item) in wanted


def _narrow(deliveries: Deliveries, node: Any) -> list[set[int]]:
    """Return the deliveries that an ID in *node* selects, if the filter requires that ID."""
    name = str(node["op"]).lower()
    if name == "and":
        return [numbers for part in node["args"] for numbers in _narrow(deliveries, part)]
    if name not in {"=", "eq"}:
        return []
    key = _property(node["args"][0])
    return [_find_numbers(deliveries, key, {str(node["args"][1])})] if key in _IDS else []


def _find_numbers(deliveries: Deliveries, name: str, wanted: set[str]) -> set[int]:
    found: set[int] = set()
    for text in wanted:
        index = deliveries.find(_IDS[name], text)
        if index:
            found.update(order_numbers(index.job) if name == "order_id" else (index.job,))
    return found


def _overlaps(bounds: Any) -> Condition:
    try:
        west, south, east, north = map(float, bounds if len(bounds) == 4 else (*bounds[:2], *bounds[3:5]))
    except (TypeError, ValueError):
        raise RequestRejected(400, "the bounding box is not valid") from None

    def holds(_: Delivery, item: Item) -> bool:
        left, bottom, right, top = item.bounds
        return left <= east and right >= west and bottom <= north and top >= south

    return holds


def _bounds(geometry: Any) -> list[float]:
    """Return the bounding box of *geometry*. The simulator compares boxes, not shapes."""
    points: list[Any] = []

    def collect(node: Any) -> None:
        if isinstance(node, list) and len(node) > 1 and all(isinstance(part, int | float) for part in node):
            points.append(node)
        elif isinstance(node, list):
            for part in node:
                collect(part)

    collect(geometry.get("coordinates") if isinstance(geometry, Mapping) else None)
    if not points:
        raise RequestRejected(400, "the geometry is not valid")
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    return [min(xs), min(ys), max(xs), max(ys)]


def _during(text: str) -> Condition:
    start, separator, end = text.partition("/")
    if not separator:
        end = start
    low = None if start in {"", ".."} else _timestamp(start)
    high = None if end in {"", ".."} else _timestamp(end)
    return lambda _, item: (
        (low is None or item.acquired_at >= low) and (high is None or item.acquired_at <= high)
    )


def _timestamp(text: str) -> datetime:
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        raise RequestRejected(400, f"{text!r} is not a valid timestamp") from None
    if stamp.tzinfo is None:
        raise RequestRejected(400, f"{text!r} has no time zone")
    return stamp
