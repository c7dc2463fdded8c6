"""
One request and its reply as values, and the one place that writes a reply to a socket.

A handler describes what should be sent; a fault may then change the description, or how it travels
(``Delivery``). Heads are written by hand, not by aiohttp's response class, which would not let a
length lie, a header come twice or a body go on past its end.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from bulkdl.simulator.blobs import Blob, Literal

Headers = tuple[tuple[str, str], ...]
_PIECE_BYTES = 1 << 18


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

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

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


class Sender(web.StreamResponse):
    """Hands a reply to aiohttp in the shape of a response that writes itself."""

    def __init__(self, reply: Reply, seen: Seen) -> None:
        super().__init__(status=reply.status)
        self._reply, self._seen = reply, seen
        self._stays_open = False

    @property
    def keep_alive(self) -> bool | None:
        return self._stays_open

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        reply, how = self._reply, self._reply.delivery
        await asyncio.sleep(how.wait_s)
        if how.reset:
            _reset(request)
            return None
        old = request.version < (1, 1)
        chunked = not reply.announced and not old
        self._seen.status = reply.status
        self._stays_open = (
            request.keep_alive and not how.ends_connection and not (old and not reply.announced)
        )
        await self._write_head(request, chunked)
        if request.method != "HEAD" and reply.status not in {204, 304}:
            await self._write_body(request, chunked)
        if how.stop_resets:
            _reset(request)
        elif not self._stays_open and request.transport:
            request.transport.close()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to do: ``prepare`` wrote it all."""

    async def _write_head(self, request: web.BaseRequest, chunked: bool) -> None:
        reply = self._reply
        lines = [f"HTTP/1.1 {reply.status} {_phrase(reply.status)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        if reply.announced and reply.status != 204:
            lines.append(f"Content-Length: {reply.body.size}")
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        if not self._stays_open:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")
        pace = reply.delivery.head_bytes_per_s
        for piece in _pieces(head, 1) if pace else (head,):
            await request.writer.write(piece)
            if pace:
                await asyncio.sleep(1 / pace)

    async def _write_body(self, request: web.BaseRequest, chunked: bool) -> None:
        how, size = self._reply.delivery, self._reply.body.size
        stop = size if how.stop_at is None else min(size, how.stop_at)
        at = 0
        while at < stop:
            if how.stall_at is not None and at >= how.stall_at:
                await asyncio.sleep(how.stall_s)
            end = self._next_end(at, stop)
            await self._put(request, self._reply.body.read(at, end), chunked)
            at = end
        if how.stop_at is not None:
            return
        while how.extra_bytes < 0 or at < size + how.extra_bytes:
            await self._put(request, b"\0" * min(_PIECE_BYTES, abs(how.extra_bytes)), chunked)
            at += _PIECE_BYTES
        if chunked:
            await request.writer.write(b"0\r\n\r\n")

    def _next_end(self, at: int, stop: int) -> int:
        how = self._reply.delivery
        step = _PIECE_BYTES if not how.bytes_per_s else max(1, min(_PIECE_BYTES, int(how.bytes_per_s / 20)))
        end = min(at + step, stop)
        return how.stall_at if how.stall_at is not None and at < how.stall_at < end else end

    async def _put(self, request: web.BaseRequest, data: bytes, chunked: bool) -> None:
        await request.writer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        self._seen.sent_bytes += len(data)
        if self._reply.delivery.bytes_per_s:
            await asyncio.sleep(len(data) / self._reply.delivery.bytes_per_s)


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"


def _pieces(data: bytes, step: int) -> list[bytes]:
    return [data[at : at + step] for at in range(0, len(data), step)]
