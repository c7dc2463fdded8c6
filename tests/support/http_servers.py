"""Run servers with redirects and TLS on loopback, and send requests to them."""

import ssl
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

from bulkdl.errors import ApiError
from bulkdl.http.errors import map_http_errors

BOUNDS = {"user_agent": "bulkdl/test", "connect_timeout_s": 3.0, "limit": 4}
BEARER = {"Authorization": "Bearer canary"}
# A certificate for localhost that is not trusted, and its key. They were created for these tests.
CERTIFICATE = Path(__file__).with_name("localhost.pem")


@asynccontextmanager
async def server(redirect_to=None, tls=None):
    """Serve /go, which redirects, and /end, which does not. Record the requests."""
    seen = []

    async def go(request):
        seen.append(request)
        return web.Response(status=302, headers={"Location": str(redirect_to)})

    async def end(request):
        seen.append(request)
        return web.Response(text="here", headers={"Set-Cookie": "a=b"})

    app = web.Application()
    app.router.add_get("/go", go)
    app.router.add_get("/end", end)
    running = TestServer(app, scheme="https" if tls else "http")
    await running.start_server(ssl=tls)
    running.seen = seen
    try:
        yield running
    finally:
        await running.close()


def tls_server():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def tls_client():
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    context.check_hostname = False
    return context


async def get(session, url, **more):
    with map_http_errors(ApiError, "GET x"):
        async with session.get(url, **more) as response:
            return response.status, await response.text()
