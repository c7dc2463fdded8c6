"""Tests of the client that need real sockets: request lines, and long, truncated and endless bodies."""

import asyncio
import gzip
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from bulkdl.errors import ApiError
from bulkdl.http.rate_limit import Cooldown, OriginRateLimiters
from bulkdl.http.retry import RetryPolicy
from bulkdl.http.sessions import api_session
from bulkdl.models import Reason
from bulkdl.sources.transport import RequestPolicy
from bulkdl.sources.up42_common.auth import TokenSource
from bulkdl.sources.up42_common.credentials import ProjectKey, StaticToken
from bulkdl.sources.up42_jobs.client import Client
from bulkdl.sources.up42_jobs.models import Kind, job_output

LIMIT_BYTES = 1_000_000
STATIC_TOKEN = StaticToken(SecretStr("T"))


@asynccontextmanager
async def connected_client(timeline, handler, credentials=STATIC_TOKEN):
    """Yield a client of a server with *handler*, and the list of received requests."""
    requests_seen = []

    async def handle(request):
        requests_seen.append(request)
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    async with TestServer(app) as server, _session() as session:
        request_policy = RequestPolicy(
            OriginRateLimiters(0, 0),
            Cooldown(clock=timeline.clock, sleep=timeline.sleep, rand=lambda: 0.0),
            RetryPolicy(max_attempts=2),
            sleep=timeline.sleep,
        )
        url = str(server.make_url("")).rstrip("/")
        tokens = TokenSource(session, f"{url}/oauth/token", credentials, request_policy)
        yield Client(session, url, tokens, request_policy, json_limit_bytes=LIMIT_BYTES), requests_seen


def _session():
    # One connection: a request that does not release it blocks the next request.
    return api_session(user_agent="bulkdl/test", connect_timeout_s=5, limit=1)


async def _failure(client):
    with pytest.raises(ApiError) as caught:
        await client.quicklooks("p", "j", "t")
    return caught.value


async def test_quicklooks_long_response_is_read_completely(timeline):
    names = [f"{number}.jpg" for number in range(50_000)]

    async def handler(request):
        return web.json_response({"data": names})

    async with connected_client(timeline, handler) as (client, _):
        assert (await client.quicklooks("p", "j", "t"))[0] == names


@pytest.mark.parametrize(
    "name", ["../../../users/me", "..", "a/b?c#d%e", "é 港.jpg", "%2e%2e%2f", "a;b=c&d+e"]
)
async def test_open_hostile_name_is_sent_as_one_path_segment(timeline, name):
    async def handler(request):
        return web.Response(body=b"image")

    output = job_output("p", "j", "t", Kind.QUICKLOOK, name)
    async with (
        connected_client(timeline, handler) as (client, requests_seen),
        client.open(output) as (response, prefetched),
    ):
        assert prefetched + await response.read() == b"image"
    path = requests_seen[0].raw_path
    base = "/projects/p/jobs/j/tasks/t/outputs/quicklooks/"
    assert path.startswith(base)
    assert not set(path.removeprefix(base)) & set("/?#;&+ ")
    assert path.removeprefix(base) not in (".", "..")


async def test_jobs_request_line_and_headers(timeline):
    async def handler(request):
        return web.json_response({"data": []})

    async with connected_client(timeline, handler) as (client, requests_seen):
        assert [job async for job in client.jobs("p")] == []
    requested_paths = [request.raw_path for request in requests_seen]
    assert requested_paths == [f"/projects/p/jobs?page={number}&sort=createdAt,asc" for number in (1, 0)]
    assert requests_seen[0].headers["Accept"] == "application/json"
    assert requests_seen[0].headers["User-Agent"] == "bulkdl/test"


async def _endless(response):
    try:
        while True:
            await response.write(b" " * 65536)
    except ConnectionError:
        return response


async def test_quicklooks_endless_body_is_too_large(timeline):
    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        return await _endless(response)

    async with connected_client(timeline, handler) as (client, requests_seen):
        assert (await _failure(client)).reason is Reason.TOO_LARGE
        assert len(requests_seen) == 1


async def test_quicklooks_gzip_bomb_is_too_large(timeline):
    bomb = gzip.compress(b'{"data":[' + b" " * 50_000_000 + b"]}")
    assert len(bomb) < LIMIT_BYTES

    async def handler(request):
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async with connected_client(timeline, handler) as (client, _):
        assert (await _failure(client)).reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"data":[', Reason.TRUNCATED),
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"dat', Reason.TRUNCATED),
        (b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"data":[', Reason.INVALID_RESPONSE),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope", Reason.TRUNCATED),
        (b"SSH-2.0-OpenSSH\r\n", Reason.CONNECTION_LOST),
        (b"", Reason.CONNECTION_LOST),
    ],
)
async def test_quicklooks_truncated_or_invalid_response_is_retried_and_reported(timeline, response, reason):
    requests = 0

    async def serve(reader, writer):
        nonlocal requests
        requests += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, _session() as session:
        request_policy = RequestPolicy(
            OriginRateLimiters(0, 0), Cooldown(), RetryPolicy(max_attempts=2), sleep=timeline.sleep
        )
        tokens = TokenSource(session, url, StaticToken(SecretStr("T")), request_policy)
        assert (await _failure(Client(session, url, tokens, request_policy))).reason is reason
    assert requests >= 2


async def test_quicklooks_closed_port_is_unreachable(timeline, unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with _session() as session:
        request_policy = RequestPolicy(
            OriginRateLimiters(0, 0), Cooldown(), RetryPolicy(max_attempts=3), sleep=timeline.sleep
        )
        tokens = TokenSource(session, url, StaticToken(SecretStr("T")), request_policy)
        failure = await _failure(Client(session, url, tokens, request_policy))
    assert failure.reason is Reason.UNREACHABLE
    assert len(timeline.slept) == 2


async def test_open_left_early_does_not_wait_for_the_body(timeline):
    left = asyncio.Event()

    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            return await _endless(response)
        finally:
            left.set()

    async with connected_client(timeline, handler) as (client, _):
        async with client.open(job_output("p", "j", "t", Kind.GEOJSON)) as (response, _):
            assert len(await response.content.readexactly(10)) == 10
        await left.wait()


async def test_open_redirect_to_another_origin_drops_the_token(timeline):
    async def elsewhere(request):
        return web.json_response({"authorization": request.headers.get("Authorization")})

    other_app = web.Application()
    other_app.router.add_get("/there", elsewhere)
    async with TestServer(other_app) as other:

        async def handler(request):
            raise web.HTTPFound(other.make_url("/there"))

        async with connected_client(timeline, handler) as (client, requests_seen):
            async with client.open(job_output("p", "j", "t", Kind.GEOJSON)) as (response, prefetched):
                assert json.loads(prefetched + await response.read()) == {"authorization": None}
            assert requests_seen[0].headers["Authorization"] == "Bearer T"


async def test_quicklooks_endless_redirect_is_rejected(timeline):
    async def handler(request):
        raise web.HTTPFound(request.path)

    async with connected_client(timeline, handler) as (client, _):
        assert (await _failure(client)).reason is Reason.REJECTED


async def test_open_read_error_is_raised_to_the_reader(timeline):
    async def handler(request):
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"short")
        request.transport.abort()
        return response

    async with connected_client(timeline, handler) as (client, _):
        with pytest.raises((aiohttp.ClientPayloadError, ConnectionError)):
            async with client.open(job_output("p", "j", "t", Kind.GEOJSON)) as (response, _):
                await response.read()


async def test_open_rejected_attempt_releases_its_connection(timeline):
    granted = 0

    async def handler(request):
        nonlocal granted
        if request.path == "/oauth/token":
            granted += 1
            return web.json_response({"access_token": f"T{granted}"})
        fresh = request.headers["Authorization"] == "Bearer T2"
        return web.Response(status=200 if fresh else 401, body=b"x" * 1_000_000)

    output = job_output("p", "j", "t", Kind.GEOJSON)
    key = ProjectKey("p", SecretStr("k"))
    async with (
        asyncio.timeout(30),
        connected_client(timeline, handler, key) as (client, _),
        client.open(output) as (response, prefetched),
    ):
        assert response.status == 200
        assert len(prefetched + await response.read()) == 1_000_000


def error_handler(error, *, chunked=False):
    """Return a handler that responds with an error document of UP42 and status 200."""
    body = json.dumps({"data": None, "error": error}).encode()

    async def handler(request):
        if not chunked:
            return web.Response(body=body, content_type="application/json")
        response = web.StreamResponse()
        await response.prepare(request)
        for byte in body:
            await response.write(bytes([byte]))
        return response

    return handler


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("kind", [Kind.GEOJSON, Kind.QUICKLOOK])
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (404, Reason.NOT_FOUND),
        ("RESOURCE_NOT_FOUND", Reason.NOT_FOUND),
        (403, Reason.FORBIDDEN),
        (422, Reason.REJECTED),
        (429, Reason.THROTTLED),
        (503, Reason.SERVER_ERROR),
    ],
)
async def test_open_error_document_in_a_200_response_is_raised(timeline, kind, code, reason, chunked):
    handler = error_handler({"code": code, "message": "no such thing", "details": None}, chunked=chunked)
    async with connected_client(timeline, handler) as (client, requests_seen):
        with pytest.raises(ApiError, match="no such thing") as caught:
            async with client.open(job_output("p", "j", "t", kind, "a.jpg")):
                pass
        assert (caught.value.reason, len(requests_seen)) == (reason, 1)
        with pytest.raises(ApiError):  # the only connection must be free again
            async with client.open(job_output("p", "j", "t", kind, "a.jpg")):
                pass


@pytest.mark.parametrize(
    "body",
    [
        b'{"type": "FeatureCollection", "features": [], "error": {"code": 404}}',
        b'{"error": null, "features": []}',
        b'["error"]',
        b'{"error": {"code": 404',
        b'\xff\xd8\xff"error"',
        b'{"error": {"code": 404}}' + b" " * 20_000,
    ],
)
async def test_open_body_that_is_not_an_error_document_is_returned_unchanged(timeline, body):
    async def handler(request):
        return web.Response(body=body)

    output = job_output("p", "j", "t", Kind.GEOJSON)
    async with (
        connected_client(timeline, handler) as (client, _),
        client.open(output) as (response, prefetched),
    ):
        assert prefetched + await response.read() == body


async def test_open_token_rejected_in_a_200_response_is_renewed_once(timeline):
    granted = 0
    rejection = error_handler({"code": "UNAUTHORIZED", "message": "ACCESS_TOKEN_EXPIRED"})

    async def handler(request):
        nonlocal granted
        if request.path == "/oauth/token":
            granted += 1
            return web.json_response({"access_token": f"T{granted}"})
        if request.headers["Authorization"] == "Bearer T2":
            return web.Response(body=b"{}")
        return await rejection(request)

    output = job_output("p", "j", "t", Kind.GEOJSON)
    key = ProjectKey("p", SecretStr("k"))
    async with (
        connected_client(timeline, handler, key) as (client, _),
        client.open(output) as (_, prefetched),
    ):
        assert prefetched == b"{}"
    async with connected_client(timeline, rejection) as (client, _):
        with pytest.raises(ApiError) as caught:
            async with client.open(output):
                pass
    assert caught.value.reason is Reason.CREDENTIALS


async def test_open_429_in_a_200_response_starts_the_cooldown(timeline):
    """The cooldown applies to requests for outputs and to requests for lists."""
    throttled = error_handler({"code": 429, "message": "slow down"})

    async def handler(request):
        response = await throttled(request)
        response.headers["Retry-After"] = "40"
        return response

    async with connected_client(timeline, handler) as (client, _):
        with pytest.raises(ApiError) as caught:
            async with client.open(job_output("p", "j", "t", Kind.GEOJSON)):
                pass
        assert caught.value.retry_after_s == 40
        before = timeline.now
        assert (await _failure(client)).reason is Reason.THROTTLED
        assert timeline.now - before >= 40 + 40
