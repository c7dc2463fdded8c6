"""
One request and its reply as values.

A handler describes what should be sent; a fault may then change the description, or how it travels
(``Delivery``); ``sender.py`` carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, unquote

from bulkdl.simulator.blobs import Blob, Literal

Headers = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Call:
    """
    A request as it came.

    Attributes:
        server: ``api`` or ``storage``.
        target: Path and query, byte for byte.
        path: The path with percent-escapes undone.
        segments: Its parts, each unescaped by itself; a trailing slash leaves none.
        endpoint: What is asked for: a name of ``routes.ENDPOINTS``, ``object`` or ``unknown``.
        level: ``job``, ``task`` or empty.
        overrides: What faults have told the handler to do otherwise.
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
    How a reply travels. All offsets count bytes of this reply's body.

    Attributes:
        wait_s: Before anything is sent.
        reset: The connection is reset (RST) before a header.
        stop_at: The connection ends after that many bytes, by a reset if *stop_resets*.
        stall_at: There it pauses for *stall_s*.
        bytes_per_s: Pace of the body; 0 is no limit.
        head_bytes_per_s: Pace of status line and headers; 0 is no limit.
        extra_bytes: Sent after the announced end; negative never ends.
    """

    wait_s: float = 0.0
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
    What a request is answered with.

    Attributes:
        headers: In order; a name may come twice. Content-Length is added from *body*.
        announced: Whether a Content-Length is sent; else the body is chunked.
    """

    status: int
    headers: Headers = ()
    body: Blob = field(default_factory=lambda: Literal(b""))
    announced: bool = True
    delivery: Delivery = Delivery()

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def without(self, *names: str) -> Reply:
        dropped = {name.lower() for name in names}
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0].lower() not in dropped))

    def with_headers(self, *pairs: tuple[str, str]) -> Reply:
        return replace(self, headers=(*self.without(*(name for name, _ in pairs)).headers, *pairs))


@dataclass(slots=True)
class Seen:
    """
    One request as the simulator saw it.

    Attributes:
        number: Counts up over both servers.
        query: Without the value of a signature.
        status: 0 until a reply is begun; stays 0 where a fault sent none.
        sent_bytes: Body bytes put on the wire so far.
        faults: Names of the faults it met.
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
