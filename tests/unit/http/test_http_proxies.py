import pytest
from yarl import URL

from bulkdl.errors import ApiError, ConfigError
from bulkdl.http.proxies import DIRECT, Proxies, is_bypassed, resolve_proxies
from bulkdl.http.sessions import api_session, storage_session
from bulkdl.models import Reason
from bulkdl.settings.proxy import OFF, Proxy, parse_proxy
from support.connect_proxy import ConnectProxy
from support.http_servers import BEARER, BOUNDS, get, server, tls_client, tls_server

MAKERS = pytest.mark.parametrize("make", [api_session, storage_session])
SCHEMES = pytest.mark.parametrize("scheme", ["http", "https"])


def through(text, *no_proxy):
    return Proxies(dict.fromkeys(("http", "https"), parse_proxy(text)), no_proxy)


def target_server(scheme, **options):
    return server(tls=tls_server() if scheme == "https" else None, **options)


@MAKERS
@SCHEMES
async def test_session_with_a_proxy_sends_every_request_through_it(make, scheme):
    async with (
        ConnectProxy().serving() as relay,
        target_server(scheme) as target,
        make(**BOUNDS, proxies=through(relay.url())) as session,
    ):
        response = await get(session, target.make_url("/end"), headers=BEARER, ssl=tls_client())
        assert response == (200, "here")
        assert target.seen[0].headers["Authorization"] == "Bearer canary"
        assert "Proxy-Authorization" not in target.seen[0].headers
        [(method, requested)] = relay.requests
        assert method == ("CONNECT" if scheme == "https" else "GET")
        assert requested in (f"127.0.0.1:{target.port}", str(target.make_url("/end")))


@SCHEMES
async def test_session_with_proxy_credentials_sends_them_decoded(scheme):
    async with (
        ConnectProxy("me:pä@ss").serving() as relay,
        target_server(scheme) as target,
        api_session(**BOUNDS, proxies=through(relay.url("me:p%C3%A4%40ss"))) as session,
    ):
        for _ in range(2):  # the second request uses the open connection
            assert await get(session, target.make_url("/end"), ssl=tls_client()) == (200, "here")


@SCHEMES
async def test_session_with_wrong_proxy_credentials_fails_without_showing_them(scheme):
    async with (
        ConnectProxy("me:right").serving() as relay,
        target_server(scheme) as target,
        api_session(**BOUNDS, proxies=through(relay.url("me:canary"))) as session,
    ):
        with pytest.raises(ApiError) as caught:
            await get(session, target.make_url("/end"), ssl=tls_client())
        assert caught.value.reason is Reason.REJECTED
        assert f"the proxy {relay.place} refused the request (HTTP 407)" in caught.value.detail
        assert "canary" not in caught.value.detail
        assert target.seen == []


@pytest.mark.parametrize(("status", "reason"), [(403, Reason.REJECTED), (502, Reason.UNREACHABLE)])
async def test_session_with_a_refused_tunnel_reports_the_proxy(status, reason):
    async with (
        ConnectProxy(refusal=status).serving() as relay,
        target_server("https") as target,
        api_session(**BOUNDS, proxies=through(relay.url())) as session,
    ):
        with pytest.raises(ApiError) as caught:
            await get(session, target.make_url("/end"))
        assert caught.value.reason is reason
        assert relay.place in caught.value.detail
        assert str(status) in caught.value.detail


@SCHEMES
async def test_session_with_an_unreachable_proxy_reports_the_proxy(scheme, unused_tcp_port):
    proxies = through(f"http://me:canary@127.0.0.1:{unused_tcp_port}")
    async with target_server(scheme) as target, api_session(**BOUNDS, proxies=proxies) as session:
        with pytest.raises(ApiError) as caught:
            await get(session, target.make_url("/end"))
        assert caught.value.reason is Reason.UNREACHABLE
        assert f"through the proxy 127.0.0.1:{unused_tcp_port}" in caught.value.detail
        assert "canary" not in caught.value.detail


async def test_redirect_to_a_host_in_no_proxy_connects_directly():
    async with (
        ConnectProxy().serving() as relay,
        server() as end,
        server(redirect_to=URL(f"http://localhost:{end.port}/end")) as first,
        api_session(**BOUNDS, proxies=through(relay.url(), "127.0.0.1")) as session,
    ):
        assert await get(session, first.make_url("/go")) == (200, "here")
        assert relay.requests == [("GET", f"http://localhost:{end.port}/end")]


async def test_session_without_proxies_connects_directly(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with server() as target, api_session(**BOUNDS, proxies=DIRECT) as session:
        assert await get(session, target.make_url("/end")) == (200, "here")


P1, P2 = Proxy("http", "one", 1), Proxy("http", "two", 2)


@pytest.mark.parametrize(
    ("env", "by_scheme"),
    [
        ({}, {}),
        ({"HTTPS_PROXY": "http://one:1"}, {"https": P1}),
        ({"http_proxy": "one:1"}, {"http": P1}),
        ({"https_proxy": "one:1", "HTTPS_PROXY": "two:2"}, {"https": P1}),
        ({"https_proxy": " ", "HTTPS_PROXY": "two:2"}, {"https": P2}),
        ({"ALL_PROXY": "one:1"}, {"http": P1, "https": P1}),
        ({"ALL_PROXY": "one:1", "HTTP_PROXY": "two:2"}, {"http": P2, "https": P1}),
        ({"ALL_PROXY": "one:1", "HTTP_PROXY": "off"}, {"https": P1}),
    ],
)
def test_resolve_proxies_reads_the_variables_in_either_case(env, by_scheme):
    assert resolve_proxies(None, env).by_scheme == by_scheme


def test_resolve_proxies_with_a_setting_ignores_the_variables():
    env = {"HTTPS_PROXY": "two:2", "NO_PROXY": "a.example, .B.example"}
    assert resolve_proxies(P1, env) == Proxies({"http": P1, "https": P1}, ("a.example", ".b.example"))
    assert resolve_proxies(OFF, env) == DIRECT


@pytest.mark.parametrize("text", ["socks5://me:canary@one:1", "http://me:canary@one:port"])
def test_resolve_proxies_with_an_invalid_variable_reports_its_name(text):
    with pytest.raises(ConfigError, match="HTTPS_PROXY: expected http://") as caught:
        resolve_proxies(None, {"HTTPS_PROXY": text})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "host", "port", "bypassed"),
    [
        ("*", "api.up42.com", 443, True),
        ("up42.com", "api.up42.com", 443, True),
        (".up42.com", "api.up42.com", 443, True),
        ("up42.com", "up42.com", 443, True),
        ("up42.com", "notup42.com", 443, False),
        ("API.UP42.COM", "api.up42.com", 443, False),  # entries are in lower case already
        ("up42.com:443", "api.up42.com", 443, True),
        ("up42.com:80", "api.up42.com", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("[::1]:8080", "::1", 8080, True),
        ("::1", "::1", 8080, True),
        ("fd00::/8", "fd12::1", 80, True),
        ("localhost", "127.0.0.1", 80, False),
        ("", "127.0.0.1", 80, False),
        ("a b 127.0.0.1", "127.0.0.1", 80, True),
    ],
)
def test_is_bypassed_matches_hosts_networks_and_ports(entries, host, port, bypassed):
    assert is_bypassed(host, port, tuple(entries.split())) is bypassed


def test_proxies_repr_hides_credentials():
    assert "canary" not in repr(through("http://me:canary@one:1"))
