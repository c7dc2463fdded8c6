"""The status page during a run: unusual requests and many idle connections do not affect the run."""

import asyncio
import logging
import re

import pytest

from bulkdl.simulator import Faults, Simulator
from support.live_http import ACCOUNT, STALL_FIRST_REQUEST, run_with_status_page

IDLE_CONNECTIONS = 300

# Request target or method, and the expected status. A target is sent as it is, without normalisation.
TARGETS = {
    "/../../etc/passwd": 404,
    "/%2e%2e/%2e%2e/etc/passwd": 404,
    "/..%2f..%2fetc%2fpasswd": 404,
    "/status.json/": 404,
    "/status.json%00.html": 404,
    "//status.json": 404,
    "/STATUS.JSON": 404,
    "/metrics?name[]=up&x=%ff": 200,
    "/status.json?<script>alert(1)</script>": 200,
    "/" + 10_000 * "a": 400,
    "/\x01\x7f": 400,
    "http://example.com/etc/passwd": 404,
    "*": 400,
}
# aiohttp rejects unknown methods as malformed (400), and the routes reject known methods (405).
METHODS = ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "BREW", "get", "G@T")
MALFORMED = (
    b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the start of a TLS handshake
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET /healthz\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + 100_000 * b"a" + b"\r\n\r\n",
    b"POST /status.json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
)


@pytest.fixture
async def run(tmp_path):
    """A run whose archives stall, and the address of its status page."""
    async with (
        Simulator(ACCOUNT, faults=Faults.from_rules(STALL_FIRST_REQUEST)) as simulator,
        run_with_status_page(simulator, tmp_path) as run,
    ):
        yield run


def address_of(run) -> tuple[str, int]:
    base = run.http._base_url
    return base.host, base.port


async def send(run, data: bytes) -> bytes:
    """Send *data* and return the response, or nothing if the server does not respond."""
    reader, writer = await asyncio.open_connection(*address_of(run))
    writer.write(data)
    try:
        async with asyncio.timeout(1):
            return await reader.read()
    except (TimeoutError, ConnectionResetError):
        return b""
    finally:
        writer.close()


def status_of(response: bytes) -> int:
    match = re.match(rb"HTTP/\d\.\d (\d{3}) ", response)
    assert match, response[:80]
    return int(match[1])


def error_messages(caplog) -> list[str]:
    """Return the messages of the web server. Malformed requests must not fill the log of a run."""
    names = ("aiohttp", "asyncio", "bulkdl.telemetry.web")
    return [record.getMessage() for record in caplog.records if record.name.startswith(names)]


async def is_alive(run) -> bool:
    status, document = await run.json("/healthz")
    return (status, document) == (200, {"alive": True}) and not run.work.done()


async def test_status_page_with_unusual_targets_returns_no_file_and_no_error(run, caplog):
    caplog.set_level(logging.WARNING)
    for target, status in TARGETS.items():
        response = await send(run, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert status_of(response) == status, target
        assert b"root:" not in response
        assert b"alert(1)" not in response
    assert await is_alive(run)
    assert error_messages(caplog) == []


async def test_status_page_with_unusual_methods_changes_nothing(run, caplog):
    caplog.set_level(logging.WARNING)
    for method in METHODS:
        request = f"{method} /status.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert status_of(await send(run, request.encode())) in (400, 405), method
    assert await is_alive(run)
    assert error_messages(caplog) == []


async def test_status_page_with_malformed_requests_stays_available(run, caplog):
    caplog.set_level(logging.WARNING)
    for data in MALFORMED:
        response = await send(run, data)
        assert not response or status_of(response) in (200, 400, 505), (data[:40], response[:80])
    assert await is_alive(run)
    assert error_messages(caplog) == []


async def test_status_page_with_300_idle_connections_responds_and_the_run_ends(tmp_path):
    async with (
        Simulator(ACCOUNT, faults=Faults.from_rules(STALL_FIRST_REQUEST)) as simulator,
        run_with_status_page(simulator, tmp_path) as run,
    ):
        connections = [await asyncio.open_connection(*address_of(run)) for _ in range(IDLE_CONNECTIONS)]
        for _, writer in connections[::2]:  # half of the connections have sent a part of a request
            writer.write(b"GET /status.json HTTP/1.1\r\nHost: ")
        try:
            assert (await run.json("/status.json"))[0] == 200
            assert (await run.json("/readyz"))[0] == 200
            simulator.faults = None
            await simulator.take_down("storage", 0.01)  # the stalled transfers fail and resume
            async with asyncio.timeout(20):
                summary = await run.summary()
            assert summary.exit_code == 0
        finally:
            for _, writer in connections:
                writer.close()
