"""
URLs of today's API, and the IDs in the URLs that it returns.

A URL from a response is never requested as it is. Its path and query are used on the origin of the API URL,
and only if it names that origin. A token therefore cannot reach another host, or a connection without TLS.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urlencode

from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.models import Reason
from bulkdl.settings.hosts import UP42_HOSTS
from bulkdl.sources.up42_common.fields import is_identity

_HREF = re.compile(r"[!-~]{1,8192}")
_ASSET_PATH = re.compile(r"/v2/assets/([^/]+)(?:/download-url)?/?")
_COLLECTION_PATH = re.compile(r"/v2/assets/stac/collections/([^/]+)/?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def segment(text: str) -> str:
    """Encode *text* as one path segment. A server cannot read it as several segments or as ``..``."""
    encoded = quote(text, safe="")
    return encoded.replace(".", "%2E") if text in (".", "..") else encoded


class ApiUrls:
    """Builds and checks the URLs below one base URL."""

    def __init__(self, api_url: str, *, any_host: bool = False) -> None:
        """
        Create the URLs.

        Args:
            any_host: Read the IDs in URLs of any host, for documents that were stored earlier.
        """
        self._any_host = any_host
        self._base = api_url.rstrip("/")
        self._origin = URL(self._base, encoded=True)

    def _url(self, path: str, query: dict[str, str] | None = None) -> URL:
        return URL(self._base + path + (f"?{urlencode(query, safe=',:')}" if query else ""), encoded=True)

    def originals(self, page: int, size: int, query: dict[str, str]) -> URL:
        """Return one page of original deliveries (from 0), oldest first."""
        paging = {"sort": "createdAt,asc", "size": str(size), "page": str(page)}
        return self._url("/v2/assets", {**query, **paging})

    def original(self, asset_id: str) -> URL:
        return self._url(f"/v2/assets/{segment(asset_id)}/metadata")

    def download_url(self, asset_id: str) -> URL:
        """Return the endpoint that creates a signed URL of an asset."""
        return self._url(f"/v2/assets/{segment(asset_id)}/download-url")

    def collections(self, query: dict[str, str]) -> URL:
        return self._url("/v2/assets/stac/collections", query)

    def collection(self, collection_id: str) -> URL:
        return self._url(f"/v2/assets/stac/collections/{segment(collection_id)}")

    def items(self, collection_id: str, query: dict[str, str]) -> URL:
        return self._url(f"/v2/assets/stac/collections/{segment(collection_id)}/items", query)

    def search(self) -> URL:
        return self._url("/v2/assets/stac/search")

    def jobs(self, query: dict[str, str]) -> URL:
        return self._url("/v2/processing/jobs", query)

    def job(self, job_id: str) -> URL:
        return self._url(f"/v2/processing/jobs/{segment(job_id)}")

    def orders(self, page: int, size: int, query: dict[str, str]) -> URL:
        """Return one page of orders (from 0), oldest first."""
        paging = {"sort": "createdAt,asc", "size": str(size), "page": str(page)}
        return self._url("/v2/orders", {**query, **paging})

    def order(self, order_id: str) -> URL:
        return self._url(f"/v2/orders/{segment(order_id)}")

    def resolve_link(self, href: str, label: str) -> URL:
        """
        Return the URL of a link, absolute or relative, on the origin of the API.

        A link with http to the host of the API is upgraded.

        Args:
            label: The request, for the error message.

        Raises:
            ApiError: INVALID_RESPONSE if the link is not a URL or leads to another host.
        """
        url = _parse(href) if _HREF.fullmatch(href) else None
        if url is None:
            raise ApiError(Reason.INVALID_RESPONSE, f"{label}: next link: expected a URL")
        if url.absolute and not self._is_own_origin(url):
            raise ApiError(Reason.INVALID_RESPONSE, f"{label}: next link: unexpected host {url.host!r}")
        if not url.raw_path.startswith("/"):
            raise ApiError(Reason.INVALID_RESPONSE, f"{label}: next link: expected an absolute path")
        path = url.raw_path
        base_path = self._origin.raw_path.rstrip("/")
        if not url.absolute and base_path and not path.startswith(base_path + "/"):
            path = base_path + path
        query = f"?{url.raw_query_string}" if url.raw_query_string else ""
        return URL(str(self._origin.origin()) + path + query, encoded=True)

    def _is_own_origin(self, url: URL) -> bool:
        """Return whether *url* names the host of the API; the scheme may differ with the default ports."""
        if url.user is not None or (url.host or "").lower() != (self._origin.host or "").lower():
            return False
        if url.port == self._origin.port:
            return True
        return all(each.port == _DEFAULT_PORTS.get(each.scheme) for each in (url, self._origin))

    def asset_id(self, href: object) -> str | None:
        """Return the asset ID in *href* in lower case; None if *href* is not an asset of UP42."""
        return self._find_id(href, _ASSET_PATH, lower=True)

    def collection_id(self, href: object) -> str | None:
        """Return the collection ID in *href*; None if *href* is not a collection of UP42."""
        return self._find_id(href, _COLLECTION_PATH, lower=False)

    def _find_id(self, href: object, pattern: re.Pattern[str], *, lower: bool) -> str | None:
        url = _parse(href) if isinstance(href, str) and _HREF.fullmatch(href) else None
        if url is None or not url.raw_path.startswith("/"):
            return None
        # Behind a gateway the documents still contain the host of UP42. Only the ID is used.
        is_known = self._any_host or not url.absolute or self._is_own_origin(url) or url.host in UP42_HOSTS
        if not is_known:
            return None
        match = pattern.fullmatch(url.raw_path[url.raw_path.find("/v2/assets/") :])
        identity = unquote(match.group(1)) if match else None
        if not is_identity(identity):
            return None
        return identity.lower() if lower else identity


def _parse(href: str) -> URL | None:
    try:
        url = URL(href, encoded=True)
        _ = url.host, url.port, url.user
    except (ValueError, LookupError):  # yarl raises IndexError for http://a[x]@
        return None
    return url if not url.absolute or url.scheme in ("http", "https") else None
