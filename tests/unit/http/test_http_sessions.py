import socket

import aiohttp
import pytest
from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.http.sessions import api_session, storage_session
from bulkdl.models import Reason
from support.http_servers import BEARER, BOUNDS, get, server, tls_client, tls_server


async def test_redirect_to_another_origin_drops_authorization():
    async with (
        server() as other,
        server(redirect_to=other.make_url("/end")) as redirecting,
        api_session(**BOUNDS) as session,
    ):
        assert await get(session, redirecting.make_url("/go"), headers=BEARER) == (200, "here")
        assert redirecting.seen[0].headers["Authorization"] == "Bearer canary"
        assert "Authorization" not in other.seen[0].headers


async def test_redirect_within_the_origin_keeps_authorization():
    async with server(redirect_to="/end") as target, api_session(**BOUNDS) as session:
        await get(session, target.make_url("/go"), headers=BEARER)
        assert [request.headers.get("Authorization") for request in target.seen] == ["Bearer canary"] * 2


@pytest.mark.parametrize("make", [api_session, storage_session])
async def test_redirect_from_https_to_http_is_not_followed(make):
    async with (
        server() as plain,
        server(plain.make_url("/end"), tls=tls_server()) as redirecting,
        make(**BOUNDS) as session,
    ):
        with pytest.raises(ApiError) as caught:
            await get(session, redirecting.make_url("/go"), headers=BEARER, ssl=tls_client())
        assert caught.value.reason is Reason.INSECURE_URL
        assert plain.seen == []


async def test_redirect_from_https_to_http_with_allow_http_is_followed():
    async with (
        server() as plain,
        server(plain.make_url("/end"), tls=tls_server()) as redirecting,
        api_session(**BOUNDS, allow_http=True) as session,
    ):
        assert await get(session, redirecting.make_url("/go"), ssl=tls_client()) == (200, "here")


@pytest.mark.parametrize("make", [api_session, storage_session])
async def test_session_with_an_unknown_certificate_fails(make):
    async with server(tls=tls_server()) as target, make(**BOUNDS) as session:
        with pytest.raises(ApiError) as caught:
            await get(session, target.make_url("/end"))
        assert caught.value.reason is Reason.TLS


@pytest.mark.parametrize("make", [api_session, storage_session])
async def test_session_probes_idle_connections(make):
    async with server() as target, make(**BOUNDS) as session:
        await get(session, target.make_url("/end"))
        ((protocol, _),) = (idle for pool in session.connector._conns.values() for idle in pool)
        connection = protocol.transport.get_extra_info("socket")
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle_s, interval_s, probes = (
            connection.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle_s + interval_s * probes == 120


@pytest.mark.parametrize("location", ["ftp://x/y", "http://", "http://[::1", "http://a[x]@"])
async def test_redirect_to_an_invalid_url_is_an_invalid_response(location):
    async with server(redirect_to=location) as target, api_session(**BOUNDS) as session:
        with pytest.raises(ApiError) as caught:
            await get(session, target.make_url("/go"))
        assert caught.value.reason is Reason.INVALID_RESPONSE


async def test_redirect_to_a_signed_url_does_not_change_it():
    signed = "/end?GoogleAccessId=a@b&Expires=1&Signature=a%2Fb%2Bc%3D%3D"
    async with server(redirect_to=signed) as target, api_session(**BOUNDS) as session:
        await get(session, target.make_url("/go"))
        assert target.seen[1].raw_path == signed


async def test_storage_session_does_not_change_a_signed_url():
    async with server() as target, storage_session(**BOUNDS) as session:
        signed = f"{target.make_url('/end')}?GoogleAccessId=a@b&Expires=1&Signature=a%2Fb%2Bc%3D%3D"
        await get(session, URL(signed, encoded=True))
        assert str(target.make_url("")).rstrip("/") + target.seen[0].raw_path == signed


async def test_sessions_send_their_headers_and_no_cookies_or_credentials():
    async with server() as target, api_session(**BOUNDS) as api, storage_session(**BOUNDS) as storage:
        for session in (api, storage, api, storage):
            await get(session, target.make_url("/end"))
        assert {request.headers["User-Agent"] for request in target.seen} == {"bulkdl/test"}
        assert target.seen[1].headers["Accept-Encoding"] == "identity"
        assert not any(
            "Cookie" in request.headers or "Authorization" in request.headers for request in target.seen
        )


@pytest.mark.parametrize("make", [api_session, storage_session])
async def test_sessions_have_the_configured_limits(make, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with server() as target, make(**BOUNDS) as session:
        assert await get(session, target.make_url("/end")) == (200, "here")
        assert session.timeout == aiohttp.ClientTimeout(total=None, sock_connect=3.0, sock_read=None)
        assert session.connector.limit == 4
        assert session.auto_decompress is (make is api_session)
