"""
Chooses the proxy of each request from the setting or, without a setting, from environment variables.

As in curl, ``NO_PROXY`` also applies to a proxy that is set explicitly, and loopback hosts are not excepted.
``.netrc`` is not read.
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
    """A proxy did not forward a request. The text contains its host and port, not its credentials."""


class ProxyUnreachable(ProxyError):
    """The proxy, or the server behind it, is unreachable."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(f"cannot connect through the proxy {address} ({problem})")


class ProxyRefused(ProxyError):
    """The proxy refused the request with a status that another attempt does not change."""

    def __init__(self, address: str, status: int) -> None:
        hint = "; set valid credentials in the proxy URL" if status == 407 else ""
        super().__init__(f"the proxy {address} refused the request (HTTP {status}){hint}")


@dataclass(frozen=True, slots=True)
class Proxies:
    """
    The proxies of a run.

    Attributes:
        by_scheme: Proxies for ``http`` and ``https`` URLs. A missing scheme has a direct connection.
        no_proxy: Hosts with a direct connection, as in ``NO_PROXY``.
    """

    by_scheme: Mapping[str, Proxy]
    no_proxy: tuple[str, ...] = ()

    def route(self, url: URL) -> Proxy | None:
        """Return the proxy for a request to *url*; None for a direct connection."""
        proxy = self.by_scheme.get(url.scheme)
        if proxy is None or is_bypassed(url.raw_host or "", url.port, self.no_proxy):
            return None
        return proxy

    def secrets(self) -> list[str]:
        """Return every password in plain text, for the redaction of logs."""
        return [proxy.password for proxy in self.by_scheme.values() if proxy.password]


DIRECT = Proxies({})


def resolve_proxies(setting: Proxy | None, env: Mapping[str, str] = os.environ) -> Proxies:
    """
    Return the proxies of *setting* or, without a setting, of the variables in *env*.

    Raises:
        ConfigError: A variable is not the URL of an HTTP proxy.
    """
    no_proxy = tuple((_read_variable(env, "no_proxy")[1] or "").replace(",", " ").lower().split())
    if setting is not None:
        return DIRECT if setting.is_off else Proxies(dict.fromkeys(_DEFAULT_PORTS, setting), no_proxy)
    by_scheme = {}
    for scheme in _DEFAULT_PORTS:
        proxy = _read_proxy(env, scheme)
        if proxy is not None:
            by_scheme[scheme] = proxy
    return Proxies(by_scheme, no_proxy)


def _read_proxy(env: Mapping[str, str], scheme: str) -> Proxy | None:
    for variable in (f"{scheme}_proxy", "all_proxy"):
        name, text = _read_variable(env, variable)
        if text is None:
            continue
        try:
            proxy = parse_proxy(text)
        except ValueError as error:
            raise ConfigError(name, f"{error}; or set proxy = off to ignore this variable") from None
        return None if proxy.is_off else proxy
    return None


def _read_variable(env: Mapping[str, str], name: str) -> tuple[str, str | None]:
    """Return the name and value of a variable in either case. Lower case has precedence, as in curl."""
    for candidate in (name, name.upper()):
        if env.get(candidate, "").strip():
            return candidate, env[candidate]
    return name, None


def is_bypassed(host: str, port: int | None, no_proxy: tuple[str, ...]) -> bool:
    """
    Return whether ``NO_PROXY`` matches *host*.

    An entry is ``*``, a domain (with or without a leading dot, subdomains included), an address or a
    network such as ``10.0.0.0/8``. A port after the entry restricts it to this port.
    """
    name = host.lower().rstrip(".")
    return any(_matches(entry, name, port) for entry in no_proxy)


def _matches(entry: str, host: str, port: int | None) -> bool:
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
            proxy = proxies.route(url)
            if proxy is None:
                super().__init__(method, url, **options)
                return
            credentials = _authorization(proxy)
            super().__init__(method, url, **options | {"proxy": URL(proxy.url), "proxy_headers": credentials})
            if not self.is_ssl():  # a tunnel has separate headers; the proxy reads these
                self.headers.update(credentials)

    return RoutedRequest


class ProxyConnector(aiohttp.TCPConnector):
    """Opens connections; an error of the proxy contains the address of the proxy."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        try:
            return await super().connect(req, traces, timeout)
        except aiohttp.ClientHttpProxyError as error:
            raise _error_for_status(_proxy_address(req), error.status) from None
        except aiohttp.ClientProxyConnectionError as error:
            problem = error.os_error.strerror or type(error.os_error).__name__
            raise ProxyUnreachable(_proxy_address(req), problem) from None


def _authorization(proxy: Proxy) -> dict[str, str]:
    if not (proxy.username or proxy.password):
        return {}
    pair = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {pair}"}


def _proxy_address(req: aiohttp.ClientRequest) -> str:
    return (req.proxy.host_port_subcomponent or "") if req.proxy is not None else ""


def _error_for_status(address: str, status: int) -> ProxyError:
    return ProxyUnreachable(address, f"HTTP {status}") if status >= 500 else ProxyRefused(address, status)


def proxy_refusal_trace(proxies: Proxies) -> aiohttp.TraceConfig:
    """Return a trace that raises ProxyRefused for a 407 on an ``http`` URL; aiohttp raises for https."""

    async def check(_session: object, _context: object, params: aiohttp.TraceRequestEndParams) -> None:
        response = params.response
        proxy = proxies.route(response.url) if response.status == 407 else None
        if proxy is not None and response.url.scheme == "http":
            raise ProxyRefused(proxy.address, response.status)

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(check)
    return trace
