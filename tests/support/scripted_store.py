"""
A storage on a real socket that responds correctly or as the script of a test requires.

It writes HTTP without a library, one request per connection, so that a body can end or stall at any byte.
"""

import asyncio
import base64
import contextlib
import hashlib
from dataclasses import dataclass, field, replace

import google_crc32c


def goog_hash(data, *algorithms):
    """Return the value of ``x-goog-hash`` for *data*."""
    digests = {
        "crc32c": google_crc32c.Checksum(data).digest(),
        "md5": hashlib.md5(data, usedforsecurity=False).digest(),
    }
    return ",".join(f"{name}={base64.b64encode(digests[name]).decode()}" for name in algorithms or digests)


@dataclass
class Request:
    """One received request, and the number of body bytes sent for it."""

    target: str
    headers: dict
    sent_bytes: int = 0

    @property
    def range(self):
        return self.headers.get("range")


@dataclass(frozen=True)
class Response:
    """
    One response.

    Attributes:
        length: Value of Content-Length; None sends the body chunked, without a length.
        cut_at: The connection ends after this number of body bytes.
        hold_at: The body pauses at this byte until ``release`` is set.
    """

    status: int
    headers: dict
    body: bytes
    length: int | None
    cut_at: int | None = None
    hold_at: int | None = None

    def with_headers(self, *, without=(), **headers):
        """Return a copy with these headers; underscores become hyphens."""
        remaining = {key: value for key, value in self.headers.items() if key.lower() not in without}
        added = {key.replace("_", "-"): value for key, value in headers.items()}
        return replace(self, headers=remaining | added)

    def cut(self, at):
        """Return a copy whose connection ends at byte *at*."""
        return replace(self, cut_at=at)


@dataclass
class Store:
    """
    One object at every path.

    Attributes:
        script: Functions for the next requests, in order. Each gets the correct response and returns the one
            to send. When the script is empty, the correct response is sent.
        requests: All requests so far.
    """

    body: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = "Mon, 01 Jan 2024 00:00:00 GMT"
    content_type: str = "application/octet-stream"
    digests: tuple = ("crc32c", "md5")
    chunked: bool = False
    script: list = field(default_factory=list)
    requests: list = field(default_factory=list)
    signed: int = 0
    path: str = "/bucket/task.tar.gz"
    expires: str = "9999999999"
    release: asyncio.Event = field(default_factory=asyncio.Event)
    serving: set = field(default_factory=set)
    port: int = 0

    @property
    def sent_bytes(self):
        return sum(request.sent_bytes for request in self.requests)

    @property
    def ranges(self):
        return [request.range for request in self.requests]

    async def sign(self):
        self.signed += 1
        return (
            f"http://127.0.0.1:{self.port}{self.path}?GoogleAccessId=me&Expires={self.expires}"
            f"&Signature=can%2Fary{self.signed}%3D"
        )

    def respond(self, request):
        headers = {"Content-Type": self.content_type, "ETag": self.etag, "Last-Modified": self.last_modified}
        headers["Date"] = "Tue, 02 Jan 2024 00:00:00 GMT"
        if self.digests:
            headers["x-goog-hash"] = goog_hash(self.body, *self.digests)
        headers = {key: value for key, value in headers.items() if value is not None}
        if request.range is None or request.headers.get("if-range") not in (self.etag, self.last_modified):
            headers["Accept-Ranges"] = "bytes"
            return Response(200, headers, self.body, None if self.chunked else len(self.body))
        size = len(self.body)
        start, _, last = request.range.removeprefix("bytes=").partition("-")
        start, end = int(start), min(int(last) + 1 if last else size, size)
        if start >= size:
            return Response(416, headers | {"Content-Range": f"bytes */{size}"}, b"", 0)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return Response(206, headers, self.body[start:end], end - start)

    async def serve(self, reader, writer):
        self.serving.add(asyncio.current_task())
        try:
            await self._serve(reader, writer)
        finally:
            writer.transport.abort()
            self.serving.discard(asyncio.current_task())

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = (line.split(": ", 1) for line in head[1:] if line)
            request = Request(head[0].split(" ")[1], {key.lower(): value for key, value in pairs})
            self.requests.append(request)
            response = self.respond(request)
            if self.script:
                response = self.script.pop(0)(response)
            await self._send(writer, request, response)
            writer.close()
            await writer.wait_closed()

    async def _send(self, writer, request, response):
        framing = {"Connection": "close"}
        framing |= (
            {"Transfer-Encoding": "chunked"}
            if response.length is None
            else {"Content-Length": response.length}
        )
        lines = [f"HTTP/1.1 {response.status} -"]
        lines += [f"{key}: {value}" for key, value in {**response.headers, **framing}.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape"))
        end = len(response.body) if response.cut_at is None else min(response.cut_at, len(response.body))
        hold_at = end if response.hold_at is None else min(response.hold_at, end)
        await self._body(writer, request, response.body[:hold_at], chunked=response.length is None)
        if hold_at < end:
            await self.release.wait()
            await self._body(writer, request, response.body[hold_at:end], chunked=response.length is None)
        if response.length is None and response.cut_at is None:
            writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _body(self, writer, request, data, *, chunked):
        for start in range(0, len(data), 65_536):
            chunk = data[start : start + 65_536]
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            request.sent_bytes += len(chunk)
            await writer.drain()


@contextlib.asynccontextmanager
async def serving(store):
    """Serve *store* on a free port of the loopback interface."""
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    store.port = server.sockets[0].getsockname()[1]
    try:
        yield store
    finally:
        server.close()
        for handler in store.serving:
            handler.cancel()
        await asyncio.gather(*store.serving, return_exceptions=True)
        await server.wait_closed()
