import aiohttp
import pytest
from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.http.sessions import api_session, storage_session
from bulkdl.models import Reason
from support.http_servers import BEARER, BOUNDS, get, server, tls_client, tls_server


async def test_authorization_is_dropped_when_a_redirect_leaves_the_origin():
    async with (
        server() as other,
        server(redirect_to=other.make_url("/end")) as first,
        api_session(**BOUNDS) as session,
    ):
        assert await get(session, first.make_url("/go"), headers=BEARER) == (200, "here")
        assert first.seen[0].headers["Authorization"] == "Bearer canary"
        assert "Authorization" not in other.seen[0].headers


async def test_authorization_stays_within_the_origin():
    async with server(redirect_to="/end") as only, api_session(**BOUNDS) as session:
        await get(session, only.make_url("/go"), headers=BEARER)
        assert [request.headers.get("Authorization") for request in only.seen] == ["Bearer canary"] * 2


@pytest.mark.parametrize("make", [api_session, storage_session])
async def test_a_redirect_that_gives_up_tls_is_not_followed(make):
    async with (
        server() as plain,
        server(plain.make_url("/end"), tls=tls_server()) as first,
        make(**BOUNDS) as session,
    ):
        with pytest.raises(ApiError) as caught:
            await get(session, first.make_url("/go"), headers=BEARER, ssl=tls_client())
        assert caught.value.reason is Reason.INSECURE_URL
        assert plain.seen == []


async def test_it_is_followed_where_that_is_allowed():
    async with (
        server() as plain,
        server(plain.make_url("/end"), tls=tls_server()) as first,
        api_session(**BOUNDS, allow_http=True) as session,
    ):
        assert await get(session, first.make_url("/go"), ssl=tls_client()) == (200, "here")


@pytest.mark.parametrize("make", [api_session, storage_session])
async def test_an_unknown_certificate_is_refused(make):
    async with server(tls=tls_server()) as only, make(**BOUNDS) as session:
        with pytest.raises(ApiError) as caught:
            await get(session, only.make_url("/end"))
        assert caught.value.reason is Reason.TLS


@pytest.mark.parametrize("location", ["ftp://x/y", "http://", "http://[::1", "http://a[x]@"])
async def test_a_redirect_to_nowhere_is_a_bad_answer(location):
    async with server(redirect_to=location) as only, api_session(**BOUNDS) as session:
        with pytest.raises(ApiError) as caught:
            await get(session, only.make_url("/go"))
        assert caught.value.reason is Reason.INVALID_RESPONSE


async def test_the_target_of_a_redirect_goes_out_as_it_was_signed():
    signed = "/end?GoogleAccessId=a@b&Expires=1&Signature=a%2Fb%2Bc%3D%3D"
    async with server(redirect_to=signed) as only, api_session(**BOUNDS) as session:
        await get(session, only.make_url("/go"))
        assert only.seen[1].raw_path == signed


async def test_a_signed_url_goes_out_as_it_came():
    async with server() as only, storage_session(**BOUNDS) as session:
        signed = f"{only.make_url('/end')}?GoogleAccessId=a@b&Expires=1&Signature=a%2Fb%2Bc%3D%3D"
        await get(session, URL(signed, encoded=True))
        assert str(only.make_url("")).rstrip("/") + only.seen[0].raw_path == signed


async def test_what_the_two_sessions_say_of_themselves():
    async with server() as only, api_session(**BOUNDS) as api, storage_session(**BOUNDS) as storage:
        for session in (api, storage, api, storage):
            await get(session, only.make_url("/end"))
        assert {request.headers["User-Agent"] for request in only.seen} == {"bulkdl/test"}
        assert only.seen[1].headers["Accept-Encoding"] == "identity"
        assert not any(
            "Cookie" in request.headers or "Authorization" in request.headers for request in only.seen
        )


@pytest.mark.parametrize("make", [api_session, storage_session])
async def test_how_the_sessions_are_bounded(make, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with server() as only, make(**BOUNDS) as session:
        assert await get(session, only.make_url("/end")) == (200, "here")
        assert session.timeout == aiohttp.ClientTimeout(total=None, sock_connect=3.0, sock_read=None)
        assert session.connector.limit == 4
        assert session.auto_decompress is (make is api_session)
