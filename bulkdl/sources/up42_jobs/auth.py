"""
The token: obtained once for everybody, renewed shortly before its end or when the server refuses it.

Whoever finds no usable token renews it under a lock. Those who waited meanwhile share what came
of it, be it a token that lives for no time at all or a failure. If the one who renews is
cancelled, the next in line does it: there is no worker in the background to leave behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.http.errors import map_http_errors
from bulkdl.log import get_logger
from bulkdl.models import Reason
from bulkdl.sources.up42_jobs.credentials import Account, Credentials, ProjectKey, StaticToken, secrets_of
from bulkdl.sources.up42_jobs.decode import parse_json
from bulkdl.sources.up42_jobs.errors import ApiErrorInfo, api_error, find_error, find_message
from bulkdl.sources.up42_jobs.grants import Grant, parse_grant
from bulkdl.sources.up42_jobs.transport import RequestPolicy, TokenFailure, body_of, describe_request

_log = get_logger(__name__)

_MARGIN_S = 30.0
_MARGIN_SHARE = 0.1
_BODY_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _CachedToken:
    token: str
    renew_at: float
    ends_at: float


class TokenSource:
    """Gives a valid token of one set of credentials to all who ask."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        token_url: str,
        credentials: Credentials,
        request_policy: RequestPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._url = URL(token_url, encoded=True)
        self._credentials = credentials
        self._request_policy = request_policy
        self._clock = clock
        self._lock = asyncio.Lock()
        self._held: _CachedToken | None = None
        self._refused: TokenFailure | None = None  # for good
        self._failed: TokenFailure | None = None  # in the latest renewal
        self._renewals = 0
        if isinstance(credentials, StaticToken):
            token = credentials.token.get_secret_value()
            self._held = _CachedToken(token, renew_at=float("inf"), ends_at=float("inf"))

    async def token(self) -> str:
        """
        Return a token that is valid now.

        Raises:
            ApiError: CREDENTIALS, at once and from then on for everybody, if the server does
                not accept them; otherwise what was left after the retries.
        """
        renewals = self._renewals
        if self._held is not None and self._clock() < self._held.renew_at:
            return self._held.token
        async with self._lock:
            nobody_did = self._renewals == renewals
            if nobody_did or (self._held is None and self._failed is None):
                await self._renew()
            if self._held is None:
                raise _again(self._refused or self._failed)
            return self._held.token

    def invalidate(self, token: str) -> bool:
        """
        Note that the server refused *token*: the next who asks renews it, once for everybody.

        Returns:
            False if it is out of use already, so that the next token may not be that new, either.
        """
        if self._held is None or self._held.token != token:
            return self._held is None
        self._held = None
        if isinstance(self._credentials, StaticToken):
            self._refused = TokenFailure(
                Reason.CREDENTIALS, "UP42 does not accept the given token (any more)"
            )
        return True

    async def _renew(self) -> None:
        if self._refused is not None:
            return
        try:
            self._held = await self._request_policy.retry(self._granted)
            self._failed = None
        except ApiError as failure:
            self._failed = TokenFailure(failure.reason, failure.detail, retry_after_s=failure.retry_after_s)
            if failure.reason is Reason.CREDENTIALS:
                self._refused, self._held = self._failed, None
            # A token in its last seconds is better than none.
            if self._held is not None and self._clock() >= self._held.ends_at:
                self._held = None
        self._renewals += 1

    async def _granted(self) -> _CachedToken:
        await self._request_policy.acquire(self._url)
        asked_at = self._clock()
        grant = await self._ask()
        margin_s = min(_MARGIN_S, _MARGIN_SHARE * grant.life_s)
        _log.info("token.renewed", lifetime_s=round(grant.life_s, 3))
        ends_at = asked_at + grant.life_s
        return _CachedToken(grant.token, renew_at=ends_at - margin_s, ends_at=ends_at)

    async def _ask(self) -> Grant:
        where = describe_request("POST", self._url)
        form, headers = _request_of(self._credentials)
        # No redirect is followed: it would carry the password to wherever it points.
        with map_http_errors(ApiError, where):
            request = self._session.post(self._url, data=form, headers=headers, allow_redirects=False)
            async with await self._request_policy.send(request) as response:
                asked_s = self._request_policy.apply_cooldown(response)
                body = await body_of(response, _BODY_LIMIT_BYTES, where, self._request_policy.patience)
        if response.status != 200:
            raise self._failure(ApiErrorInfo(response.status, find_message(body)), where, asked_s)
        document = parse_json(body, where)
        if (complaint := find_error(document)) is not None:
            raise self._failure(complaint, where, asked_s)
        return parse_grant(document, where)

    def _failure(self, complaint: ApiErrorInfo, where: str, asked_s: float | None) -> ApiError:
        secrets = secrets_of(self._credentials)
        failure = api_error(complaint, where, retry_after_s=asked_s, secrets=secrets)
        if complaint.status in (400, 401, 403):
            return ApiError(Reason.CREDENTIALS, failure.detail)
        if complaint.status == 404:
            return ApiError(Reason.REJECTED, f"{failure.detail} (is the API URL right?)")
        return failure


def _request_of(credentials: Credentials) -> tuple[dict[str, str], dict[str, str]]:
    match credentials:
        case ProjectKey() as key:
            return {"grant_type": "client_credentials"}, {"Authorization": f"Basic {key.basic()}"}
        case Account(username, password):
            secret = password.get_secret_value()
            return {"grant_type": "password", "username": username, "password": secret}, {}
        case StaticToken():
            raise TokenFailure(Reason.CREDENTIALS, "a ready token cannot be renewed")


def _again(failure: TokenFailure | None) -> TokenFailure:
    # Each who asks gets an exception of their own: a traceback is not shared.
    if failure is None:
        return TokenFailure(Reason.INTERNAL, "no token and no reason")
    return TokenFailure(failure.reason, failure.detail, retry_after_s=failure.retry_after_s)
