"""Addresses of UP42 by region, and the token endpoint that belongs to an API URL."""

from __future__ import annotations

from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

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
