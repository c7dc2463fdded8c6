"""
Convert JSON documents of today's API to values. Errors name the path of the invalid value in the document.

The functions are pure. An unreadable entry of a list does not affect the other entries of the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.sources.up42_common.fields import is_collection_identity, is_identity
from bulkdl.sources.up42_common.json_documents import (
    invalid_document,
    is_encodable,
    json_type,
    parse_signed_url,
    read_document,
)
from bulkdl.sources.up42_storage.models import (
    Collection,
    Item,
    Order,
    Original,
    ProcessingJob,
    StacAsset,
    UnreadableEntry,
)
from bulkdl.sources.up42_storage.paths import ApiUrls
from bulkdl.sources.up42_storage.schemas import (
    CollectionDocument,
    ItemDocument,
    ItemProperties,
    JobDocument,
    OrderDocument,
    OriginalDocument,
)

_T = TypeVar("_T")

# An item of Sentinel-2 has 22 assets. The limit protects the memory.
MAX_ASSETS = 10_000
_MAX_KEY_CHARS = 1024


@dataclass(frozen=True, slots=True)
class NumberedPage(Generic[_T]):
    """One page of a numbered list. *total_pages* and *total_entries* are None if the server omits them."""

    entries: tuple[_T | UnreadableEntry, ...]
    total_pages: int | None = None
    total_entries: int | None = None


@dataclass(frozen=True, slots=True)
class NextPage:
    """The request for the next page: a GET, or a POST with *payload*."""

    url: URL
    payload: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LinkedPage(Generic[_T]):
    """One page of a list whose pages are linked. *next_page* is None at the end."""

    entries: tuple[_T | UnreadableEntry, ...]
    next_page: NextPage | None = None


def signed_url(document: object, label: str) -> str:
    """Read a signed URL. It is absolute (http or https) and not interpreted further."""
    url = document.get("url") if isinstance(document, dict) else None
    return parse_signed_url(url, label, "url")


def original(entry: object, label: str, path: str = "asset") -> Original:
    """Read one original delivery."""
    fields = read_document(OriginalDocument, entry, label, path)
    legacy_order_id = fields.order.get("id")
    return Original(
        id=fields.id.lower(),
        workspace_id=fields.workspace_id,
        created_at=fields.created_at,
        name=fields.name,
        title=fields.title,
        media_type=fields.media_type.lower(),
        size_bytes=fields.size_bytes,
        order_id=fields.order_id or (legacy_order_id if is_identity(legacy_order_id) else None),
        collection_name=fields.collection_name,
        extraction_status=fields.extraction_status,
        document=_as_object(entry),
    )


def order(entry: object, label: str, path: str = "order") -> Order:
    """Read one order."""
    fields = read_document(OrderDocument, entry, label, path)
    return Order(fields.id, fields.workspace_id, fields.display_name, fields.status, fields.created_at)


def job(entry: object, urls: ApiUrls, label: str, path: str = "job") -> ProcessingJob:
    """Read one processing job."""
    fields = read_document(JobDocument, entry, label, path)
    inputs = fields.definition.get("inputs")
    title = inputs.get("title") if isinstance(inputs, dict) else None
    return ProcessingJob(
        id=fields.id,
        workspace_id=fields.workspace_id,
        process_id=fields.process_id,
        title=title if isinstance(title, str) and is_encodable(title) else "",
        status=fields.status,
        created_at=fields.created_at,
        collection_id=urls.collection_id(fields.results.get("collection")),
        finished_at=fields.finished_at,
    )


def collection(entry: object, urls: ApiUrls, label: str, path: str = "collection") -> Collection:
    """Read one STAC collection."""
    fields = read_document(CollectionDocument, entry, label, path)
    return Collection(
        id=fields.id,
        workspace_id=fields.workspace_id,
        title=fields.user_title or fields.title,
        asset_id=fields.asset_id,
        order_id=fields.order_id,
        order_status=fields.order_status,
        job_id=fields.job_id,
        collection_name=fields.collection_name,
        assets=_assets(fields.assets, urls, label, f"{path}.assets"),
        document=_as_object(entry),
    )


def item(entry: object, urls: ApiUrls, label: str, path: str = "item") -> Item:
    """Read one STAC item."""
    fields = read_document(ItemDocument, entry, label, path)
    properties = ItemProperties.model_validate(fields.properties)
    return Item(
        id=fields.id,
        collection_id=fields.collection,
        workspace_id=properties.workspace_id,
        order_id=properties.order_id,
        job_id=properties.job_id,
        assets=_assets(fields.assets, urls, label, f"{path}.assets"),
        document=_as_object(entry),
    )


def _assets(assets: dict[str, Any], urls: ApiUrls, label: str, path: str) -> tuple[StacAsset, ...]:
    if len(assets) > MAX_ASSETS:
        raise invalid_document(label, path, f"expected at most {MAX_ASSETS} assets, got {len(assets)}")
    return tuple(
        _asset(key, fields if isinstance(fields, dict) else {}, urls) for key, fields in assets.items()
    )


def _asset(key: str, fields: dict[str, Any], urls: ApiUrls) -> StacAsset:
    media_type, roles = fields.get("type"), fields.get("roles")
    return StacAsset(
        key=key[:_MAX_KEY_CHARS].encode("utf-8", "replace").decode(),
        asset_id=urls.asset_id(fields.get("href")),
        media_type=media_type[:200].lower() if isinstance(media_type, str) else "",
        roles=frozenset(
            role[:64].lower()
            for role in (roles[:64] if isinstance(roles, list) else ())
            if isinstance(role, str)
        ),
    )


def originals_page(document: object, label: str) -> NumberedPage[Original]:
    """Read one page of original deliveries."""
    return _numbered_page(document, label, "asset", lambda entry, path: original(entry, label, path))


def orders_page(document: object, label: str) -> NumberedPage[Order]:
    """Read one page of orders."""
    return _numbered_page(document, label, "order", lambda entry, path: order(entry, label, path))


def collections_page(document: object, urls: ApiUrls, label: str) -> LinkedPage[Collection]:
    """Read one page of STAC collections."""
    entries = _list_in(document, "collections", label)
    read = tuple(
        _entries(
            entries,
            "collections",
            "collection",
            is_collection_identity,
            lambda entry, path: collection(entry, urls, label, path),
        )
    )
    return LinkedPage(read, _next_page(document, urls, label))


def items_page(
    document: object, urls: ApiUrls, label: str, payload: dict[str, Any] | None = None
) -> LinkedPage[Item]:
    """
    Read one page of STAC items.

    Args:
        payload: The body of the search, for a next link that adds to it.
    """
    entries = _list_in(document, "features", label)
    read = tuple(
        _entries(
            entries, "features", "item", _is_short_text, lambda entry, path: item(entry, urls, label, path)
        )
    )
    return LinkedPage(read, _next_page(document, urls, label, payload))


def jobs_page(document: object, urls: ApiUrls, label: str) -> LinkedPage[ProcessingJob]:
    """Read one page of processing jobs."""
    entries = _list_in(document, "jobs", label)
    read = tuple(
        _entries(entries, "jobs", "job", is_identity, lambda entry, path: job(entry, urls, label, path))
    )
    return LinkedPage(read, _next_page(document, urls, label))


def _numbered_page(
    document: object, label: str, kind: str, read: Callable[[object, str], _T]
) -> NumberedPage[_T]:
    entries = _list_in(document, "content", label)
    fields = _as_object(document)
    return NumberedPage(
        tuple(_entries(entries, "content", kind, is_identity, read)),
        _count(fields.get("totalPages")),
        _count(fields.get("totalElements")),
    )


def _entries(
    entries: list[Any],
    path: str,
    kind: str,
    is_valid_id: Callable[[object], bool],
    read: Callable[[object, str], _T],
) -> Iterator[_T | UnreadableEntry]:
    for number, entry in enumerate(entries):
        try:
            yield read(entry, f"{path}[{number}]")
        except ApiError as failure:
            fields = _as_object(entry)
            identity = fields.get("jobID" if kind == "job" else "id")
            is_valid = isinstance(identity, str) and is_valid_id(identity)
            collection_id = fields.get("collection")
            yield UnreadableEntry(
                kind,
                identity if is_valid else None,
                failure.detail,
                collection_id if is_collection_identity(collection_id) else None,
            )


def _list_in(document: object, key: str, label: str) -> list[Any]:
    if not isinstance(document, dict):
        raise invalid_document(label, "", f"expected an object, got {json_type(document)}")
    entries = document.get(key)
    if not isinstance(entries, list):
        raise invalid_document(label, key, f"expected a list, got {json_type(entries)}")
    return entries


def _next_page(
    document: object, urls: ApiUrls, label: str, payload: dict[str, Any] | None = None
) -> NextPage | None:
    """Return the request of the link with the relation ``next``; None at the end of the list."""
    links = _as_object(document).get("links")
    for link in links if isinstance(links, list) else ():
        if not isinstance(link, dict) or link.get("rel") != "next":
            continue
        href = link.get("href")
        if not isinstance(href, str):
            raise invalid_document(label, "links", f"next: expected a URL, got {json_type(href)}")
        url = urls.resolve_link(href, label)
        if str(link.get("method", "GET")).upper() != "POST":
            return NextPage(url)
        body = link.get("body")
        if not isinstance(body, dict):
            raise invalid_document(label, "links", f"next: expected a body, got {json_type(body)}")
        return NextPage(url, {**(payload or {}), **body} if link.get("merge") is True else body)
    return None


def _as_object(document: object) -> dict[str, Any]:
    return document if isinstance(document, dict) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _is_short_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 512
