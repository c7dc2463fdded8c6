"""Create the replies of today's API. Each family of endpoints has its own error document."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from bulkdl.simulator.documents import dump, error_envelope
from bulkdl.simulator.lazy_bytes import LiteralBytes
from bulkdl.simulator.messages import Headers, ReceivedRequest, Reply
from bulkdl.simulator.routes import LEGACY_ENDPOINTS, LOGIN_ENDPOINTS, STAC_ENDPOINTS, WEBHOOK_ENDPOINTS

_HEADERS: Headers = (
    ("x-content-type-options", "nosniff"),
    ("cache-control", "no-cache, no-store, max-age=0, must-revalidate"),
    ("x-frame-options", "DENY"),
)
_OAUTH_ERRORS = {400: "invalid_request", 401: "invalid_grant", 403: "access_denied"}
_STAC_ERRORS = {400: "BadRequest", 401: "Unauthorized", 403: "ForbiddenError", 404: "NotFoundError"}


class RequestRejected(Exception):
    """
    The request is rejected.

    Attributes:
        message: Detail in the error document.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """
    One authorized request.

    Attributes:
        parameters: Parameters of the path.
        base_url: Scheme and host that the client used. All hrefs start with it.
    """

    call: ReceivedRequest
    parameters: dict[str, str]
    base_url: str

    @property
    def overlap(self) -> int:
        """Return the number of entries that the next page repeats, as a fault requests."""
        return int(self.call.overrides.get("overlap", 0))

    @property
    def is_endless(self) -> bool:
        """Return whether a fault requests that a list starts again after its last entry."""
        return bool(self.call.overrides.get("forever", False))

    def count(self, name: str, default: int, maximum: int) -> int:
        """Return the number *name* of the query, limited to *maximum*. Raises: RequestRejected."""
        text = self.call.query.get(name)
        if text is None:
            return min(default, maximum)
        if not text.isdecimal() or len(text) > 9:
            raise RequestRejected(400, f"Failed to convert '{name}' with value '{text}'")
        return min(int(text), maximum)


def create_reply(document: Any, status: int = 200, content_type: str = "application/json") -> Reply:
    return Reply(status, (("Content-Type", content_type), *_HEADERS), LiteralBytes(dump(document)))


def create_error_reply(endpoint: str, status: int, message: str) -> Reply:
    """
    Return an error in the format of *endpoint*.

    Login: ``{"error", "error_description"}`` of OAuth. STAC: ``{"code", "description"}``. Webhooks: the
    envelope of the legacy API. Everything else: problem+json of RFC 7807.
    """
    if endpoint in LEGACY_ENDPOINTS or endpoint in WEBHOOK_ENDPOINTS:
        return Reply(
            status,
            (("Content-Type", "application/json"), *_HEADERS),
            LiteralBytes(error_envelope(status, message)),
        )
    if endpoint in LOGIN_ENDPOINTS:
        error = _OAUTH_ERRORS.get(status, "server_error")
        return create_reply({"error": error, "error_description": message}, status)
    if endpoint in STAC_ENDPOINTS:
        return create_reply({"code": _STAC_ERRORS.get(status, "ServerError"), "description": message}, status)
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    problem = {"title": title, "status": status, "detail": message}
    return create_reply(problem, status, "application/problem+json")


def read_object(request: ApiRequest) -> dict[str, Any]:
    """Return the JSON object in the body of *request*. Raises: RequestRejected."""
    body = parse_json(request.call.body.decode("utf-8", "replace") or "{}")
    if not isinstance(body, dict):
        raise RequestRejected(400, "the body is not a JSON object")
    return body


def parse_json(text: str) -> Any:
    """Return the value of the JSON *text*. Raises: RequestRejected."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise RequestRejected(400, f"invalid JSON: {error}") from None
