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

from bulkdl.errors import ApiFailure
from bulkdl.http.failures import translated
from bulkdl.log import get_logger
from bulkdl.model import Reason
from bulkdl.up42.complaints import Complaint, complaint_in, failure_of, message_in
from bulkdl.up42.credentials import Account, Credentials, ProjectKey, ReadyToken, secrets_of
from bulkdl.up42.decode import parsed
from bulkdl.up42.exchange import Manners, TokenFailure, body_of, place_of
from bulkdl.up42.grants import Grant, grant_in

_log = get_logger(__name__)

_MARGIN_S = 30.0
_MARGIN_SHARE = 0.1
_BODY_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Held:
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
        manners: Manners,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._url = URL(token_url, encoded=True)
        self._credentials = credentials
        self._manners = manners
        self._clock = clock
        self._lock = asyncio.Lock()
        self._held: _Held | None = None
        self._refused: TokenFailure | None = None  # for good
        self._failed: TokenFailure | None = None  # in the latest renewal
        self._renewals = 0
        if isinstance(credentials, ReadyToken):
            token = credentials.token.get_secret_value()
            self._held = _Held(token, renew_at=float("inf"), ends_at=float("inf"))

    async def token(self) -> str:
        """
        Return a token that is valid now.

        Raises:
            ApiFailure: CREDENTIALS, at once and from then on for everybody, if the server does
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

    def expired(self, token: str) -> bool:
        """
        Note that the server refused *token*: the next who asks renews it, once for everybody.

        Returns:
            False if it is out of use already, so that the next token may not be that new, either.
        """
        if self._held is None or self._held.token != token:
            return self._held is None
        self._held = None
        if isinstance(self._credentials, ReadyToken):
            self._refused = TokenFailure(
                Reason.CREDENTIALS, "UP42 does not accept the given token (any more)"
            )
        return True

    async def _renew(self) -> None:
        if self._refused is not None:
            return
        try:
            self._held = await self._manners.persist(self._granted)
            self._failed = None
        except ApiFailure as failure:
            self._failed = TokenFailure(failure.reason, failure.detail, retry_after_s=failure.retry_after_s)
            if failure.reason is Reason.CREDENTIALS:
                self._refused, self._held = self._failed, None
            # A token in its last seconds is better than none.
            if self._held is not None and self._clock() >= self._held.ends_at:
                self._held = None
        self._renewals += 1

    async def _granted(self) -> _Held:
        await self._manners.turn(self._url)
        asked_at = self._clock()
        grant = await self._ask()
        margin_s = min(_MARGIN_S, _MARGIN_SHARE * grant.life_s)
        _log.info("token.renewed", life_s=round(grant.life_s, 3))
        ends_at = asked_at + grant.life_s
        return _Held(grant.token, renew_at=ends_at - margin_s, ends_at=ends_at)

    async def _ask(self) -> Grant:
        where = place_of("POST", self._url)
        form, headers = _request_of(self._credentials)
        # No redirect is followed: it would carry the password to wherever it points.
        with translated(ApiFailure, where):
            request = self._session.post(self._url, data=form, headers=headers, allow_redirects=False)
            async with await self._manners.begun(request) as response:
                asked_s = self._manners.heed(response)
                body = await body_of(response, _BODY_LIMIT_BYTES, where, self._manners.patience)
        if response.status != 200:
            raise self._failure(Complaint(response.status, message_in(body)), where, asked_s)
        document = parsed(body, where)
        if (complaint := complaint_in(document)) is not None:
            raise self._failure(complaint, where, asked_s)
        return grant_in(document, where)

    def _failure(self, complaint: Complaint, where: str, asked_s: float | None) -> ApiFailure:
        secrets = secrets_of(self._credentials)
        failure = failure_of(complaint, where, retry_after_s=asked_s, secrets=secrets)
        if complaint.status in (400, 401, 403):
            return ApiFailure(Reason.CREDENTIALS, failure.detail)
        if complaint.status == 404:
            return ApiFailure(Reason.REFUSED, f"{failure.detail} (is the API URL right?)")
        return failure


def _request_of(credentials: Credentials) -> tuple[dict[str, str], dict[str, str]]:
    match credentials:
        case ProjectKey() as key:
            return {"grant_type": "client_credentials"}, {"Authorization": f"Basic {key.basic()}"}
        case Account(username, password):
            secret = password.get_secret_value()
            return {"grant_type": "password", "username": username, "password": secret}, {}
        case ReadyToken():
            raise TokenFailure(Reason.CREDENTIALS, "a ready token cannot be renewed")


def _again(failure: TokenFailure | None) -> TokenFailure:
    # Each who asks gets an exception of their own: a traceback is not shared.
    if failure is None:
        return TokenFailure(Reason.INTERNAL, "no token and no reason")
    return TokenFailure(failure.reason, failure.detail, retry_after_s=failure.retry_after_s)
