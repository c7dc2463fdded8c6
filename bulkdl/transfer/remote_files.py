"""
The two places where bytes come from: signed URLs of the storage, and UP42's API itself.

The storage's session carries no credentials: a signed URL is its own permission.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime

import aiohttp

from bulkdl.errors import TransferError
from bulkdl.http.errors import map_http_errors, requested_wait_s
from bulkdl.http.rate_limit import Cooldown, cooldown_seconds
from bulkdl.http.retry import RetryPolicy
from bulkdl.transfer.response_rules import reason_for_status, reason_for_storage_error, xml_error_code
from bulkdl.transfer.signed_url import SignedUrl

_ERROR_BYTES = 4096
_FRESH_MARGIN_S = 5.0


class SignedUrlSource:
    """
    An archive in UP42's storage.

    Args:
        sign: Asks UP42 for a signed URL.
    """

    resumable = True
    prefetched = b""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        sign: Callable[[], Awaitable[str]],
        cooldown: Cooldown,
        policy: RetryPolicy,
        *,
        headers_timeout_s: float,
    ) -> None:
        self._session = session
        self._sign = sign
        self._cooldown = cooldown
        self._policy = policy
        self._headers_timeout_s = headers_timeout_s
        self._signed: SignedUrl | None = None
        self._tried = False
        self._url_version = 0

    @property
    def source(self) -> str | None:
        return self._signed.source if self._signed else None

    async def prepare(self) -> int:
        # A URL that nobody has tried is kept though it looks old: it may be our clock that is wrong.
        known = self._signed
        if known is None or (self._tried and not known.is_valid_at(datetime.now(UTC), _FRESH_MARGIN_S)):
            self._signed = SignedUrl.parse(await self._sign())
            self._tried = False
            self._url_version += 1
        return self._url_version

    def renew(self, address: int) -> None:
        if address == self._url_version:
            self._signed = None

    @asynccontextmanager
    async def open(self, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        signed = self._signed
        if signed is None:
            raise RuntimeError("open() was called before prepare()")
        self._tried = True
        await self._cooldown.wait(signed.host)
        with map_http_errors(TransferError, signed.source):
            async with asyncio.timeout(self._headers_timeout_s):
                response = await self._session.get(signed.url, headers=headers)
        async with response:
            yield response

    async def error_from_response(self, response: aiohttp.ClientResponse) -> TransferError:
        with map_http_errors(TransferError, str(self.source)):
            async with asyncio.timeout(self._headers_timeout_s):
                body = (await response.content.read(_ERROR_BYTES)).decode("utf-8", "replace")
        signed = self._signed
        expired = signed is not None and not signed.is_valid_at(datetime.now(UTC), 0.0)
        reason = reason_for_storage_error(response.status, body, url_expired=expired)
        if response.status == 404:
            self.renew(self._url_version)  # only the API can say that there is no such archive
        wait_s = requested_wait_s(response)
        host_s = cooldown_seconds(response.status, wait_s, self._policy)
        if signed is not None and host_s is not None:
            self._cooldown.start(signed.host, host_s)
        code = xml_error_code(body)
        detail = f"storage answered HTTP {response.status}" + (f" ({code})" if code else "")
        return TransferError(reason, detail, retry_after_s=wait_s)


class ApiSource:
    """
    A quicklook or a data.json, which the API serves itself; it takes no ranges.

    Args:
        get: Gives a response, and what has been read of its body already.
    """

    resumable = False
    source = None

    def __init__(
        self, get: Callable[[], AbstractAsyncContextManager[tuple[aiohttp.ClientResponse, bytes]]]
    ) -> None:
        self.prefetched = b""
        self._get = get

    async def prepare(self) -> int:
        """Nothing to prepare: the client brings its token along."""
        return 0

    def renew(self, address: int) -> None:
        """Nothing to renew, either."""

    @asynccontextmanager
    async def open(self, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        del headers  # no ranges, and the session negotiates its own encoding
        async with self._get() as (response, self.prefetched):
            yield response

    async def error_from_response(self, response: aiohttp.ClientResponse) -> TransferError:
        return TransferError(
            reason_for_status(response.status),
            f"the API sent HTTP {response.status}",
            retry_after_s=requested_wait_s(response),
        )
