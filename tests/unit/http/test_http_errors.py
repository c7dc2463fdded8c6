import asyncio
import socket
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from bulkdl.errors import ApiError, TransferError
from bulkdl.http.errors import InsecureRedirect, map_http_errors, reason_of_status
from bulkdl.models import Reason

KEY = ConnectionKey("host", 443, True, True, None, None, None)
URL_WITH_SECRET = "https://storage.example/o?Signature=canary"

CASES = [
    (InsecureRedirect(), Reason.INSECURE_URL),
    (aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("bad")), Reason.TLS),
    (aiohttp.ClientConnectorCertificateError(KEY, RuntimeError("odd")), Reason.TLS),
    (aiohttp.ClientConnectorSSLError(KEY, OSError(1, "bad handshake")), Reason.TLS),
    (aiohttp.ClientConnectorError(KEY, OSError(111, "Connection refused")), Reason.UNREACHABLE),
    (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "Name not known")), Reason.UNREACHABLE),
    (aiohttp.ConnectionTimeoutError("slow " + URL_WITH_SECRET), Reason.UNREACHABLE),
    (aiohttp.SocketTimeoutError("slow " + URL_WITH_SECRET), Reason.STALLED),
    (TimeoutError(), Reason.STALLED),
    (aiohttp.ClientPayloadError("short"), Reason.TRUNCATED),
    (aiohttp.InvalidURL(URL_WITH_SECRET), Reason.INVALID_RESPONSE),
    (aiohttp.InvalidUrlRedirectClientError(URL_WITH_SECRET), Reason.INVALID_RESPONSE),
    (aiohttp.NonHttpUrlRedirectClientError(URL_WITH_SECRET), Reason.INVALID_RESPONSE),
    (aiohttp.ServerDisconnectedError(), Reason.CONNECTION_LOST),
    (aiohttp.ClientOSError(104, "Connection reset by peer"), Reason.CONNECTION_LOST),
    (aiohttp.ClientConnectionResetError("gone"), Reason.CONNECTION_LOST),
    (ConnectionResetError(104, "Connection reset by peer"), Reason.CONNECTION_LOST),
    (OSError(), Reason.CONNECTION_LOST),
    (ValueError(URL_WITH_SECRET), Reason.CONNECTION_LOST),
    (IndexError(URL_WITH_SECRET), Reason.INVALID_RESPONSE),  # yarl, for http://a[x]@
    (KeyError(URL_WITH_SECRET), Reason.INVALID_RESPONSE),
    (OverflowError(URL_WITH_SECRET), Reason.INVALID_RESPONSE),
]


@pytest.mark.parametrize(("error", "reason"), CASES, ids=[type(error).__name__ for error, _ in CASES])
@pytest.mark.parametrize("family", [ApiError, TransferError])
def test_map_http_errors_returns_a_reason_and_hides_the_query(error, reason, family):
    with pytest.raises(family) as caught, map_http_errors(family, "GET host/path"):
        raise error
    assert caught.value.reason is reason
    assert caught.value.detail.startswith("GET host/path: ")
    assert "canary" not in str(caught.value)
    assert "None" not in caught.value.detail


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), KeyboardInterrupt(), ApiError(Reason.REJECTED, "x")]
)
def test_map_http_errors_with_other_exceptions_does_not_change_them(error):
    with pytest.raises(type(error)) as caught, map_http_errors(TransferError, "x"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, None),
        (204, None),
        (206, None),
        (302, Reason.REJECTED),
        (400, Reason.REJECTED),
        (401, Reason.CREDENTIALS),
        (403, Reason.FORBIDDEN),
        (404, Reason.NOT_FOUND),
        (408, Reason.SERVER_ERROR),
        (416, Reason.REJECTED),
        (422, Reason.REJECTED),
        (429, Reason.THROTTLED),
        (500, Reason.SERVER_ERROR),
        (503, Reason.SERVER_ERROR),
        (599, Reason.SERVER_ERROR),
    ],
)
def test_reason_of_status_returns_the_reason(status, reason):
    assert reason_of_status(status) is reason
