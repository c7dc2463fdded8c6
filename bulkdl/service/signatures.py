"""
Verify the signature of an UP42 event.

``signature-input: up42-sig=("digest" "content-type");created=SECONDS`` names headers, and ``signature:
up42-sig=BASE64`` is the HMAC-SHA256 of their values, concatenated in this order. ``digest: SHA-256=BASE64``
covers the body if it is one of the named headers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

MAX_AGE_S = 300
# The clocks of UP42 and of this machine can differ.
MAX_AHEAD_S = 30
_MAX_HEADERS = 16
_INPUT = re.compile(r"[A-Za-z0-9_-]{1,64}=\(([^()]{0,1024})\)((?:;[^;]{1,256})*)", re.ASCII)
_NAME = re.compile(r'"([A-Za-z0-9_@-]{1,64})"', re.ASCII)
_CREATED = re.compile(r";\s*created=(\d{1,12})(?![^;])", re.ASCII)


class SignatureError(Exception):
    """The signature is missing, invalid, wrong or too old."""


def verify_signature(secret: str, headers: Mapping[str, Sequence[str]], body: bytes, *, now_s: float) -> None:
    """
    Check that an event was signed with *secret* less than ``MAX_AGE_S`` ago.

    Args:
        headers: The values of each header, by its name in lower case.
        now_s: The current Unix time.

    Raises:
        SignatureError: The event must not be used.
    """
    match = _INPUT.fullmatch(_only(headers, "signature-input").strip())
    if match is None:
        raise SignatureError("signature-input is invalid")
    names = [name.lower() for name in _NAME.findall(match[1])]
    if not names or len(names) > _MAX_HEADERS:
        raise SignatureError("signature-input names no header, or too many")
    _check_age(match[2], now_s)
    signed = "".join(_only(headers, name) for name in names)
    expected = hmac.digest(secret.encode(), signed.encode("utf-8", "surrogateescape"), "sha256")
    found = _decode(_only(headers, "signature").partition("=")[2], "signature")
    if not hmac.compare_digest(found, expected):
        raise SignatureError("signature does not match")
    if "digest" in names:
        _check_digest(_only(headers, "digest"), body)


def _check_age(parameters: str, now_s: float) -> None:
    created = _CREATED.search(parameters)
    if created is None:
        raise SignatureError("signature-input has no time")
    age_s = now_s - int(created[1])
    if not -MAX_AHEAD_S <= age_s < MAX_AGE_S:
        raise SignatureError(f"signature is {age_s:.0f} s old; expected less than {MAX_AGE_S} s")


def _check_digest(value: str, body: bytes) -> None:
    algorithm, _, encoded = value.partition("=")
    if algorithm.strip().lower() != "sha-256":
        raise SignatureError("digest has an unknown algorithm; expected SHA-256")
    if not hmac.compare_digest(_decode(encoded, "digest"), hashlib.sha256(body).digest()):
        raise SignatureError("digest does not match the body")


def _decode(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError(f"{name} is not valid Base64") from None


def _only(headers: Mapping[str, Sequence[str]], name: str) -> str:
    values = headers.get(name, ())
    if len(values) != 1:
        raise SignatureError(f"header {name} is {'missing' if not values else 'repeated'}")
    return values[0]
