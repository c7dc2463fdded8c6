"""
What UP42 says when it does not do what was asked, made into a ``Failure``.

Its error codes are integers here and words there; errors come with any status, 200 included, and
in front of it stand gateways that speak HTML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from bulkdl.errors import ApiError
from bulkdl.http.errors import reason_of_status
from bulkdl.models import Reason
from bulkdl.redaction import sanitize

_STATUS_OF_WORD = {
    "BAD_REQUEST": 400,
    "UNAUTHORIZED": 401,
    "ACCESS_TOKEN_EXPIRED": 401,
    "INVALID_TOKEN": 401,
    "FORBIDDEN": 403,
    "ACCESS_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_NOT_FOUND": 404,
    "TOO_MANY_REQUESTS": 429,
    "RATE_LIMIT_EXCEEDED": 429,
    "INTERNAL_SERVER_ERROR": 500,
    "INTERNAL_ERROR": 500,
    "BAD_GATEWAY": 502,
    "SERVICE_UNAVAILABLE": 503,
    "GATEWAY_TIMEOUT": 504,
}


@dataclass(frozen=True, slots=True)
class ApiErrorInfo:
    """
    An error as UP42 words it.

    Attributes:
        status: The HTTP status that its code stands for; 400 when it stands for none.
        message: As sent: not yet fit to be shown.
        enveloped: Whether it is in UP42's own error envelope. A gateway words its errors otherwise.
    """

    status: int
    message: str
    enveloped: bool = False


def find_error(document: object) -> ApiErrorInfo | None:
    """Return the error that *document* tells beside or instead of data; None if it tells none."""
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if not error:  # null, and the {} of some answers
        return None
    if isinstance(error, dict):
        code, message = error.get("code"), error.get("message")
        enveloped = bool(code) and document.get("data") is None
        return ApiErrorInfo(_status_of(code), str(message or code or "no message"), enveloped)
    enveloped = "data" in document and document["data"] is None
    return ApiErrorInfo(_status_of(error), str(document.get("error_description") or error), enveloped)


def parse_error_body(body: bytes) -> ApiErrorInfo | None:
    """Return the error that the whole *body* of an output tells instead; None if it is an output."""
    if b'"error"' not in body:
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    is_output = isinstance(document, dict) and "type" in document  # GeoJSON may have members of any name
    return None if is_output else find_error(document)


def refusal_in(status: int, body: bytes) -> ApiErrorInfo:
    """Return the error of a response with *status*, not a success, whose body is *body*."""
    try:
        complaint = find_error(json.loads(body))
    except (ValueError, RecursionError):
        complaint = None
    return ApiErrorInfo(status, find_message(body), complaint is not None and complaint.enveloped)


def _status_of(code: object) -> int:
    if isinstance(code, str):
        word = re.sub(r"[^A-Z0-9]+", "_", code[:100].upper()).strip("_")
        if not (word.isascii() and word.isdigit()):
            return _STATUS_OF_WORD.get(word, 400)
        code = int(word)
    return code if isinstance(code, int) and 400 <= code <= 599 else 400


def find_message(body: bytes) -> str:
    """Return what an error's body says, whatever its form; empty when it is no JSON or says nothing."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    complaint = find_error(document)
    if not isinstance(document, dict):
        return ""
    plain = next((document[key] for key in ("message", "detail", "title") if document.get(key)), "")
    if complaint is None:
        return str(plain)
    return str(plain) if plain and isinstance(document["error"], str) else complaint.message


def api_error(
    complaint: ApiErrorInfo,
    where: str,
    *,
    retry_after_s: float | None = None,
    secrets: Iterable[str] = (),
) -> ApiError:
    """
    Return the failure that *complaint* stands for.

    Only a 404 in UP42's error envelope says that something does not exist. Any other 404 can come from a
    gateway; it is an invalid response, which is retried.
    """
    told = sanitize(complaint.message, secrets)
    detail = f"{where}: {complaint.status}" + (f" {told}" if told else "")
    reason = reason_of_status(complaint.status) or Reason.INVALID_RESPONSE
    if reason is Reason.NOT_FOUND and not complaint.enveloped:
        reason, detail = Reason.INVALID_RESPONSE, f"{detail} (not an error response of UP42)"
    return ApiError(reason, detail, retry_after_s=retry_after_s)
