"""
Maps exceptions of the HTTP stack and status codes to reasons.

Exceptions of aiohttp, the resolver and TLS inside ``map_http_errors`` become a ``DownloadError``.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import aiohttp

from bulkdl.errors import DownloadError
from bulkdl.http.proxies import ProxyError, ProxyRefused, ProxyUnreachable
from bulkdl.http.retry import retry_after_s
from bulkdl.models import Reason


class InsecureRedirect(aiohttp.ClientError):
    """A redirect from https to http was not followed."""


# The first match applies, so subclasses precede their base classes.
_REASONS: tuple[tuple[type[BaseException], Reason], ...] = (
    (InsecureRedirect, Reason.INSECURE_URL),
    (ProxyRefused, Reason.REJECTED),
    (ProxyUnreachable, Reason.UNREACHABLE),
    (aiohttp.ClientConnectorCertificateError, Reason.TLS),
    (aiohttp.ClientConnectorSSLError, Reason.TLS),
    (ssl.SSLCertVerificationError, Reason.TLS),
    (aiohttp.ConnectionTimeoutError, Reason.UNREACHABLE),
    (aiohttp.ClientConnectorError, Reason.UNREACHABLE),
    (aiohttp.ServerTimeoutError, Reason.STALLED),
    (TimeoutError, Reason.STALLED),
    (aiohttp.ClientPayloadError, Reason.TRUNCATED),
    (aiohttp.TooManyRedirects, Reason.REJECTED),
    (aiohttp.InvalidURL, Reason.INVALID_RESPONSE),
    (aiohttp.NonHttpUrlClientError, Reason.INVALID_RESPONSE),
    (aiohttp.ClientError, Reason.CONNECTION_LOST),
    (OSError, Reason.CONNECTION_LOST),
    (ValueError, Reason.CONNECTION_LOST),  # aiohttp does not wrap all parser errors
    (LookupError, Reason.INVALID_RESPONSE),  # yarl, for a URL such as http://a[x]@
    (OverflowError, Reason.INVALID_RESPONSE),
)
# The exceptions of aiohttp, yarl and the standard library for invalid data from a server.
_HTTP_ERRORS = (aiohttp.ClientError, OSError, ValueError, LookupError, OverflowError)


@contextmanager
def map_http_errors(family: type[DownloadError], url_label: str) -> Iterator[None]:
    """
    Convert the exceptions of an HTTP exchange to *family*.

    Args:
        url_label: Host and path for the message, without the query, which may contain a signature.
    """
    try:
        yield
    except _HTTP_ERRORS as error:
        raise family(_reason_of(error), f"{url_label}: {_describe(error)}") from None


def _reason_of(error: BaseException) -> Reason:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
        return Reason.TOO_MANY_OPEN_FILES
    return next(reason for kind, reason in _REASONS if isinstance(error, kind))


def _describe(error: BaseException) -> str:
    # The text of a client error may contain a URL with its signature, so only safe texts are used.
    if isinstance(error, InsecureRedirect):
        return "a redirect to a URL without TLS was not followed"
    if isinstance(error, ProxyError):
        return str(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect ({error.os_error.strerror or type(error.os_error).__name__})"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the body ended early"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def reason_of_status(status: int) -> Reason | None:
    """Return the reason for an HTTP status of any server; None for a success."""
    if status < 300:
        return None
    reasons = {
        401: Reason.CREDENTIALS,
        403: Reason.FORBIDDEN,
        404: Reason.NOT_FOUND,
        408: Reason.SERVER_ERROR,
        429: Reason.THROTTLED,
    }
    if status in reasons:
        return reasons[status]
    return Reason.SERVER_ERROR if status >= 500 else Reason.REJECTED


def requested_wait_s(response: aiohttp.ClientResponse) -> float | None:
    """Return the value of Retry-After in seconds from now; None if it is missing or invalid."""
    return retry_after_s(response.headers.get("Retry-After"), datetime.now(UTC))
