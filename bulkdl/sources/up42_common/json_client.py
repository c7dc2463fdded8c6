"""
Request JSON documents with the token of one set of credentials.

Requests are retried. An error document in a 200 response is handled like a response with the status of its
code. A request whose token was rejected is repeated with a new token.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import aiohttp
from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.http.errors import map_http_errors
from bulkdl.models import Reason
from bulkdl.sources.transport import RequestPolicy, describe_request, get_host, read_body
from bulkdl.sources.up42_common.auth import RejectedTokens, TokenSource
from bulkdl.sources.up42_common.errors import ApiErrorInfo, api_error, find_error, parse_error_response
from bulkdl.sources.up42_common.json_documents import parse_json

_T = TypeVar("_T")

# Larger documents are decoded in a thread, not in the event loop.
_DECODE_IN_THREAD_BYTES = 256 * 1024


class _Unauthorised(ApiError):
    """
    The server rejected the token of this attempt.

    Attributes:
        token: The rejected token.
    """

    token = ""


@dataclass(frozen=True, slots=True)
class _Request:
    """One request, which can need several attempts."""

    method: str
    url: URL
    payload: object
    low_priority: bool


class JsonClient:
    """Requests JSON documents with one set of credentials."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        tokens: TokenSource,
        request_policy: RequestPolicy,
        *,
        limit_bytes: int,
        parse_error: Callable[[int, bytes], ApiErrorInfo] = parse_error_response,
    ) -> None:
        """
        Create a client.

        Args:
            limit_bytes: Maximum size of a response.
            parse_error: Reads the error in an unsuccessful response, given its status and body.
        """
        self._session = session
        self._tokens = tokens
        self._request_policy = request_policy
        self._limit_bytes = limit_bytes
        self._parse_error = parse_error

    async def request(
        self,
        method: str,
        url: URL,
        read: Callable[[object, str], _T],
        *,
        payload: object = None,
        low_priority: bool = False,
        is_repeatable: bool = True,
    ) -> tuple[_T, bytes]:
        """
        Request a JSON document, with retries if it can be repeated. A response without content is null.

        Args:
            read: Makes the value of the document, given the label of the request.
            payload: The JSON value to send; None sends no body.
            low_priority: Let other requests pass at the rate limit.
            is_repeatable: Two requests have the same effect as one, for example because they change nothing.

        Returns:
            The value, and the unchanged response body.

        Raises:
            ApiError: The error of the last attempt.
        """

        prepared = _Request(method, url, payload, low_priority)

        async def attempt() -> tuple[_T, bytes]:
            rejected = RejectedTokens(self._tokens)
            while True:
                try:
                    return await self._attempt(prepared, read)
                except _Unauthorised as failure:
                    if not rejected.may_repeat(failure.token):
                        detail = f"{failure.detail} (with a new token)"
                        raise ApiError(Reason.CREDENTIALS, detail) from None

        return await (self._request_policy.retry(attempt) if is_repeatable else attempt())

    async def _attempt(self, prepared: _Request, read: Callable[[object, str], _T]) -> tuple[_T, bytes]:
        url, label = prepared.url, describe_request(prepared.method, prepared.url)
        await self._request_policy.acquire(url, low_priority=prepared.low_priority)
        token = await self._tokens.token()
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token}"}
        with map_http_errors(ApiError, label):
            if prepared.method in ("POST", "PUT"):
                headers["Content-Type"] = "application/json"
            data = None if prepared.payload is None else json.dumps(prepared.payload).encode()
            request = self._session.request(prepared.method, url, headers=headers, data=data)
            async with await self._request_policy.send(request) as response:
                retry_after_s = self._request_policy.apply_cooldown(response)
                body = await read_body(response, self._limit_bytes, label, self._request_policy.timeouts)
        if response.status == 200 or (prepared.method != "GET" and response.status in (201, 204)):
            content = await _decode(b"null" if response.status == 204 else body, read, label)
            if not isinstance(content, ApiErrorInfo):
                return content, body
            error = content
            self._request_policy.apply_cooldown(response, error.status)
        else:
            error = self._parse_error(response.status, body)
        error = distrust_redirect(url, response, error)
        failure = api_error(error, label, retry_after_s=retry_after_s, secrets=(token,))
        if error.status == 401:
            rejection = _Unauthorised(failure.reason, failure.detail)
            rejection.token = token
            raise rejection
        raise failure


def distrust_redirect(url: URL, response: aiohttp.ClientResponse, error: ApiErrorInfo) -> ApiErrorInfo:
    """Return *error*, not as an error of UP42 if a redirect led from *url* to another host."""
    if get_host(response.url) == get_host(url):
        return error
    return replace(error, is_enveloped=False)


async def _decode(body: bytes, read: Callable[[object, str], _T], label: str) -> _T | ApiErrorInfo:
    """Return the content of a 200 response: the value, or the error that it contains."""

    def decode_body() -> _T | ApiErrorInfo:
        document = parse_json(body, label)
        return find_error(document) or read(document, label)

    return await asyncio.to_thread(decode_body) if len(body) > _DECODE_IN_THREAD_BYTES else decode_body()
