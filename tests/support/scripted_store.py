"""
A storage on a real socket that answers as a test tells it to: honestly, or as its script says.

It writes HTTP by hand, one request a connection, so that a body can end, stall or lie at any byte.
"""

import asyncio
import base64
import contextlib
import hashlib
from dataclasses import dataclass, field, replace

import google_crc32c


def goog_hash(data, *algorithms):
    """The value of ``x-goog-hash`` for *data*."""
    digests = {
        "crc32c": google_crc32c.Checksum(data).digest(),
        "md5": hashlib.md5(data, usedforsecurity=False).digest(),
    }
    return ",".join(f"{name}={base64.b64encode(digests[name]).decode()}" for name in algorithms or digests)


@dataclass
class Asked:
    """One request as it came, and how many body bytes went out for it."""

    target: str
    headers: dict
    sent_bytes: int = 0

    @property
    def range(self):
        return self.headers.get("range")


@dataclass(frozen=True)
class Answer:
    """
    What goes out.

    Attributes:
        length: The Content-Length told; None tells none and sends the body chunked.
        cut_at: The connection ends after that many body bytes.
        hold_at: The body stops there until ``release`` is set.
    """

    status: int
    headers: dict
    body: bytes
    length: int | None
    cut_at: int | None = None
    hold_at: int | None = None

    def but(self, *, without=(), **headers):
        """The same with other headers (underscores stand for hyphens)."""
        kept = {key: value for key, value in self.headers.items() if key.lower() not in without}
        return replace(self, headers=kept | {key.replace("_", "-"): value for key, value in headers.items()})

    def cut(self, at):
        return replace(self, cut_at=at)


@dataclass
class Store:
    """
    One object at every path.

    Attributes:
        script: What the next requests meet, in order: each is called with the honest answer and gives
            the one that goes out. When it has run out, all answers are honest.
        asked: Every request so far.
    """

    body: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = "Mon, 01 Jan 2024 00:00:00 GMT"
    content_type: str = "application/octet-stream"
    digests: tuple = ("crc32c", "md5")
    chunked: bool = False
    script: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    signed: int = 0
    path: str = "/bucket/task.tar.gz"
    expires: str = "9999999999"
    release: asyncio.Event = field(default_factory=asyncio.Event)
    serving: set = field(default_factory=set)
    port: int = 0

    @property
    def sent_bytes(self):
        return sum(one.sent_bytes for one in self.asked)

    @property
    def ranges(self):
        return [one.range for one in self.asked]

    async def sign(self):
        self.signed += 1
        return (
            f"http://127.0.0.1:{self.port}{self.path}?GoogleAccessId=me&Expires={self.expires}"
            f"&Signature=can%2Fary{self.signed}%3D"
        )

    def honest(self, asked):
        headers = {"Content-Type": self.content_type, "ETag": self.etag, "Last-Modified": self.last_modified}
        headers["Date"] = "Tue, 02 Jan 2024 00:00:00 GMT"
        if self.digests:
            headers["x-goog-hash"] = goog_hash(self.body, *self.digests)
        headers = {key: value for key, value in headers.items() if value is not None}
        if asked.range is None or asked.headers.get("if-range") not in (self.etag, self.last_modified):
            headers["Accept-Ranges"] = "bytes"
            return Answer(200, headers, self.body, None if self.chunked else len(self.body))
        size = len(self.body)
        start, _, last = asked.range.removeprefix("bytes=").partition("-")
        start, end = int(start), min(int(last) + 1 if last else size, size)
        if start >= size:
            return Answer(416, headers | {"Content-Range": f"bytes */{size}"}, b"", 0)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return Answer(206, headers, self.body[start:end], end - start)

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
            asked = Asked(head[0].split(" ")[1], {key.lower(): value for key, value in pairs})
            self.asked.append(asked)
            answer = self.honest(asked)
            if self.script:
                answer = self.script.pop(0)(answer)
            await self._send(writer, asked, answer)
            writer.close()
            await writer.wait_closed()

    async def _send(self, writer, asked, answer):
        framing = {"Connection": "close"}
        framing |= (
            {"Transfer-Encoding": "chunked"} if answer.length is None else {"Content-Length": answer.length}
        )
        lines = [f"HTTP/1.1 {answer.status} -"]
        lines += [f"{key}: {value}" for key, value in {**answer.headers, **framing}.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape"))
        end = len(answer.body) if answer.cut_at is None else min(answer.cut_at, len(answer.body))
        hold_at = end if answer.hold_at is None else min(answer.hold_at, end)
        await self._body(writer, asked, answer.body[:hold_at], chunked=answer.length is None)
        if hold_at < end:
            await self.release.wait()
            await self._body(writer, asked, answer.body[hold_at:end], chunked=answer.length is None)
        if answer.length is None and answer.cut_at is None:
            writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _body(self, writer, asked, data, *, chunked):
        for at in range(0, len(data), 65_536):
            piece = data[at : at + 65_536]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            asked.sent_bytes += len(piece)
            await writer.drain()


@contextlib.asynccontextmanager
async def serving(store):
    """*store* on a free port of the loopback."""
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
