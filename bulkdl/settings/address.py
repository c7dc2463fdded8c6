"""Where to listen: ``HOST:PORT``, an IPv6 host in brackets."""

from __future__ import annotations

import re
from dataclasses import dataclass

ADDRESS_EXPECTED = "expected HOST:PORT such as 127.0.0.1:9400, 0.0.0.0:9400 or [::1]:0"
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:\[\]/]+)):(?P<port>\d{1,5})", re.ASCII)
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """A host name or address, without brackets, and a port; 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(value: object) -> Address:
    """
    An address from text.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, Address):
        return value
    match = _ADDRESS.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or int(match["port"]) > _MAX_PORT:
        raise ValueError(ADDRESS_EXPECTED)
    return Address(match["v6"] or match["host"], int(match["port"]))
