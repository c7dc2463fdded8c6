"""
Read the error responses of today's API.

The endpoints use different formats: problem documents (RFC 9457), the flat and the enveloped errors of UP42,
and the errors of the STAC server.
"""

from __future__ import annotations

import json
from typing import Any

from bulkdl.sources.up42_common.errors import ApiErrorInfo, find_error

_MESSAGE_KEYS = ("detail", "title", "message", "error_description", "description", "schema-error")


def parse_problem(status: int, body: bytes) -> ApiErrorInfo:
    """
    Return the error of an unsuccessful response with *status* and *body*.

    It counts as an error of UP42, not of a gateway, if the document has one of the known formats.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return ApiErrorInfo(status, "")
    return ApiErrorInfo(status, _find_message(document), _is_known_format(status, document))


def _find_message(document: dict[str, Any]) -> str:
    error = document.get("error")
    nested = error.get("message") if isinstance(error, dict) else error
    texts = [document.get(key) for key in _MESSAGE_KEYS[:4]]
    texts += [nested, *(document.get(key) for key in _MESSAGE_KEYS[4:])]
    return next((text for text in texts if isinstance(text, str) and text), "")


def _is_known_format(status: int, document: dict[str, Any]) -> bool:
    error = find_error(document)
    if error is not None:
        return error.is_enveloped
    is_problem = document.get("status") == status and isinstance(document.get("title"), str)
    is_flat = document.get("code") == status and isinstance(document.get("message"), str)
    is_stac = isinstance(document.get("code"), str) and isinstance(document.get("description"), str)
    return is_problem or is_flat or is_stac or isinstance(document.get("detail"), str)
