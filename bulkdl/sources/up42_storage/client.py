"""
Client of today's UP42 API for one account: lists of deliveries, their documents, and signed URLs.

All requests are for JSON and are retried. The POST requests search or sign, so they can be repeated.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import aiohttp
from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.log import get_logger
from bulkdl.models import Reason
from bulkdl.sources.transport import RequestPolicy, get_host
from bulkdl.sources.up42_common.auth import TokenSource
from bulkdl.sources.up42_common.json_client import JsonClient
from bulkdl.sources.up42_storage import decode
from bulkdl.sources.up42_storage.decode import LinkedPage, NextPage, NumberedPage
from bulkdl.sources.up42_storage.errors import parse_problem
from bulkdl.sources.up42_storage.models import (
    Collection,
    Item,
    Order,
    Original,
    ProcessingJob,
    UnreadableEntry,
)
from bulkdl.sources.up42_storage.pagination import iter_entries, iter_linked_pages, iter_numbered_pages
from bulkdl.sources.up42_storage.paths import ApiUrls

_log = get_logger(__name__)

JSON_LIMIT_BYTES = 64 * 1024 * 1024
# The server can send smaller pages. Its maximum is not documented.
PAGE_SIZE = 100
_ERROR_WITHOUT_LISTING = frozenset({403, 404, 410})


class StorageClient:
    """
    Today's UP42 API with the credentials of one account.

    Attributes:
        json: Sends the requests.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        api_url: str,
        tokens: TokenSource,
        request_policy: RequestPolicy,
        *,
        json_limit_bytes: int = JSON_LIMIT_BYTES,
        allow_http: bool = False,
        page_size: int = PAGE_SIZE,
    ) -> None:
        """
        Create a client.

        Args:
            json_limit_bytes: Maximum size of a JSON response.
            allow_http: Accept signed URLs without TLS even if the API uses TLS.
            page_size: Number of entries to request per page.
        """
        self.json = JsonClient(
            session, tokens, request_policy, limit_bytes=json_limit_bytes, parse_error=parse_problem
        )
        self._urls = ApiUrls(api_url)
        self._allow_http = allow_http or URL(api_url).scheme == "http"
        self._page_size = page_size

    def original_pages(
        self,
        query: Mapping[str, str] | None = None,
        on_preview: Callable[[Sequence[Original | UnreadableEntry]], object] | None = None,
    ) -> AsyncGenerator[Sequence[Original | UnreadableEntry], None]:
        """
        List the original deliveries of the account, the newest page first. Entries can occur twice.

        Args:
            query: Filters of the server, such as ``workspaceId``.
            on_preview: Called early with the entries of the oldest page; see ``iter_numbered_pages``.

        Raises:
            ApiError: The request for a page failed. ``is_listing_withdrawn`` recognises an endpoint that
                UP42 does not offer any more.
        """

        async def page(number: int) -> NumberedPage[Original]:
            url = self._urls.originals(number, self._page_size, dict(query or {}))
            result, _ = await self.json.request("GET", url, decode.originals_page)
            return result

        return iter_numbered_pages(page, "assets", on_preview)

    def order_pages(
        self, query: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Sequence[Order | UnreadableEntry], None]:
        """List the orders of the account, the newest page first. Entries can occur twice."""

        async def page(number: int) -> NumberedPage[Order]:
            url = self._urls.orders(number, self._page_size, dict(query or {}))
            result, _ = await self.json.request("GET", url, decode.orders_page, low_priority=True)
            return result

        return iter_numbered_pages(page, "orders")

    def job_pages(
        self, query: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Sequence[ProcessingJob | UnreadableEntry], None]:
        """List the processing jobs of the account. Entries can occur twice."""

        async def page(following: NextPage | None) -> LinkedPage[ProcessingJob]:
            def read(document: object, label: str) -> LinkedPage[ProcessingJob]:
                return decode.jobs_page(document, self._urls, label)

            paging = {"limit": str(self._page_size), "sort": "created,desc"}
            url = following.url if following else self._urls.jobs({**(query or {}), **paging})
            result, _ = await self.json.request("GET", url, read, low_priority=True)
            return result

        return iter_linked_pages(page, "processing jobs")

    def collection_pages(
        self, query: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Sequence[Collection | UnreadableEntry], None]:
        """List the STAC collections of the account. Entries can occur twice."""

        async def page(following: NextPage | None) -> LinkedPage[Collection]:
            def read(document: object, label: str) -> LinkedPage[Collection]:
                return decode.collections_page(document, self._urls, label)

            paging = {"limit": str(self._page_size)}
            url = following.url if following else self._urls.collections({**(query or {}), **paging})
            result, _ = await self.json.request("GET", url, read)
            return result

        return iter_linked_pages(page, "collections")

    def search_items(self, collection_ids: Sequence[str]) -> AsyncGenerator[Item | UnreadableEntry, None]:
        """List the items of several collections with one search. Entries can occur twice."""
        payload: dict[str, Any] = {"collections": list(collection_ids), "limit": self._page_size}

        async def page(following: NextPage | None) -> LinkedPage[Item]:
            body = payload if following is None else following.payload

            def read(document: object, label: str) -> LinkedPage[Item]:
                return decode.items_page(document, self._urls, label, body)

            method = "GET" if body is None else "POST"
            url = following.url if following else self._urls.search()
            result, _ = await self.json.request(method, url, read, payload=body)
            return result

        return iter_entries(iter_linked_pages(page, "items"))

    def items(self, collection_id: str) -> AsyncGenerator[Item | UnreadableEntry, None]:
        """List the items of one collection. Entries can occur twice."""

        async def page(following: NextPage | None) -> LinkedPage[Item]:
            def read(document: object, label: str) -> LinkedPage[Item]:
                return decode.items_page(document, self._urls, label)

            first = self._urls.items(collection_id, {"limit": str(self._page_size)})
            result, _ = await self.json.request("GET", following.url if following else first, read)
            return result

        return iter_entries(iter_linked_pages(page, "items"))

    async def collection(self, collection_id: str) -> Collection:
        """Return one STAC collection."""

        def read(document: object, label: str) -> Collection:
            return decode.collection(document, self._urls, label)

        result, _ = await self.json.request("GET", self._urls.collection(collection_id), read)
        _check_id(result.id, collection_id)
        return result

    async def original(self, asset_id: str) -> Original:
        """Return one original delivery."""
        result, _ = await self.json.request("GET", self._urls.original(asset_id), decode.original)
        _check_id(result.id, asset_id.lower())
        return result

    async def job(self, job_id: str) -> ProcessingJob:
        """Return one processing job."""

        def read(document: object, label: str) -> ProcessingJob:
            return decode.job(document, self._urls, label)

        result, _ = await self.json.request("GET", self._urls.job(job_id), read)
        return result

    async def order(self, order_id: str) -> Order:
        """Return one order."""
        result, _ = await self.json.request("GET", self._urls.order(order_id), decode.order)
        return result

    async def sign(self, asset_id: str) -> str:
        """
        Request a signed URL of an asset. It is opaque and expires after about five minutes.

        Raises:
            ApiError: INSECURE_URL if the URL has no TLS; NOT_FOUND if UP42 does not have the asset.
        """
        text, _ = await self.json.request("POST", self._urls.download_url(asset_id), decode.signed_url)
        url = URL(text, encoded=True)
        if url.scheme == "http" and not self._allow_http:
            raise ApiError(Reason.INSECURE_URL, f"asset {asset_id}: http://{get_host(url)}{url.raw_path}")
        _log.debug("url.signed", host=get_host(url), path=url.raw_path)
        return text


def is_listing_withdrawn(failure: ApiError) -> bool:
    """Return whether *failure* means that UP42 does not offer a list (any more) to this account."""
    return getattr(failure, "status", 0) in _ERROR_WITHOUT_LISTING


def _check_id(found: str, expected: str) -> None:
    if found != expected:
        raise ApiError(Reason.INVALID_RESPONSE, f"expected {expected}, got {found}")
