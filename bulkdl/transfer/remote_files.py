"""
Open remote files: at signed URLs of a storage, or at the API itself.

The session of the storage has no credentials, because a signed URL contains the permission. A signed URL is
short-lived and contains a secret in its query. aiohttp gets it exactly as it was signed: re-encoding ``%2F``
in the signature would invalidate it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import aiohttp
from yarl import URL

from bulkdl.errors import TransferError
from bulkdl.http.errors import map_http_errors, requested_wait_s
from bulkdl.http.rate_limit import Cooldown, cooldown_seconds
from bulkdl.http.retry import RetryPolicy
from bulkdl.transfer.response_rules import reason_for_status, reason_for_storage_error, xml_error_code

_ERROR_BYTES = 4096
_EXPIRY_MARGIN_S = 5.0

# Parameters of the permission and its expiry. They do not choose the object.
_SIGNING = frozenset({"googleaccessid", "expires", "signature", "awsaccesskeyid"})
_SIGNING_PREFIXES = ("x-goog-", "x-amz-", "response-content-")


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """
    A signed URL and the values read from it.

    Attributes:
        url: The URL as issued, byte for byte. ``repr`` does not show it.
        source: Identity of the object: the URL without its query, which may be logged and stored. Two URLs
            with the same source refer to the same object.
        host: Host and port.
        expires_at: Expiry time by the query (V2 ``Expires``, V4 ``X-Goog-Date`` + ``X-Goog-Expires``).
    """

    url: URL = field(repr=False)
    source: str
    host: str
    expires_at: datetime | None

    @classmethod
    def parse(cls, text: str) -> SignedUrl:
        """Parse *text*; an expiry that is missing or invalid is None."""
        url = URL(text, encoded=True)
        return cls(url, _source(url), url.host_port_subcomponent or "", _expiry(url))

    def is_valid_at(self, now: datetime, margin_s: float) -> bool:
        """Return whether the URL is valid for at least *margin_s* after *now*."""
        return self.expires_at is None or now + timedelta(seconds=margin_s) < self.expires_at


def _source(url: URL) -> str:
    plain = str(url.with_query(None).with_fragment(None).with_user(None))
    chosen = sorted(
        f"{name}={value}"
        for name, value in url.query.items()
        if name.lower() not in _SIGNING and not name.lower().startswith(_SIGNING_PREFIXES)
    )
    if not chosen:
        return plain
    # It is unknown what these parameters choose and whether they are secret, so only a hash is kept.
    return f"{plain}#{hashlib.sha256('&'.join(chosen).encode()).hexdigest()[:16]}"


def _expiry(url: URL) -> datetime | None:
    try:
        if "Expires" in url.query:
            return datetime.fromtimestamp(int(url.query["Expires"]), UTC)
        if "X-Goog-Expires" in url.query:
            signed_at = datetime.strptime(url.query["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            return signed_at + timedelta(seconds=int(url.query["X-Goog-Expires"]))
    except (ValueError, KeyError, OverflowError, OSError):
        return None
    return None


class SignedUrlSource:
    """
    An object in the storage of a provider.

    Args:
        sign: Requests a signed URL.
        headers_timeout_s: Maximum time until all response headers have arrived.
    """

    resumable = True

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
        self._used = False
        self._url_version = 0

    @property
    def source(self) -> str | None:
        """Identity of the object; None before the first signed URL."""
        return self._signed.source if self._signed else None

    async def prepare(self) -> int:
        """Request a signed URL if there is none that is valid; return its version."""
        # A URL that was not used yet is kept even if it seems expired: the local clock may be wrong.
        signed = self._signed
        if signed is None or (self._used and not signed.is_valid_at(datetime.now(UTC), _EXPIRY_MARGIN_S)):
            self._signed = SignedUrl.parse(await self._sign())
            self._used = False
            self._url_version += 1
        return self._url_version

    def renew(self, url_version: int) -> None:
        """Discard the URL of this version; a newer URL stays."""
        if url_version == self._url_version:
            self._signed = None

    @asynccontextmanager
    async def open(self, headers: dict[str, str]) -> AsyncIterator[tuple[aiohttp.ClientResponse, bytes]]:
        """Send one GET to the signed URL, after the cooldown of its host."""
        signed = self._signed
        if signed is None:
            raise RuntimeError("open() was called before prepare()")
        self._used = True
        await self._cooldown.wait(signed.host)
        with map_http_errors(TransferError, signed.source):
            async with asyncio.timeout(self._headers_timeout_s):
                response = await self._session.get(signed.url, headers=headers)
        async with response:
            yield response, b""

    async def error_from_response(self, response: aiohttp.ClientResponse) -> TransferError:
        """Return the error for *response*; a 429 or 503 starts the cooldown of the host."""
        with map_http_errors(TransferError, str(self.source)):
            async with asyncio.timeout(self._headers_timeout_s):
                body = (await response.content.read(_ERROR_BYTES)).decode("utf-8", "replace")
        signed = self._signed
        expired = signed is not None and not signed.is_valid_at(datetime.now(UTC), 0.0)
        reason = reason_for_storage_error(response.status, body, url_expired=expired)
        if response.status == 404:
            self.renew(self._url_version)  # only the API can report that the archive does not exist
        wait_s = requested_wait_s(response)
        host_s = cooldown_seconds(response.status, wait_s, self._policy)
        if signed is not None and host_s is not None:
            self._cooldown.start(signed.host, host_s)
        code = xml_error_code(body)
        detail = f"the storage sent HTTP {response.status}" + (f" ({code})" if code else "")
        return TransferError(reason, detail, retry_after_s=wait_s)


class ApiSource:
    """
    A quicklook or a data.json, which the API sends itself, without support for ranges.

    Args:
        get: Yields a response and the bytes that were already read of its body.
    """

    resumable = False
    source = None

    def __init__(
        self, get: Callable[[], AbstractAsyncContextManager[tuple[aiohttp.ClientResponse, bytes]]]
    ) -> None:
        self._get = get

    async def prepare(self) -> int:
        """Return a constant: the API client adds the token to each request."""
        return 0

    def renew(self, url_version: int) -> None:
        """Do nothing: there is no URL that expires."""

    def open(
        self, headers: dict[str, str]
    ) -> AbstractAsyncContextManager[tuple[aiohttp.ClientResponse, bytes]]:
        """Send one GET."""
        del headers  # there are no ranges, and the session negotiates its own encoding
        return self._get()

    async def error_from_response(self, response: aiohttp.ClientResponse) -> TransferError:
        """Return the error for *response*."""
        return TransferError(
            reason_for_status(response.status),
            f"the API sent HTTP {response.status}",
            retry_after_s=requested_wait_s(response),
        )
