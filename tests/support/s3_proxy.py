"""Forward requests to an object store, and let a script change or fail some of them."""

import asyncio
import io
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from support.thread_server import serve_in_thread

_HOP_HEADERS = {"connection", "content-length", "keep-alive", "transfer-encoding"}


@dataclass
class Reply:
    """A response that the proxy sends instead of the store."""

    status: int
    code: str = ""

    def to_response(self):
        text = f"<Error><Code>{self.code}</Code><Message>scripted</Message></Error>" if self.code else ""
        return web.Response(status=self.status, text=text, content_type="application/xml")


class LostResponse:
    """The store executes the request, and the connection ends before its response."""


class S3Proxy:
    """
    A proxy in front of *store_url*.

    Attributes:
        url: The endpoint for clients.
        requests: Method and path with query of each request.
        fault: Receives method, path with query and body. Returns None, another body, a ``Reply`` or a
            ``LostResponse``.
    """

    def __init__(self, store_url):
        self._store_url = store_url
        self._session = None
        self.url = ""
        self.requests = []
        self.fault = lambda method, path, body: None

    async def forward(self, request):
        body = await request.read()
        self.requests.append((request.method, request.raw_path))
        change = self.fault(request.method, request.raw_path, body)
        if asyncio.iscoroutine(change):
            change = await change
        if isinstance(change, Reply):
            return change.to_response()
        is_lost = isinstance(change, LostResponse)
        headers = {name: text for name, text in request.headers.items() if name.lower() not in _HOP_HEADERS}
        async with self._session.request(
            request.method,
            aiohttp.client.URL(self._store_url + request.raw_path, encoded=True),
            headers=headers,
            data=io.BytesIO(body if change is None or is_lost else change),
            allow_redirects=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        ) as response:
            if is_lost:
                await response.read()
                if request.transport is not None:
                    request.transport.abort()
                return web.Response()
            kept = [
                (name, text) for name, text in response.headers.items() if name.lower() not in _HOP_HEADERS
            ]
            if request.method == "HEAD":
                kept.append(("Content-Length", response.headers.get("Content-Length", "0")))
            return web.Response(status=response.status, headers=kept, body=await response.read())

    def count(self, method, part=""):
        return sum(seen == method and part in path for seen, path in self.requests)


@contextmanager
def run_s3_proxy(store_url):
    """Yield a proxy in front of *store_url* on a free port."""
    proxy = S3Proxy(store_url)

    @asynccontextmanager
    async def open_session():
        async with aiohttp.ClientSession(auto_decompress=False) as proxy._session:
            yield

    with serve_in_thread(proxy.forward, open_session) as proxy.url:
        yield proxy
