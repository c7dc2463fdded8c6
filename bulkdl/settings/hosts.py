"""Addresses of UP42 by region, and the token endpoint that belongs to an API URL."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit, urlunsplit

UP42_MAX_RATE = 100.0
TOKEN_PATH = "/realms/public/protocol/openid-connect/token"  # noqa: S105 - a path


class Region(StrEnum):
    """A region of UP42. Accounts, tokens and data belong to one region."""

    EU = "eu"
    SA = "sa"


_DOMAINS = {Region.EU: "up42.com", Region.SA: "sa.up42.com"}
DEFAULT_API_URL = f"https://api.{_DOMAINS[Region.EU]}"
UP42_HOSTS = frozenset(f"api.{domain}" for domain in _DOMAINS.values())


def region_api_url(region: Region) -> str:
    """Return the base URL of the API in *region*."""
    return f"https://api.{_DOMAINS[region]}"


def account_token_endpoint(api_url: str, auth_url: str | None) -> str:
    """
    Return the token endpoint for account credentials.

    The login service of UP42 has its own host. Any other API URL, for example that of a simulator, is also
    the origin of the token endpoint, so that one setting is sufficient.
    """
    if auth_url is not None:
        return auth_url + TOKEN_PATH
    for region, domain in _DOMAINS.items():
        if api_url == region_api_url(region):
            return f"https://auth.{domain}{TOKEN_PATH}"
    parts = urlsplit(api_url)
    return urlunsplit((parts.scheme, parts.netloc, TOKEN_PATH, "", ""))


def check_url(url: str, *, allow_http: bool) -> str:
    """
    Return the base URL *url* without a slash at its end.

    Raises:
        ValueError: It is not a URL for requests, or it has no TLS.
    """
    parts = split_url(url.strip())
    if parts is None or parts.query or parts.fragment:
        raise ValueError("expected a URL such as https://api.up42.com")
    if parts.username or parts.password:
        raise ValueError(
            "expected a URL without user name and password; set the credentials in their own variables"
        )
    _require_tls(parts, allow_http=allow_http)
    return url.strip().rstrip("/")


def check_secret_url(url: str, *, allow_http: bool) -> None:
    """
    Check a URL whose path and query can be secret. The error does not quote it.

    Raises:
        ValueError: It is not a URL for requests, or it has no TLS.
    """
    parts = split_url(url)
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if parts is None or not is_plain or parts.fragment:
        raise ValueError("expected a URL such as https://example.org/hook")
    if parts.username or parts.password:
        raise ValueError("expected a URL without user name and password; use header_env or header_file")
    _require_tls(parts, allow_http=allow_http)


def split_url(url: str) -> SplitResult | None:
    """Return the parts of a URL for requests; None without a host, or with a scheme other than http(s)."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return parts if host and parts.scheme in ("http", "https") else None


def is_insecure(parts: SplitResult) -> bool:
    """Return whether a request to this URL leaves the machine without TLS."""
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def _require_tls(parts: SplitResult, *, allow_http: bool) -> None:
    if is_insecure(parts) and not allow_http:
        raise ValueError("expected https://; set allow_http = true only in a trusted network")


def is_loopback(host: str) -> bool:
    """Return whether *host* is a name or an address of this machine only."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
