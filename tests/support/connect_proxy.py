"""An HTTP proxy on loopback: CONNECT for https, absolute URLs for http, optional credentials."""

import asyncio
import base64
import contextlib
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class ConnectProxy:
    """
    Attributes:
        credentials: ``user:password`` that a client must send; None disables authentication.
        refusal: Status of every response. None forwards all requests.
        seen: Method and target of each request.
    """

    credentials: str | None = None
    refusal: int | None = None
    requests: list = field(default_factory=list)
    port: int = 0
    serving_tasks: set = field(default_factory=set)

    @property
    def place(self):
        return f"127.0.0.1:{self.port}"

    def url(self, credentials=""):
        return f"http://{credentials}{'@' if credentials else ''}{self.place}"

    @contextlib.asynccontextmanager
    async def serving(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self.serving_tasks:
                task.cancel()
            await asyncio.gather(*self.serving_tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self.serving_tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._request(reader, writer)
        finally:
            writer.transport.abort()
            self.serving_tasks.discard(task)

    async def _request(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.requests.append((method, target))
        status = self.refusal or (None if self._is_authorized(head) else 407)
        if status is not None:
            writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
            await writer.drain()
            return
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            there_reader, there_writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            parts = urlsplit(target)
            there_reader, there_writer = await asyncio.open_connection(parts.hostname, parts.port)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            lines = [
                line
                for line in head.split(b"\r\n")[1:]
                if not line.lower().startswith(b"proxy-authorization")
            ]
            # One request for each connection: the following requests are not parsed.
            start = [f"{method} {path} HTTP/1.1".encode(), b"Connection: close"]
            there_writer.write(b"\r\n".join([*start, *lines]))
        try:
            await asyncio.gather(_pipe(reader, there_writer), _pipe(there_reader, writer))
        finally:
            there_writer.transport.abort()

    def _is_authorized(self, head):
        if self.credentials is None:
            return True
        token = base64.b64encode(self.credentials.encode()).decode()
        return f"proxy-authorization: basic {token}".lower() in head.decode().lower()


async def _pipe(reader, writer):
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
