"""
The run over HTTP: health for an orchestrator, metrics for a scraper, one page for a person.

It lives in the run's own loop, so an answer from ``/healthz`` says that the loop turns. Nothing can
be changed through it. What it tells is not secret, but it names projects and jobs: it listens only
where it is told to.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import web

from bulkdl.errors import ConfigError
from bulkdl.log import get_logger
from bulkdl.telemetry.dashboard import RunStatus
from bulkdl.telemetry.disk_probe import DiskProbe
from bulkdl.telemetry.metrics import CONTENT_TYPE, Metrics
from bulkdl.telemetry.readiness import Readiness

log = get_logger(__name__)

_SHUTDOWN_S = 1.0


@dataclass(frozen=True, slots=True)
class Views:
    """What there is to be asked for, from the parts that know."""

    board: RunStatus
    metrics: Metrics
    readiness: Readiness
    disk: DiskProbe

    async def healthz(self, _request: web.Request) -> web.Response:
        """200 while the loop turns."""
        return _json({"alive": True})

    async def readyz(self, _request: web.Request) -> web.Response:
        """200 when outputs can be fetched and kept; else 503 and why not."""
        await self.disk.look()
        reasons = self.readiness.reasons(self.disk.problem)
        return _json({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def exposition(self, _request: web.Request) -> web.Response:
        """Metrics in Prometheus' text format."""
        await self.disk.look()
        return web.Response(body=self.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    async def status(self, _request: web.Request) -> web.Response:
        """What the page shows."""
        await self.disk.look()
        free = self.disk.free_bytes
        return _json(self.board.document(None if math.isnan(free) else free))


def application(views: Views) -> web.Application:
    """The routes, each answer with headers that let a browser do nothing but show it."""
    page, policy = page_and_policy()

    async def index(_request: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html", charset="utf-8")

    async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_HEADERS | {"Content-Security-Policy": policy})

    app = web.Application()
    app.on_response_prepare.append(add_headers)
    app.router.add_get("/", index)
    app.router.add_get("/healthz", views.healthz)
    app.router.add_get("/readyz", views.readyz)
    app.router.add_get("/metrics", views.exposition)
    app.router.add_get("/status.json", views.status)
    return app


_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "bulkdl",
    "X-Content-Type-Options": "nosniff",
}


def page_and_policy() -> tuple[str, str]:
    """The page with its style and script inside, and the policy that allows these two by their hashes."""
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
async def serving(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """
    Serve *app* until left; gives its URL. Port 0 takes a free one.

    Raises:
        ConfigError: Nothing can listen there.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigError(
                f"--listen {host}:{port}", f"cannot be listened on ({error.strerror}); name a free address"
            ) from None
        url = _url(runner.addresses[0])
        log.info("status_page.listening", url=url)
        yield url
    finally:
        await runner.cleanup()


def _url(address: tuple[object, ...]) -> str:
    host, port = str(address[0]), address[1]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _json(document: Mapping[str, object], *, status: int = 200) -> web.Response:
    return web.json_response(document, status=status)
