"""Parse the HTTP proxy of all requests. ``str`` and ``repr`` of a proxy do not show its credentials."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

PROXY_EXPECTED = "expected http://[user:password@]HOST:PORT or https://[user:password@]HOST:PORT, or off"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """
    Address and credentials of one proxy.

    Attributes:
        host: Name or address without brackets. It is empty for ``off``.
        username: Decoded. It is empty for a proxy without credentials.
    """

    scheme: str
    host: str
    port: int
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def is_off(self) -> bool:
        return not self.host

    @property
    def address(self) -> str:
        """Host and port, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL without credentials."""
        return f"{self.scheme}://{self.address}"

    def __str__(self) -> str:
        if self.is_off:
            return "off"
        return f"{self.scheme}://***@{self.address}" if self.username or self.password else self.url


OFF = Proxy("", "", 0)


def parse_proxy(value: object) -> Proxy:
    """
    Parse a proxy from a URL, from ``HOST:PORT`` (an HTTP proxy) or from ``off``.

    Raises:
        ValueError: The text is invalid. The message does not quote it, because it may contain a password.
    """
    if isinstance(value, Proxy):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if text.lower() == "off":
        return OFF
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
        username, password = (
            unquote(part or "", errors="strict") for part in (parts.username, parts.password)
        )
    except ValueError:
        raise ValueError(PROXY_EXPECTED) from None
    is_plain = text.isascii() and text.isprintable() and " " not in text
    has_more = parts.path not in ("", "/") or parts.query or parts.fragment
    if not is_plain or not host or parts.scheme not in _DEFAULT_PORTS or has_more or ":" in username:
        raise ValueError(PROXY_EXPECTED)
    return Proxy(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], username, password)
