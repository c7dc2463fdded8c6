"""What the token endpoint answers, of all years: the token and how long it lives."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass, field

from bulkdl.errors import ApiError
from bulkdl.models import Reason

USUAL_LIFE_S = 300.0


@dataclass(frozen=True, slots=True)
class Grant:
    """A token and its life, in seconds from when it was asked for."""

    token: str = field(repr=False)
    life_s: float


def parse_grant(document: object, where: str) -> Grant:
    """
    Read the answer of the token endpoint.

    Raises:
        ApiError: INVALID_RESPONSE if there is no token in it.
    """
    fields = document if isinstance(document, dict) else {}
    data = fields.get("data")
    inner = data.get("accessToken") if isinstance(data, dict) else None
    token = next((text for text in (fields.get("access_token"), inner) if _sendable(text)), None)
    if not isinstance(token, str):
        raise ApiError(Reason.INVALID_RESPONSE, f"{where}: access_token: missing, or not a token")
    life_s = _seconds(fields.get("expires_in"))
    if life_s is None:
        life_s = _life_of_jwt(token)
    return Grant(token, USUAL_LIFE_S if life_s is None else life_s)


def _sendable(token: object) -> bool:
    return isinstance(token, str) and token.isascii() and token.isprintable() and bool(token.strip())


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _life_of_jwt(token: str) -> float | None:
    """Return ``exp - iat`` of a token that happens to be a readable JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        end, begin = _seconds(claims["exp"]), _seconds(claims["iat"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if end is None or begin is None or end <= begin:
        return None
    return end - begin
