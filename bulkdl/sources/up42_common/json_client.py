"""
Request JSON documents with the token of one set of credentials.

Requests are retried. An error document in a 200 response is handled like a response with the status of its
code. A request whose token was rejected is repeated with a new token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import aiohttp
from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.http.errors import map_http_errors
from bulkdl.models import Reason
from bulkdl.sources.up42_common.auth import TokenSource
from bulkdl.sources.up42_common.errors import ApiErrorInfo, api_error, find_error, parse_error_response
from bulkdl.sources.up42_common.json_documents import parse_json
from bulkdl.sources.up42_common.transport import RequestPolicy, describe_request, get_host, read_body

_T = TypeVar("_T")

# Maximum number of tokens per request: the cached token, a token that another task renewed, a new token.
MAX_TOKENS = 3
# Larger documents are decoded in a thread, not in the event loop.
_DECODE_IN_THREAD_BYTES = 256 * 1024


class _Unauthorised(ApiError):
    """
    The server rejected the token of this attempt.

    Attributes:
        renews: Whether the next token is a new one. Otherwise it may be a token that is in use already.
    """

    renews = True


class JsonClient:
    """Requests JSON documents with one set of credentials."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        tokens: TokenSource,
        request_policy: RequestPolicy,
        *,
        limit_bytes: int,
    ) -> None:
        self._session = session
        self._tokens = tokens
        self._request_policy = request_policy
        self._limit_bytes = limit_bytes

    async def request(self, method: str, url: URL, read: Callable[[object, str], _T]) -> tuple[_T, bytes]:
        """
        Request a JSON document, with retries.

        Args:
            read: Makes the value of the document, given the label of the request.

        Returns:
            The value, and the unchanged response body.

        Raises:
            ApiError: The error of the last attempt.
        """

        async def attempt() -> tuple[_T, bytes]:
            is_new_token = False
            for _ in range(MAX_TOKENS):
                try:
                    return await self._attempt(method, url, read)
                except _Unauthorised as failure:
                    rejection = failure
                if is_new_token:
                    break
                is_new_token = rejection.renews
            raise ApiError(Reason.CREDENTIALS, f"{rejection.detail} (with a new token)")

        return await self._request_policy.retry(attempt)

    async def _attempt(self, method: str, url: URL, read: Callable[[object, str], _T]) -> tuple[_T, bytes]:
        label = describe_request(method, url)
        await self._request_policy.acquire(url)
        token = await self._tokens.token()
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token}"}
        with map_http_errors(ApiError, label):
            async with await self._request_policy.send(
                self._session.request(method, url, headers=headers)
            ) as response:
                retry_after_s = self._request_policy.apply_cooldown(response)
                body = await read_body(response, self._limit_bytes, label, self._request_policy.timeouts)
        if response.status == 200:
            content = await _decode(body, read, label)
            if not isinstance(content, ApiErrorInfo):
                return content, body
            error = content
            self._request_policy.apply_cooldown(response, error.status)
        else:
            error = parse_error_response(response.status, body)
        error = distrust_redirect(url, response, error)
        failure = api_error(error, label, retry_after_s=retry_after_s, secrets=(token,))
        if error.status == 401:
            rejection = _Unauthorised(failure.reason, failure.detail)
            rejection.renews = self._tokens.invalidate(token)
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
