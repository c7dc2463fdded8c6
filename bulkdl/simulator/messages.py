"""
Represent one request and its reply as values.

A handler describes the reply. A fault can change this description or its delivery (``Delivery``).
``sender.py`` sends the reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, unquote

from bulkdl.simulator.lazy_bytes import Blob, LiteralBytes

Headers = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class ReceivedRequest:
    """
    A received request.

    Attributes:
        server: ``api`` or ``storage``.
        target: Path and query, byte for byte.
        path: The path with percent-escapes undone.
        segments: Parts of the path, unescaped separately. A trailing slash is ignored.
        endpoint: A name of ``routes.ENDPOINTS``, ``object`` or ``unknown``.
        level: ``job``, ``task`` or empty.
        overrides: Changes that faults request from the handler.
    """

    server: str
    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    endpoint: str = "unknown"
    level: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def segments(self) -> list[str]:
        parts = [unquote(part) for part in self.target.partition("?")[0].split("/")[1:]]
        return parts[:-1] if parts and not parts[-1] else parts


@dataclass(frozen=True, slots=True)
class Delivery:
    """
    How a reply is sent. All offsets are byte offsets in the body of this reply.

    Attributes:
        wait_s: Delay before the reply is sent.
        reset: Reset the connection (RST) before the headers.
        stop_at: Close the connection after this number of bytes, with a reset if *stop_resets*.
        stall_at: Offset at which the reply pauses for *stall_s*.
        bytes_per_s: Speed of the body. 0 is unlimited.
        head_bytes_per_s: Speed of status line and headers. 0 is unlimited.
        extra_bytes: Bytes to send after the announced end. Negative: never end.
    """

    delay_s: float = 0.0
    reset: bool = False
    stop_at: int | None = None
    stop_resets: bool = False
    stall_at: int | None = None
    stall_s: float = 0.0
    bytes_per_s: float = 0.0
    head_bytes_per_s: float = 0.0
    extra_bytes: int = 0

    @property
    def ends_connection(self) -> bool:
        return self.reset or self.stop_at is not None or self.extra_bytes != 0


@dataclass(frozen=True, slots=True)
class Reply:
    """
    The reply to a request.

    Attributes:
        headers: In order. Names can repeat. Content-Length is added from *body*.
        announced: Send a Content-Length. Otherwise the body is chunked.
    """

    status: int
    headers: Headers = ()
    body: Blob = field(default_factory=lambda: LiteralBytes(b""))
    has_content_length: bool = True
    delivery: Delivery = Delivery()

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def without_headers(self, *names: str) -> Reply:
        dropped = {name.lower() for name in names}
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0].lower() not in dropped))

    def with_headers(self, *pairs: tuple[str, str]) -> Reply:
        return replace(self, headers=(*self.without_headers(*(name for name, _ in pairs)).headers, *pairs))


@dataclass(slots=True)
class RequestRecord:
    """
    Record of one request.

    Attributes:
        number: Sequence number over both servers.
        query: Query without the value of the signature.
        status: 0 before a reply starts, and if a fault prevented the reply.
        sent_bytes: Body bytes sent so far.
        faults: Names of the faults that were applied.
    """

    number: int
    server: str
    method: str
    path: str
    query: str
    endpoint: str
    headers: Mapping[str, str] = field(repr=False)
    status: int = 0
    sent_bytes: int = 0
    faults: tuple[str, ...] = ()
