"""Parse JSON responses and validate their values. Errors name the path of the invalid value."""

from __future__ import annotations

import json
import re
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.models import Reason
from bulkdl.redaction import sanitize

_Document = TypeVar("_Document", bound=BaseModel)
# A signed URL is sent unchanged, so it must consist of printable ASCII without spaces.
_URL = re.compile(r"https?://[!-~]+", re.IGNORECASE)


def parse_json(body: bytes, label: str) -> object:
    """
    Return the JSON document in *body*.

    Raises:
        ApiError: INVALID_RESPONSE if *body* is truncated or not JSON.
    """
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid_document(
            label, "", f"expected JSON, got {len(body)} bytes that start with {_excerpt(body)}"
        ) from None
    return document


def read_document(model: type[_Document], entry: object, label: str, path: str) -> _Document:
    """
    Return *entry* as *model*.

    Args:
        path: The position of *entry* in the response, for error messages.

    Raises:
        ApiError: INVALID_RESPONSE. The message names the first invalid value.
    """
    if not isinstance(entry, dict):
        raise invalid_document(label, path, f"expected an object, got {json_type(entry)}")
    try:
        return model.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
        raise invalid_document(label, path + steps, sanitize(first["msg"])) from None


def is_encodable(text: str) -> bool:
    """Return whether *text* can be encoded. JSON can contain half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _excerpt(body: bytes) -> str:
    return repr(sanitize(body[:400].decode(errors="replace"))[:60])


_JSON_TYPES = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}


def json_type(value: object) -> str:
    """Return the JSON type of *value*, for messages."""
    return _JSON_TYPES.get(type(value), "a number")


def invalid_document(label: str, path: str, problem: str) -> ApiError:
    """Return the error for an invalid value at *path* in the response to the request *label*."""
    location = f"{label}: {path}" if path else label
    return ApiError(Reason.INVALID_RESPONSE, f"{location}: {problem}")


def parse_signed_url(url: object, label: str, path: str) -> str:
    """
    Return *url*, an absolute http or https URL.

    Raises:
        ApiError: INVALID_RESPONSE if it is not.
    """
    if not isinstance(url, str):
        raise invalid_document(label, path, f"expected a URL, got {json_type(url)}")
    if not _URL.fullmatch(url) or not _has_host(url):
        raise invalid_document(label, path, "expected an absolute http or https URL")
    return url


def _has_host(url: str) -> bool:
    try:
        split = URL(url, encoded=True)
        return bool(split.raw_host) and split.user is None and split.port is not None
    except (ValueError, LookupError):  # yarl raises IndexError for http://a[x]@
        return False
