"""
Convert UP42 error responses to ``ApiError``.

Error codes are integers or words. An error response can have any status, including 200. Gateways in front of
the API send HTML.
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
    The content of an error response.

    Attributes:
        status: The HTTP status that belongs to the error code; 400 for an unknown code.
        message: The text that the server sent. It must be sanitised before it is shown.
        is_enveloped: Whether the error is in the error envelope of UP42. Gateways use other formats.
    """

    status: int
    message: str
    is_enveloped: bool = False


class ResponseError(ApiError):
    """
    The API sent an error response.

    Attributes:
        status: The HTTP status, or the status that belongs to the error code in the body.
    """

    status = 0


def find_error(document: object) -> ApiErrorInfo | None:
    """Return the error in *document*, with or without data; None if it contains no error."""
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if not error:  # null, or the {} of some successful responses
        return None
    if isinstance(error, dict):
        code, message = error.get("code"), error.get("message")
        is_enveloped = bool(code) and document.get("data") is None
        return ApiErrorInfo(_status_of(code), str(message or code or "no message"), is_enveloped)
    is_enveloped = "data" in document and document["data"] is None
    return ApiErrorInfo(_status_of(error), str(document.get("error_description") or error), is_enveloped)


def parse_error_body(body: bytes) -> ApiErrorInfo | None:
    """Return the error in the complete *body* of an output response; None if the body is an output."""
    if b'"error"' not in body:
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    is_output = (
        isinstance(document, dict) and "type" in document
    )  # GeoJSON can have additional members of any name
    return None if is_output else find_error(document)


def parse_error_response(status: int, body: bytes) -> ApiErrorInfo:
    """Return the error of an unsuccessful response with *status* and *body*."""
    try:
        error = find_error(json.loads(body))
    except (ValueError, RecursionError):
        error = None
    return ApiErrorInfo(status, find_message(body), error is not None and error.is_enveloped)


def _status_of(code: object) -> int:
    if isinstance(code, str):
        word = re.sub(r"[^A-Z0-9]+", "_", code[:100].upper()).strip("_")
        if not (word.isascii() and word.isdigit()):
            return _STATUS_OF_WORD.get(word, 400)
        code = int(word)
    return code if isinstance(code, int) and 400 <= code <= 599 else 400


def find_message(body: bytes) -> str:
    """Return the message in an error body of any known format; empty if it is not JSON or has no message."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    error = find_error(document)
    if not isinstance(document, dict):
        return ""
    message = next((document[key] for key in ("message", "detail", "title") if document.get(key)), "")
    if error is None:
        return str(message)
    return str(message) if message and isinstance(document["error"], str) else error.message


_OAUTH_HINTS = {
    "invalid_grant": "check the user name and the password",
    "invalid_client": "check the project ID and its API key, or the setting client_id",
    "unauthorized_client": "check the project ID and its API key, or the setting client_id",
    "unsupported_grant_type": "the login service does not support this type of login",
}


def describe_oauth_error(body: bytes) -> str:
    """Return the message of an OAuth error (RFC 6749, section 5.2) with its code; empty for other bodies."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    code = document.get("error") if isinstance(document, dict) else None
    if not isinstance(code, str) or code not in _OAUTH_HINTS:
        return ""
    description = document.get("error_description")
    text = description if isinstance(description, str) and description else code
    return f"{text} ({code}: {_OAUTH_HINTS[code]})"


def api_error(
    error: ApiErrorInfo,
    label: str,
    *,
    retry_after_s: float | None = None,
    secrets: Iterable[str] = (),
) -> ResponseError:
    """
    Return the exception for *error*.

    A 404 is ``NOT_FOUND`` only in the error envelope of UP42. Any other 404 can come from a gateway; it is
    an invalid response, which is retried.

    Args:
        label: The request, for the message.
        secrets: Texts that are removed from the message of the server.
    """
    message = sanitize(error.message, secrets)
    detail = f"{label}: {error.status}" + (f" {message}" if message else "")
    reason = reason_of_status(error.status) or Reason.INVALID_RESPONSE
    if reason is Reason.NOT_FOUND and not error.is_enveloped:
        reason, detail = Reason.INVALID_RESPONSE, f"{detail} (not an error response of UP42)"
    failure = ResponseError(reason, detail, retry_after_s=retry_after_s)
    failure.status = error.status
    failure.is_absent = reason is Reason.NOT_FOUND
    return failure
