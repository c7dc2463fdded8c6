"""
Which proxy a request goes through: the setting, else the usual variables.

As in curl, ``NO_PROXY`` also applies to a proxy that is set explicitly, and loopback hosts have no
exception of their own. ``.netrc`` is not read.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from bulkdl.errors import ConfigError
from bulkdl.settings.proxy import Proxy, parse_proxy

_DEFAULT_PORTS = {"http": 80, "https": 443}


class ProxyError(aiohttp.ClientError):
    """A proxy did not let a request through. The text names its host and port, never its credentials."""


class ProxyUnreachable(ProxyError):
    """The proxy, or the server behind it, cannot be reached now."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"cannot connect through the proxy {place} ({problem})")


class ProxyRefused(ProxyError):
    """The proxy answered with a status that a further attempt does not change."""

    def __init__(self, place: str, status: int) -> None:
        needs = "; set valid credentials in the proxy URL" if status == 407 else ""
        super().__init__(f"the proxy {place} refused the request (HTTP {status}){needs}")


@dataclass(frozen=True, slots=True)
class Proxies:
    """
    The proxies of a run.

    Attributes:
        by_scheme: For ``http`` and ``https`` targets. A missing scheme has a direct connection.
        no_proxy: Hosts with a direct connection, as in ``NO_PROXY``.
    """

    by_scheme: Mapping[str, Proxy]
    no_proxy: tuple[str, ...] = ()

    def route(self, url: URL) -> Proxy | None:
        """Return the proxy for a request to *url*; None for a direct connection."""
        found = self.by_scheme.get(url.scheme)
        if found is None or is_bypassed(url.raw_host or "", url.port, self.no_proxy):
            return None
        return found

    def secrets(self) -> list[str]:
        """Return every password in clear, for the redaction of logs."""
        return [found.password for found in self.by_scheme.values() if found.password]


DIRECT = Proxies({})


def proxies_of(setting: Proxy | None, env: Mapping[str, str] = os.environ) -> Proxies:
    """
    Return the proxies from *setting*, or without one from the variables in *env*.

    Raises:
        ConfigError: A variable holds no HTTP proxy.
    """
    no_proxy = tuple((_variable(env, "no_proxy")[1] or "").replace(",", " ").lower().split())
    if setting is not None:
        return DIRECT if setting.is_off else Proxies(dict.fromkeys(_DEFAULT_PORTS, setting), no_proxy)
    by_scheme = {}
    for scheme in _DEFAULT_PORTS:
        found = _from_env(env, scheme)
        if found is not None:
            by_scheme[scheme] = found
    return Proxies(by_scheme, no_proxy)


def _from_env(env: Mapping[str, str], scheme: str) -> Proxy | None:
    for wanted in (f"{scheme}_proxy", "all_proxy"):
        name, text = _variable(env, wanted)
        if text is None:
            continue
        try:
            found = parse_proxy(text)
        except ValueError as error:
            raise ConfigError(name, f"{error}; or set proxy = off to ignore this variable") from None
        return None if found.is_off else found
    return None


def _variable(env: Mapping[str, str], name: str) -> tuple[str, str | None]:
    """Return name and value of a variable in either case. Lower case wins, as in curl."""
    for spelling in (name, name.upper()):
        if env.get(spelling, "").strip():
            return spelling, env[spelling]
    return name, None


def is_bypassed(host: str, port: int | None, no_proxy: tuple[str, ...]) -> bool:
    """
    Return whether ``NO_PROXY`` names *host*.

    An entry is ``*``, a domain (with or without a leading dot, subdomains included), an address or a
    network such as ``10.0.0.0/8``; a port behind it restricts it.
    """
    name = host.lower().rstrip(".")
    return any(_names(entry, name, port) for entry in no_proxy)


def _names(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    bare, colon, entry_port = entry.rpartition(":")
    if colon and entry_port.isdigit() and (":" not in bare or bare.endswith("]")):
        if port != int(entry_port[:6]):
            return False
        entry = bare
    entry = entry.strip("[]").strip(".")
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        return bool(entry) and (host == entry or host.endswith(f".{entry}"))


def request_class(proxies: Proxies) -> type[aiohttp.ClientRequest]:
    """Return a request class that chooses the proxy for each URL, redirect targets included."""

    class RoutedRequest(aiohttp.ClientRequest):
        def __init__(self, method: str, url: URL, **options: Any) -> None:
            found = proxies.route(url)
            if found is None:
                super().__init__(method, url, **options)
                return
            credentials = _credentials(found)
            super().__init__(method, url, **options | {"proxy": URL(found.url), "proxy_headers": credentials})
            if not self.is_ssl():  # the proxy reads this request; only the tunnel has headers of its own
                self.headers.update(credentials)

    return RoutedRequest


class ProxyConnector(aiohttp.TCPConnector):
    """Connections whose errors name the proxy when the proxy is what fails."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        try:
            return await super().connect(req, traces, timeout)
        except aiohttp.ClientHttpProxyError as error:
            raise _refusal(_place_of(req), error.status) from None
        except aiohttp.ClientProxyConnectionError as error:
            problem = error.os_error.strerror or type(error.os_error).__name__
            raise ProxyUnreachable(_place_of(req), problem) from None


def _credentials(found: Proxy) -> dict[str, str]:
    if not (found.username or found.password):
        return {}
    pair = base64.b64encode(f"{found.username}:{found.password}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {pair}"}


def _place_of(req: aiohttp.ClientRequest) -> str:
    return (req.proxy.host_port_subcomponent or "") if req.proxy is not None else ""


def _refusal(place: str, status: int) -> ProxyError:
    return ProxyUnreachable(place, f"HTTP {status}") if status >= 500 else ProxyRefused(place, status)


def refusal_trace(proxies: Proxies) -> aiohttp.TraceConfig:
    """Return a trace that turns a 407 for an ``http`` URL into ProxyRefused; aiohttp does so for https."""

    async def check(_session: object, _context: object, params: aiohttp.TraceRequestEndParams) -> None:
        response = params.response
        found = proxies.route(response.url) if response.status == 407 else None
        if found is not None and response.url.scheme == "http":
            raise ProxyRefused(found.address, response.status)

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(check)
    return trace
