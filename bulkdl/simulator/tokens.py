"""
Create and verify access tokens in the format of a JWT without storing them.

The signature is a keyed hash instead of RS512, because only the simulator verifies it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha512
from typing import Any
from urllib.parse import parse_qs

from bulkdl.simulator.account import SimulatedAccount
from bulkdl.simulator.messages import ReceivedRequest

_HEADER = {"typ": "JWT", "kid": "1", "token_type": "ACCESS", "alg": "RS512"}


class Unauthorized(Exception):
    """The token is missing, unknown, expired or revoked. The message is that of UP42."""


class UnsupportedGrant(Exception):
    """The grant type of ``/oauth/token`` is missing or not supported."""


class OAuthError(Exception):
    """
    A request to the token endpoint of today's API is rejected.

    Attributes:
        error: Code of RFC 6749, 5.2.
    """

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status, self.error, self.description = status, error, description


@dataclass(frozen=True, slots=True)
class Grant:
    """The tokens of a login to today's API. Times are in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    refresh_expires_in: int


CLIENT_IDS = ("up42-api", "up42-sdk")
_REFRESH_LIFETIME_S = 1_800


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller: the key of one project, or (None) the owner of all projects."""

    project: int | None

    def can_read(self, project: int) -> bool:
        return self.project in {None, project}


class Tokens:
    """
    The tokens of one account.

    Args:
        clock: Returns the Unix time, which decides whether a token has expired.
    """

    def __init__(
        self,
        account: SimulatedAccount,
        lifetime_s: float,
        username: str,
        password: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.account, self.life_s = account, lifetime_s
        self._clock = clock
        self.user = (username, password)
        self._secret = f"token/{account.seed}/{uuid.uuid4()}".encode()
        self._epoch = 0

    def revoke_all(self) -> None:
        self._epoch += 1

    def grant(self, call: ReceivedRequest) -> str:
        """
        Return the token for a request to ``/oauth/token``.

        Raises:
            UnsupportedGrant: ``grant_type`` is missing or not one of the two UP42 grant types.
            Unauthorized: The credentials are invalid.
        """
        form = _read_form(call)
        match form.get("grant_type"):
            case "client_credentials":
                return self._issue(self._project_of(call.headers.get("Authorization", "")))
            case "password":
                if (form.get("username"), form.get("password")) != self.user:
                    raise Unauthorized("Bad credentials")
                return self._issue(None)
            case _:
                raise UnsupportedGrant

    def log_in(self, call: ReceivedRequest) -> Grant:
        """
        Return the tokens for a request to the token endpoint of today's API, as Keycloak does.

        The grants are ``password`` and ``refresh_token``. The client is public: it has an ID and no secret.

        Raises:
            OAuthError: A parameter is missing or invalid, or the credentials are wrong.
        """
        form = _read_form(call)
        grant = form.get("grant_type")
        if not grant:
            raise OAuthError(400, "invalid_request", "Missing form parameter: grant_type")
        if form.get("client_id") not in CLIENT_IDS:
            raise OAuthError(401, "invalid_client", "Invalid client or Invalid client credentials")
        if grant == "password":
            if (form.get("username"), form.get("password")) != self.user:
                raise OAuthError(401, "invalid_grant", "Invalid user credentials")
        elif grant == "refresh_token":
            self._check_refresh_token(form.get("refresh_token", ""))
        else:
            raise OAuthError(400, "unsupported_grant_type", "Unsupported grant_type")
        refresh_token = self._create_token(None, _REFRESH_LIFETIME_S, "Refresh")
        return Grant(self._issue(None), refresh_token, max(1, round(self.life_s)), _REFRESH_LIFETIME_S)

    def _check_refresh_token(self, token: str) -> None:
        try:
            self._read_claims(token, "Refresh")
        except Unauthorized:
            raise OAuthError(400, "invalid_grant", "Invalid refresh token") from None

    def check(self, authorization: str) -> Caller:
        """Return the caller of *authorization*. Raises: Unauthorized."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or token.count(".") != 2:
            raise Unauthorized("Full authentication is required to access this resource")
        claims = self._read_claims(token, "Bearer")
        if claims["client_type"] == "USER":
            return Caller(None)
        return Caller(self.account.project_number(claims["sub"]))

    def _read_claims(self, token: str, purpose: str) -> dict[str, Any]:
        body, _, signature = token.rpartition(".")
        # Bytes, because a header can contain characters that compare_digest does not accept in a text.
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(body).encode()):
            raise Unauthorized("ACCESS_TOKEN_INVALID: JWT signature does not match")
        claims = _unpack(body.partition(".")[2])
        if claims["typ"] != purpose:
            raise Unauthorized("ACCESS_TOKEN_INVALID: the token has another purpose")
        self._check_time(claims)
        return claims

    def _check_time(self, claims: dict[str, Any]) -> None:
        now = self._clock()
        if claims["epoch"] != self._epoch:
            raise Unauthorized("ACCESS_TOKEN_INVALID: the token was revoked")
        if now > claims["exp_exact"]:
            late_ms = round((now - claims["exp_exact"]) * 1000)
            raise Unauthorized(
                f"ACCESS_TOKEN_EXPIRED: JWT expired at {_iso(claims['exp'])}. Current time: {_iso(now)}, "
                f"a difference of {late_ms} milliseconds.  Allowed clock skew: 0 milliseconds."
            )

    def _project_of(self, authorization: str) -> int:
        scheme, _, encoded = authorization.partition(" ")
        try:
            project_id, _, key = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Unauthorized("Bad credentials") from error
        number = self.account.project_number(project_id)
        if scheme.lower() != "basic" or number is None or self.account.project_key(number).api_key != key:
            raise Unauthorized("Bad credentials")
        return number

    def _issue(self, project: int | None) -> str:
        return self._create_token(project, self.life_s, "Bearer")

    def _create_token(self, project: int | None, lifetime_s: float, purpose: str) -> str:
        now = self._clock()
        subject = self.account.user_id if project is None else self.account.project_key(project).id
        claims = {
            "iss": "backend-core",
            "jti": str(uuid.uuid4()),
            "iat": int(now),
            "exp": int(now) + round(lifetime_s),
            "exp_exact": now + lifetime_s,
            "epoch": self._epoch,
            "typ": purpose,
            "sub": subject,
            "aud": "api.up42.com",
            "client_id": subject,
            "client_type": "USER" if project is None else "API_KEY",
            "account_id": self.account.user_id,
            "authorities": ["VIEW_PROJECT", "RUN_JOB"],
        }
        body = f"{_pack(_HEADER)}.{_pack(claims)}"
        return f"{body}.{self._sign(body)}"

    def _sign(self, body: str) -> str:
        return _base64(hmac.digest(self._secret, body.encode(), sha512))


def _read_form(call: ReceivedRequest) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(call.body.decode("utf-8", "replace")).items()}


def _pack(claims: dict[str, Any]) -> str:
    return _base64(json.dumps(claims, separators=(",", ":")).encode())


def _unpack(text: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return claims


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
