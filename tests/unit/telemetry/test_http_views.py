"""What is answered under each path, and with which headers."""

import asyncio
import json
import re
import socket
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from bulkdl.errors import ConfigError
from bulkdl.models import Kind, Outcome, Output, Reason, Result
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

PATHS = ("/", "/healthz", "/readyz", "/metrics", "/status.json", "/nothing-here")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'\ud800\u2028.jpg"


class Outlook:
    """The application over a folder, with the reporter that feeds it."""

    def __init__(self, root):
        disk = DiskProbe(root, root)
        metrics = Metrics("1.2.3", lambda: disk.free_bytes)
        self.run_status = RunStatus("1.2.3", lambda: 7.0, lambda: datetime(2024, 3, 1, tzinfo=UTC))
        readiness = Readiness()
        self.report = Reporters(metrics, self.run_status, readiness).report
        self.app = create_app(Views(self.run_status, metrics, readiness, disk))


@pytest.fixture
def outlook(tmp_path):
    return Outlook(tmp_path)


@pytest.fixture
async def client(outlook):
    async with TestClient(TestServer(outlook.app)) as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_forbids_the_browser_what_it_does_not_need(client, path):
    async with client.get(path) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] == "bulkdl"
        assert answer.status == {"/readyz": 503, "/nothing-here": 404}.get(path, 200)


@pytest.mark.parametrize("path", PATHS[:-1])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed(client, path, method):
    async with client.request(method, path) as answer:
        assert answer.status == 405


async def test_ready_once_let_in_and_not_before(client, outlook):
    for event in (None, RequestEnded("token", 401, 0.1), RequestEnded("storage", 200, 0.1)):
        if event is not None:
            outlook.report(event)
        async with client.get("/readyz") as answer:
            assert answer.status == 503
            assert await answer.json() == {"ready": False, "reasons": ["not authenticated yet"]}
    outlook.report(RequestEnded("token", 200, 0.1))
    async with client.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (200, {"ready": True, "reasons": []})


async def test_refused_credentials_are_told_without_what_they_were(client, outlook):
    outlook.report(ProblemFound(Reason.CREDENTIALS, "project p", "401 client_secret=hunter22 is wrong"))
    async with client.get("/readyz") as answer:
        assert (await answer.json())["reasons"] == ["authentication failed: 401 client_secret=*** is wrong"]


async def test_not_ready_while_the_output_directory_cannot_be_written(tmp_path):
    outlook = Outlook(tmp_path / "gone")
    outlook.report(RequestEnded("jobs", 200, 0.1))
    async with TestClient(TestServer(outlook.app)) as client:
        async with client.get("/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json())["reasons"] == ["the output directory does not exist yet"]
        async with client.get("/healthz") as answer:
            assert answer.status == 200
        async with client.get("/status.json") as answer:
            assert (await answer.json())["disk_free_bytes"] is None


async def test_metrics_have_the_content_type_that_prometheus_wants(client):
    async with client.get("/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = await answer.text()
    assert "bulkdl_disk_free_bytes" in text
    assert "bulkdl_disk_free_bytes NaN" not in text


async def test_hostile_names_travel_as_json_strings_only(client, outlook):
    output = Output("p", "j", "t", Kind.QUICKLOOK, HOSTILE)
    outlook.report(TransferStarted(output))
    outlook.report(RetryScheduled(output, Reason.STALLED, 1.0))
    async with client.get("/status.json") as answer:
        assert answer.content_type == "application/json"
        document = await answer.json()
    assert document["in_flight"][0]["name"] == HOSTILE
    outlook.report(TransferEnded(Result(output, Outcome.FAILED, Reason.STALLED, detail=HOSTILE)))
    async with client.get("/") as answer:
        assert "alert(" not in await answer.text()


def test_the_page_has_its_style_and_script_inside_and_the_policy_allows_exactly_these():
    page, policy = load_page()
    assert len(re.findall(r"'sha256-[\w+/]{43}='", policy)) == 2
    assert "/* page.js */" not in page
    assert len(re.findall(r"<script", page)) == 1
    for place in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert place.startswith(("/", "data:,"))
    assert "http://" not in page
    assert "https://" not in page


@pytest.mark.parametrize(
    "way", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
)
def test_the_script_has_no_way_to_make_markup_of_text(way):
    assert way not in load_page()[0]


async def test_port_0_takes_a_free_one_the_url_tells_which_and_it_is_free_again_afterwards(outlook):
    async with (
        serve(outlook.app, "127.0.0.1", 0) as url,
        aiohttp.ClientSession(url) as client,
        client.get("healthz") as answer,
    ):
        assert await answer.json() == {"alive": True}
        port = answer.url.port
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


def test_the_url_of_an_ipv6_address_has_brackets():
    assert _url(("::1", 9400, 0, 0)) == "http://[::1]:9400/"


async def test_an_address_that_is_taken_is_a_mistake_in_the_settings(outlook):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--listen 127\.0\.0\.1:{port}: cannot listen here"):
            async with serve(outlook.app, "127.0.0.1", port):
                pytest.fail("it listens")


async def test_a_scrape_that_hangs_on_does_not_hold_up_the_end(outlook):
    async with serve(outlook.app, "127.0.0.1", 0) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
    assert json.loads(await reader.readexactly(15)) == {"alive": True}
    assert await reader.read() == b""
    writer.close()
