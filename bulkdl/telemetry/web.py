"""
Serve the health endpoints, the metrics and the status page of a run over HTTP.

The server runs in the event loop of the run, so a response of ``/healthz`` proves that the loop responds. The
server is read-only, except for the webhooks of a service. It does not expose secrets, but names and IDs of
outputs. It listens only if ``--listen`` is set.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from bulkdl.errors import ConfigError
from bulkdl.log import get_logger
from bulkdl.telemetry.dashboard import RunStatus
from bulkdl.telemetry.health import DiskProbe, Readiness
from bulkdl.telemetry.metrics import CONTENT_TYPE, Metrics

log = get_logger(__name__)

_SHUTDOWN_TIMEOUT_S = 1.0
_MAX_BODY_BYTES = 1 << 20


def _is_server_error(record: logging.LogRecord) -> bool:
    """Return False for malformed requests. aiohttp logs an error with a traceback for each of them."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


_server_log = logging.getLogger(__name__)
_server_log.addFilter(_is_server_error)


@dataclass(frozen=True, slots=True)
class ServiceViews:
    """
    What a service adds to the pages of its runs.

    Attributes:
        document: Returns the state of the service for the status page.
        post_handlers: Handlers of POST requests by path.
        max_body_bytes: Maximum size of the body of a POST request.
    """

    document: Callable[[], Mapping[str, object]]
    post_handlers: Mapping[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]
    max_body_bytes: int


@dataclass(frozen=True, slots=True)
class Views:
    """The request handlers."""

    run_status: RunStatus
    metrics: Metrics
    readiness: Readiness
    disk: DiskProbe
    service: ServiceViews | None = None

    async def healthz(self, _request: web.Request) -> web.Response:
        """Return 200 while the event loop responds."""
        return _json({"alive": True})

    async def readyz(self, _request: web.Request) -> web.Response:
        """Return 200 if outputs can be downloaded and stored, otherwise 503 and the reasons."""
        await self.disk.refresh()
        reasons = self.readiness.reasons(self.disk.problem)
        return _json({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def metrics_text(self, _request: web.Request) -> web.Response:
        """Return the metrics in the Prometheus text format."""
        await self.disk.refresh()
        return web.Response(body=self.metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def status_json(self, _request: web.Request) -> web.Response:
        """Return the data of the status page."""
        await self.disk.refresh()
        free = self.disk.free_bytes
        document = self.run_status.document(None if math.isnan(free) else free)
        return _json({**document, "service": self.service and self.service.document()})


def create_app(views: Views) -> web.Application:
    """Create the application; each response has headers that restrict the browser to displaying it."""
    page, policy = load_page()

    async def index(_request: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html", charset="utf-8")

    async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(app[_APP_HEADERS])

    service = views.service
    app = web.Application(client_max_size=service.max_body_bytes if service else _MAX_BODY_BYTES)
    app[_APP_HEADERS] = _HEADERS | {"Content-Security-Policy": policy}
    app.on_response_prepare.append(add_headers)
    app.router.add_get("/", index)
    app.router.add_get("/healthz", views.healthz)
    app.router.add_get("/readyz", views.readyz)
    app.router.add_get("/metrics", views.metrics_text)
    app.router.add_get("/status.json", views.status_json)
    for path, handler in (service.post_handlers if service else {}).items():
        app.router.add_post(path, handler)
    return app


_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "bulkdl",
    "X-Content-Type-Options": "nosniff",
}
_APP_HEADERS = web.AppKey[Mapping[str, str]]("headers")


class _Connection(web.RequestHandler):
    """Adds *headers* to the responses that aiohttp sends itself, for example to a malformed request."""

    __slots__ = ("_headers",)

    def __init__(self, server: web.Server, headers: Mapping[str, str], **options: Any) -> None:
        super().__init__(server, **options)
        self._headers = headers

    def handle_error(self, *args: Any, **kwargs: Any) -> web.StreamResponse:
        response = super().handle_error(*args, **kwargs)
        response.headers.update(self._headers)
        return response


def load_page() -> tuple[str, str]:
    """Return the page with inline style and script, and a content security policy with their hashes."""
    folder = files("bulkdl.telemetry") / "page"
    style, script = ((folder / name).read_text("utf-8") for name in ("page.css", "page.js"))
    page = (folder / "page.html").read_text("utf-8")
    page = page.replace("/* page.css */", style).replace("/* page.js */", script)
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@asynccontextmanager
async def serve(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """
    Serve *app* until the context ends; yield its URL. Port 0 selects a free port.

    Raises:
        ConfigError: The address cannot be used.
    """
    loop = asyncio.get_running_loop()
    runner = web.AppRunner(app, shutdown_timeout=_SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    listener: asyncio.Server | None = None
    try:
        create_connection = partial(
            _Connection,
            cast("web.Server", runner.server),
            app[_APP_HEADERS],
            loop=loop,
            access_log=None,
            logger=_server_log,
        )
        try:
            listener = await loop.create_server(create_connection, host, port)
        except OSError as error:
            raise ConfigError(
                f"--listen {host}:{port}",
                f"cannot listen here ({error.strerror}); use a free address",
            ) from None
        url = _url(listener.sockets[0].getsockname())
        log.info("status_page.listening", url=url)
        yield url
    finally:
        if listener is not None:
            await _stop_listening(listener)
        await runner.cleanup()


async def _stop_listening(listener: asyncio.Server) -> None:
    """
    Close *listener*, but not before asyncio has opened the connections that it has accepted.

    A server that is closed in between loses these connections: they are not served and not closed.
    """
    for listening in listener.sockets:
        asyncio.get_running_loop().remove_reader(listening.fileno())
    await asyncio.sleep(0)
    listener.close()


def _url(address: tuple[object, ...]) -> str:
    host, port = str(address[0]), address[1]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _json(document: Mapping[str, object], *, status: int = 200) -> web.Response:
    return web.json_response(document, status=status)
