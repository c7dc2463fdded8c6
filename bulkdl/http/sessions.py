"""
Creates the two HTTP sessions: the API session may send credentials, the storage session does not.

Neither session stores cookies, reads .netrc, or has a total timeout. The caller passes the proxies.
aiohttp removes ``Authorization`` when a redirect leaves the origin; a test checks this. A trace rejects a
redirect from https to http before it is followed. The target of a redirect is not changed, because it may be
signed.
"""

from __future__ import annotations

import socket
from types import SimpleNamespace

import aiohttp
from yarl import URL

from bulkdl.http.errors import InsecureRedirect
from bulkdl.http.proxies import DIRECT, Proxies, ProxyConnector, proxy_refusal_trace, request_class

_DNS_TTL_S = 300
# Without probes, a read from a host that disappeared does not end if there is no minimum speed.
_KEEPALIVE_OPTIONS = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def api_session(
    *,
    user_agent: str,
    connect_timeout_s: float,
    limit: int,
    allow_http: bool = False,
    proxies: Proxies = DIRECT,
) -> aiohttp.ClientSession:
    """
    Create the session for the API.

    Args:
        user_agent: ``bulkdl/<version>``.
        limit: Maximum number of open connections.
        allow_http: Whether redirects from https to http are followed.
        proxies: The proxies of the requests.
    """
    return _session(
        user_agent=user_agent,
        timeout=_timeout(connect_timeout_s),
        limit=limit,
        allow_http=allow_http,
        proxies=proxies,
        auto_decompress=True,
        headers={},
    )


def storage_session(
    *,
    user_agent: str,
    connect_timeout_s: float,
    limit: int,
    allow_http: bool = False,
    proxies: Proxies = DIRECT,
) -> aiohttp.ClientSession:
    """Create the session for signed URLs. It does not decompress bodies and does not send credentials."""
    return _session(
        user_agent=user_agent,
        timeout=_timeout(connect_timeout_s),
        limit=limit,
        allow_http=allow_http,
        proxies=proxies,
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
    )


def _timeout(connect_s: float) -> aiohttp.ClientTimeout:
    # The timeouts for headers and bodies differ, so the callers set them.
    return aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=None)


def _session(
    *,
    user_agent: str,
    timeout: aiohttp.ClientTimeout,
    limit: int,
    allow_http: bool,
    proxies: Proxies,
    auto_decompress: bool,
    headers: dict[str, str],
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=ProxyConnector(
            limit=limit,
            ssl=True,
            use_dns_cache=True,
            ttl_dns_cache=_DNS_TTL_S,
            socket_factory=_create_socket,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": user_agent, **headers},
        timeout=timeout,
        trust_env=False,  # it would also read .netrc
        request_class=request_class(proxies),
        auto_decompress=auto_decompress,
        requote_redirect_url=False,
        trace_configs=[proxy_refusal_trace(proxies), *([] if allow_http else [_downgrade_trace()])],
    )


def _create_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Create a socket whose connection fails about two minutes after the other host disappeared."""
    family, kind, protocol, _, _ = address
    created = socket.socket(family, kind, protocol)
    created.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE_OPTIONS.items():
        if hasattr(socket, name):  # not on all systems
            created.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return created


def _downgrade_trace() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_reject_downgrade)
    return trace


async def _reject_downgrade(
    session: aiohttp.ClientSession,  # noqa: ARG001 - aiohttp's signature
    context: SimpleNamespace,  # noqa: ARG001 - aiohttp's signature
    params: aiohttp.TraceRequestRedirectParams,
) -> None:
    target = params.response.headers.get("Location") or params.response.headers.get("URI") or ""
    if params.url.scheme == "https" and _scheme_of(target) == "http":
        raise InsecureRedirect


def _scheme_of(location: str) -> str:
    try:
        return URL(location, encoded=True).scheme
    except (ValueError, LookupError):
        return ""  # aiohttp or ``map_http_errors`` rejects it
