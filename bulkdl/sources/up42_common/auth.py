"""
Obtain tokens, and renew them before they expire or after the server rejected them.

A task that finds no valid token renews it under a lock. Tasks that waited for this lock share the result
of that renewal: a token, even if it has expired already, or an error. If the renewing task is cancelled,
the next waiting task renews. There is no background task that would have to be stopped.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.http.errors import map_http_errors
from bulkdl.log import get_logger
from bulkdl.models import Reason
from bulkdl.sources.transport import RequestPolicy, TokenFailure, describe_request, read_body
from bulkdl.sources.up42_common.credentials import (
    Account,
    Credentials,
    ProjectKey,
    StaticToken,
    describe_check,
    get_secrets,
)
from bulkdl.sources.up42_common.errors import (
    ApiErrorInfo,
    api_error,
    describe_oauth_error,
    find_error,
    find_message,
)
from bulkdl.sources.up42_common.json_documents import parse_json

_log = get_logger(__name__)

DEFAULT_LIFETIME_S = 300.0

# New tokens that the server may reject before the credentials count as rejected. A new token can be revoked
# before its first request arrives, for example by another login.
MAX_NEW_TOKENS = 2
# All tokens of one request, with those that expired on the way or that another task replaced.
MAX_TOKENS = 10

_MARGIN_S = 30.0
_MARGIN_SHARE = 0.1
_BODY_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Grant:
    """A token and its lifetime, in seconds from the time of the request."""

    token: str = field(repr=False)
    lifetime_s: float


@dataclass(frozen=True, slots=True)
class _CachedToken:
    token: str
    renew_at: float
    expires_at: float


class RejectedTokens:
    """Counts the rejected tokens of one request, and limits its repetitions."""

    def __init__(self, tokens: TokenSource) -> None:
        self._tokens = tokens
        self._count = self._new = 0
        self._is_new = False

    def may_repeat(self, token: str) -> bool:
        """Discard *token*, which the server rejected; return whether another token may be tried."""
        has_expired = self._tokens.has_expired(token)
        self._count += 1
        self._new += self._is_new and not has_expired
        self._is_new = self._tokens.invalidate(token)
        return self._new < MAX_NEW_TOKENS and self._count < MAX_TOKENS


class TokenSource:
    """Provides valid tokens of one set of credentials to all tasks."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        token_url: str,
        credentials: Credentials,
        request_policy: RequestPolicy,
        *,
        client_id: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Create a token source.

        Args:
            client_id: The OAuth client of the password grant. The jobs API does not need it.
        """
        self._session = session
        self._url = URL(token_url, encoded=True)
        self._credentials = credentials
        self._client_id = client_id
        self._request_policy = request_policy
        self._clock = clock
        self._lock = asyncio.Lock()
        self._cached: _CachedToken | None = None
        self._permanent_failure: TokenFailure | None = None
        self._last_failure: TokenFailure | None = None  # of the latest renewal
        self._renewals = 0
        if isinstance(credentials, StaticToken):
            token = credentials.token.get_secret_value()
            self._cached = _CachedToken(token, renew_at=float("inf"), expires_at=float("inf"))

    async def token(self) -> str:
        """
        Return a token that is valid now.

        Raises:
            ApiError: CREDENTIALS if the server rejects the credentials; all later calls raise it without a
                request. Otherwise the error of the last attempt.
        """
        renewals = self._renewals
        if self._cached is not None and self._clock() < self._cached.renew_at:
            return self._cached.token
        async with self._lock:
            is_not_renewed = self._renewals == renewals
            if is_not_renewed or (self._cached is None and self._last_failure is None):
                await self._renew()
            if self._cached is None:
                raise _copy_failure(self._permanent_failure or self._last_failure)
            return self._cached.token

    def has_expired(self, token: str) -> bool:
        """Return whether *token* has expired by our clock, or was replaced."""
        cached = self._cached
        return cached is None or cached.token != token or self._clock() >= cached.expires_at

    def invalidate(self, token: str) -> bool:
        """
        Discard *token*, which the server rejected. The next call of ``token`` renews it, once for all tasks.

        Returns:
            False if *token* had been replaced already, so that the next token may not be a new one.
        """
        if self._cached is None or self._cached.token != token:
            return self._cached is None
        self._cached = None
        if isinstance(self._credentials, StaticToken):
            self._permanent_failure = TokenFailure(
                Reason.CREDENTIALS, "UP42 rejected the given token: it is invalid or has expired"
            )
        return True

    async def _renew(self) -> None:
        if self._permanent_failure is not None:
            return
        try:
            self._cached = await self._request_policy.retry(self._request_token)
            self._last_failure = None
        except ApiError as failure:
            self._last_failure = TokenFailure(
                failure.reason, failure.detail, retry_after_s=failure.retry_after_s
            )
            if failure.reason is Reason.CREDENTIALS:
                self._permanent_failure, self._cached = self._last_failure, None
            # A token that is about to expire is still usable.
            if self._cached is not None and self._clock() >= self._cached.expires_at:
                self._cached = None
        self._renewals += 1

    async def _request_token(self) -> _CachedToken:
        await self._request_policy.acquire(self._url)
        requested_at = self._clock()
        grant = await self._request_grant()
        margin_s = min(_MARGIN_S, _MARGIN_SHARE * grant.lifetime_s)
        _log.info("token.renewed", lifetime_s=round(grant.lifetime_s, 3))
        expires_at = requested_at + grant.lifetime_s
        return _CachedToken(grant.token, renew_at=expires_at - margin_s, expires_at=expires_at)

    async def _request_grant(self) -> Grant:
        label = describe_request("POST", self._url)
        form, headers = _token_request(self._credentials, self._client_id)
        # Redirects are not followed: a redirect would send the password to another address.
        with map_http_errors(ApiError, label):
            request = self._session.post(self._url, data=form, headers=headers, allow_redirects=False)
            async with await self._request_policy.send(request) as response:
                retry_after_s = self._request_policy.apply_cooldown(response)
                body = await read_body(response, _BODY_LIMIT_BYTES, label, self._request_policy.timeouts)
        if response.status != 200:
            explained = describe_oauth_error(body)
            error = ApiErrorInfo(response.status, explained or find_message(body))
            raise self._error_for(error, label, retry_after_s, is_explained=bool(explained))
        document = parse_json(body, label)
        if (rejection := find_error(document)) is not None:
            raise self._error_for(rejection, label, retry_after_s)
        return parse_grant(document, label)

    def _error_for(
        self, error: ApiErrorInfo, label: str, retry_after_s: float | None, *, is_explained: bool = False
    ) -> ApiError:
        secrets = get_secrets(self._credentials)
        failure = api_error(error, label, retry_after_s=retry_after_s, secrets=secrets)
        if error.status in (400, 401, 403):
            hint = "" if is_explained else f" ({describe_check(self._credentials)})"
            return ApiError(Reason.CREDENTIALS, failure.detail + hint)
        if error.status == 404:
            return ApiError(Reason.REJECTED, f"{failure.detail} (check the URL of the token endpoint)")
        return failure


def parse_grant(document: object, label: str) -> Grant:
    """
    Read the response of the token endpoint, in all formats that UP42 has used.

    Raises:
        ApiError: INVALID_RESPONSE if it contains no token.
    """
    fields = document if isinstance(document, dict) else {}
    data = fields.get("data")
    inner = data.get("accessToken") if isinstance(data, dict) else None
    token = next((text for text in (fields.get("access_token"), inner) if _is_header_value(text)), None)
    if not isinstance(token, str):
        raise ApiError(Reason.INVALID_RESPONSE, f"{label}: access_token: missing, or not a token")
    lifetime_s = _parse_seconds(fields.get("expires_in"))
    if lifetime_s is None:
        lifetime_s = _jwt_lifetime(token)
    return Grant(token, DEFAULT_LIFETIME_S if lifetime_s is None else lifetime_s)


def _is_header_value(token: object) -> bool:
    return isinstance(token, str) and token.isascii() and token.isprintable() and bool(token.strip())


def _parse_seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _jwt_lifetime(token: str) -> float | None:
    """Return ``exp - iat`` of *token* if it is a readable JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expires_at, issued_at = _parse_seconds(claims["exp"]), _parse_seconds(claims["iat"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if expires_at is None or issued_at is None or expires_at <= issued_at:
        return None
    return expires_at - issued_at


def _token_request(credentials: Credentials, client_id: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return form and headers of the token request."""
    match credentials:
        case ProjectKey() as key:
            return {"grant_type": "client_credentials"}, {"Authorization": f"Basic {key.basic()}"}
        case Account(username, password):
            secret = password.get_secret_value()
            client = {"client_id": client_id} if client_id is not None else {}
            return {"grant_type": "password", "username": username, "password": secret, **client}, {}
        case StaticToken():
            raise TokenFailure(Reason.CREDENTIALS, "a static token cannot be renewed")


def _copy_failure(failure: TokenFailure | None) -> TokenFailure:
    # Every caller gets its own exception: concurrent callers must not share a traceback.
    if failure is None:
        return TokenFailure(Reason.INTERNAL, "no token was obtained and no error was recorded")
    return TokenFailure(failure.reason, failure.detail, retry_after_s=failure.retry_after_s)
