"""
The two HTTP sessions: one that may carry credentials, one that never has any.

Neither keeps cookies, reads .netrc, or has a total timeout. Proxies are handed in (``proxies.py``).
aiohttp drops ``Authorization`` when a redirect leaves the origin (a test holds it to that); that
TLS is not given up on the way is our own rule, kept by a trace that sees each redirect before
it is followed. A redirect's target is left exactly as the server wrote it, since it may be signed.
"""

from __future__ import annotations

from types import SimpleNamespace

import aiohttp
from yarl import URL

from bulkdl.http.errors import InsecureRedirect
from bulkdl.http.proxies import DIRECT, Proxies, ProxyConnector, refusal_trace, request_class

_DNS_TTL_S = 300


def api_session(
    *,
    user_agent: str,
    connect_timeout_s: float,
    limit: int,
    allow_http: bool = False,
    proxies: Proxies = DIRECT,
) -> aiohttp.ClientSession:
    """
    Make the session for UP42's API.

    Args:
        user_agent: ``bulkdl/<version>``.
        limit: Connections open at once.
        allow_http: Redirects from https to http are followed.
        proxies: Which requests go through a proxy.
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
    """Make the session for signed URLs: bytes come as they are stored, and no credentials go out."""
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
    # Waiting for headers and reading a body have different bounds, so each caller sets its own.
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
        connector=ProxyConnector(limit=limit, ssl=True, use_dns_cache=True, ttl_dns_cache=_DNS_TTL_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": user_agent, **headers},
        timeout=timeout,
        trust_env=False,  # it would also read .netrc
        request_class=request_class(proxies),
        auto_decompress=auto_decompress,
        requote_redirect_url=False,
        trace_configs=[refusal_trace(proxies), *([] if allow_http else [_tls_kept()])],
    )


def _tls_kept() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse_downgrade)
    return trace


async def _refuse_downgrade(
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
        return ""  # aiohttp or ``translated`` rejects it
