import asyncio
import contextlib
import email
import json
import re
import socket
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from bulkdl.errors import ConfigError
from bulkdl.models import Outcome, Reason, Result
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.sources.up42_jobs.spec import SPEC
from bulkdl.telemetry.dashboard import RunStatus
from bulkdl.telemetry.events import (
    ProblemFound,
    Reporters,
    RequestEnded,
    RetryScheduled,
    TransferEnded,
    TransferStarted,
)
from bulkdl.telemetry.health import DiskProbe, Readiness
from bulkdl.telemetry.metrics import Metrics
from bulkdl.telemetry.web import Views, _url, create_app, load_page, serve
from support.idle import wait_until_idle

PATHS = ("/", "/healthz", "/readyz", "/metrics", "/status.json", "/nothing-here")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'\ud800\u2028.jpg"


class Site:
    """The application for a directory, and the reporter that supplies its data."""

    def __init__(self, root):
        disk = DiskProbe(root, root)
        metrics = Metrics("1.2.3", SPEC.kind_names, lambda: disk.free_bytes)
        self.run_status = RunStatus(
            "1.2.3", SPEC.kind_names, lambda: 7.0, lambda: datetime(2024, 3, 1, tzinfo=UTC)
        )
        readiness = Readiness()
        self.report = Reporters(metrics, self.run_status, readiness).report
        self.app = create_app(Views(self.run_status, metrics, readiness, disk))


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
async def client(site):
    async with TestClient(TestServer(site.app)) as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
async def test_response_has_security_headers(client, path):
    async with client.get(path) as response:
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Server"] == "bulkdl"
        assert response.status == {"/readyz": 503, "/nothing-here": 404}.get(path, 200)


@pytest.mark.parametrize("path", PATHS[:-1])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_request_with_a_writing_method_is_rejected(client, path, method):
    async with client.request(method, path) as response:
        assert response.status == 405


async def test_readyz_is_200_only_after_successful_authentication(client, site):
    for event in (None, RequestEnded("token", 401, 0.1), RequestEnded("storage", 200, 0.1)):
        if event is not None:
            site.report(event)
        async with client.get("/readyz") as response:
            assert response.status == 503
            assert await response.json() == {"ready": False, "reasons": ["not authenticated yet"]}
    site.report(RequestEnded("token", 200, 0.1))
    async with client.get("/readyz") as response:
        assert (response.status, await response.json()) == (200, {"ready": True, "reasons": []})


async def test_readyz_reports_rejected_credentials_without_secrets(client, site):
    site.report(ProblemFound(Reason.CREDENTIALS, "project p", "401 client_secret=hunter22 is wrong"))
    async with client.get("/readyz") as response:
        assert (await response.json())["reasons"] == ["authentication failed: 401 client_secret=*** is wrong"]


async def test_readyz_without_a_writable_output_directory_is_503(tmp_path):
    site = Site(tmp_path / "gone")
    site.report(RequestEnded("jobs", 200, 0.1))
    async with TestClient(TestServer(site.app)) as client:
        async with client.get("/readyz") as response:
            assert response.status == 503
            assert (await response.json())["reasons"] == ["the output directory does not exist"]
        async with client.get("/healthz") as response:
            assert response.status == 200
        async with client.get("/status.json") as response:
            assert (await response.json())["disk_free_bytes"] is None


async def test_metrics_response_has_the_prometheus_content_type(client):
    async with client.get("/metrics") as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = await response.text()
    assert "bulkdl_disk_free_bytes" in text
    assert "bulkdl_disk_free_bytes NaN" not in text


async def test_status_json_contains_hostile_names_only_as_strings(client, site):
    output = job_output("p", "j", "t", Kind.QUICKLOOK, HOSTILE)
    site.report(TransferStarted(output))
    site.report(RetryScheduled(output, Reason.STALLED, 1.0))
    async with client.get("/status.json") as response:
        assert response.content_type == "application/json"
        document = await response.json()
    assert document["in_flight"][0]["name"] == HOSTILE
    site.report(TransferEnded(Result(output, Outcome.FAILED, Reason.STALLED, detail=HOSTILE)))
    async with client.get("/") as response:
        assert "alert(" not in await response.text()


def test_load_page_returns_inline_style_and_script_allowed_by_hash():
    page, policy = load_page()
    assert len(re.findall(r"'sha256-[\w+/]{43}='", policy)) == 2
    assert "/* page.js */" not in page
    assert len(re.findall(r"<script", page)) == 1
    for url in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert url.startswith(("/", "data:,"))
    assert "http://" not in page
    assert "https://" not in page


@pytest.mark.parametrize(
    "function", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
)
def test_page_script_does_not_create_markup_from_text(function):
    assert function not in load_page()[0]


async def test_serve_on_port_0_yields_the_url_of_a_free_port_and_releases_it(site):
    async with (
        serve(site.app, "127.0.0.1", 0) as url,
        aiohttp.ClientSession(url) as client,
        client.get("healthz") as response,
    ):
        assert await response.json() == {"alive": True}
        port = response.url.port
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize(
    "request_bytes", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 99_999 + b"\r\n\r\n"]
)
async def test_response_to_a_malformed_request_has_security_headers(site, request_bytes):
    async with serve(site.app, "127.0.0.1", 0) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))
        writer.write(request_bytes)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
    assert head.startswith("HTTP/1.0 400 ")
    headers = email.message_from_string(head.partition("\r\n")[2])
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers.get_all("Server") == ["bulkdl"]


def test_url_of_an_ipv6_address_has_brackets():
    assert _url(("::1", 9400, 0, 0)) == "http://[::1]:9400/"


async def test_serve_on_a_used_address_raises_config_error(site):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--listen 127\.0\.0\.1:{port}: cannot listen here"):
            async with serve(site.app, "127.0.0.1", port):
                pytest.fail("it listens")


@pytest.mark.parametrize("iterations", range(6))  # an accepted connection is opened over several iterations
async def test_serve_that_ends_while_it_accepts_closes_the_connection(site, iterations):
    async with serve(site.app, "127.0.0.1", 0) as url:
        client = socket.create_connection(("127.0.0.1", int(url.rstrip("/").rpartition(":")[2])))
        for _ in range(iterations):
            await asyncio.sleep(0)
    client.setblocking(False)
    await wait_until_idle()
    with client, contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""


async def test_serve_ends_despite_an_open_connection(site):
    async with serve(site.app, "127.0.0.1", 0) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
    assert json.loads(await reader.readexactly(15)) == {"alive": True}
    assert await reader.read() == b""
    writer.close()
