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

from bulkdl.errors import TransferFailure
from bulkdl.http.failures import requested_wait_s, translated
from bulkdl.http.pace import Cooldown, cooling_s
from bulkdl.http.retry import RetryPolicy
from bulkdl.transfer.decisions import refused_for, storage_refusal, xml_error
from bulkdl.transfer.signed_url import SignedUrl

_ERROR_BYTES = 4096
_FRESH_MARGIN_S = 5.0


class SignedOrigin:
    """
    An archive in UP42's storage.

    Args:
        sign: Asks UP42 for a signed URL.
    """

    resumable = True
    begun = b""

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
        self._address = 0

    @property
    def source(self) -> str | None:
        return self._signed.source if self._signed else None

    async def prepare(self) -> int:
        # A URL that nobody has tried is kept though it looks old: it may be our clock that is wrong.
        known = self._signed
        if known is None or (self._tried and not known.fresh(datetime.now(UTC), _FRESH_MARGIN_S)):
            self._signed = SignedUrl.parse(await self._sign())
            self._tried = False
            self._address += 1
        return self._address

    def renew(self, address: int) -> None:
        if address == self._address:
            self._signed = None

    @asynccontextmanager
    async def open(self, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        signed = self._signed
        if signed is None:
            raise RuntimeError("open() was called before prepare()")
        self._tried = True
        await self._cooldown.passed(signed.host)
        with translated(TransferFailure, signed.source):
            async with asyncio.timeout(self._headers_timeout_s):
                response = await self._session.get(signed.url, headers=headers)
        async with response:
            yield response

    async def refusal(self, response: aiohttp.ClientResponse) -> TransferFailure:
        with translated(TransferFailure, str(self.source)):
            async with asyncio.timeout(self._headers_timeout_s):
                body = (await response.content.read(_ERROR_BYTES)).decode("utf-8", "replace")
        signed = self._signed
        expired = signed is not None and not signed.fresh(datetime.now(UTC), 0.0)
        reason = storage_refusal(response.status, body, url_expired=expired)
        if response.status == 404:
            self.renew(self._address)  # only the API can say that there is no such archive
        wait_s = requested_wait_s(response)
        host_s = cooling_s(response.status, wait_s, self._policy)
        if signed is not None and host_s is not None:
            self._cooldown.cool(signed.host, host_s)
        code = xml_error(body)
        detail = f"storage answered HTTP {response.status}" + (f" ({code})" if code else "")
        return TransferFailure(reason, detail, retry_after_s=wait_s)


class ApiOrigin:
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
        self.begun = b""
        self._get = get

    async def prepare(self) -> int:
        """Nothing to prepare: the client brings its token along."""
        return 0

    def renew(self, address: int) -> None:
        """Nothing to renew, either."""

    @asynccontextmanager
    async def open(self, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        del headers  # no ranges, and the session negotiates its own encoding
        async with self._get() as (response, self.begun):
            yield response

    async def refusal(self, response: aiohttp.ClientResponse) -> TransferFailure:
        return TransferFailure(
            refused_for(response.status),
            f"the API sent HTTP {response.status}",
            retry_after_s=requested_wait_s(response),
        )
