"""Test the command line with a proxy: the variables are used, and credentials are not shown."""

import asyncio
import os
import sys

import pytest

from bulkdl.simulator import SimulatedAccount, Simulator
from bulkdl.simulator.v2.deliveries import StorageOptions
from support.connect_proxy import ConnectProxy
from support.raw_origin import PROJECT, RawOrigin
from support.storage_account import StorageAccount

QUICK = {"BULKDL_RETRIES": "1", "BULKDL_RETRY_BASE_DELAY": "0.01", "BULKDL_RETRY_MAX_DELAY": "0.02"}


async def bulkdl(*words, **variables):
    """Run the command with the proxies in *variables*. Return its exit code and its output."""
    plain = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bulkdl", *words),
        env={**plain, **QUICK, "UP42_PROJECT_ID": PROJECT, "UP42_PROJECT_API_KEY": "key"} | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    written, _ = await process.communicate()
    return process.returncode, written.decode()


async def run(origin, root, *words, **variables):
    return await bulkdl("run", "-o", str(root), "--api-url", origin.url, "-vv", *words, **variables)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "BULKDL_PROXY", "flag"])
async def test_run_with_a_proxy_sends_api_token_and_storage_requests_through_it(tmp_path, name):
    async with RawOrigin().serve() as origin, ConnectProxy("me:canary").serving() as relay:
        url = relay.url("me:canary")
        words, variables = (["--proxy", url], {}) if name == "flag" else ([], {name: url})
        code, written = await run(origin, tmp_path, *words, **variables)
        assert code == 0, written
        assert len(relay.requests) == len(origin.requests)
        assert {place for place, _ in origin.requests} >= {"token", "jobs", "archive", "quicklook", "geojson"}
        assert "proxy.used" in written
        assert relay.place in written
        assert "canary" not in written
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or b"canary" not in path.read_bytes(), path


async def test_storage_run_with_a_proxy_sends_login_api_and_storage_requests_through_it(tmp_path):
    simulated = SimulatedAccount(storage=StorageOptions(assets=3))
    async with Simulator(simulated) as simulator, ConnectProxy("me:canary").serving() as relay:
        account = StorageAccount(tmp_path, simulator)
        result = await account.run(HTTP_PROXY=relay.url("me:canary"))
        assert result.code == 0, result
        assert account.missing_files() == []
        assert len(relay.requests) == len(simulator.requests)
        assert set(account.count_requests()) >= {"login", "assets", "search", "download_url", "object"}
        assert "canary" not in result.out + result.err


async def test_run_with_no_proxy_or_off_connects_directly(tmp_path):
    async with RawOrigin().serve() as origin, ConnectProxy().serving() as relay:
        environment = {"HTTP_PROXY": relay.url()}
        for number, more in enumerate(({"NO_PROXY": "127.0.0.1"}, {"BULKDL_PROXY": "off"})):
            code, written = await run(origin, tmp_path / str(number), **environment, **more)
            assert code == 0, written
        assert relay.requests == []


async def test_run_rejected_by_the_proxy_names_it_without_credentials(tmp_path):
    async with RawOrigin().serve() as origin, ConnectProxy("me:right").serving() as relay:
        code, written = await run(origin, tmp_path, HTTP_PROXY=relay.url("me:canary"))
        assert code == 3, written
        assert f"the proxy {relay.place} refused the request (HTTP 407)" in written
        assert "canary" not in written
        assert origin.requests == []


async def test_run_with_an_unreachable_proxy_names_it_without_credentials(tmp_path, unused_tcp_port):
    async with RawOrigin().serve() as origin:
        url = f"http://me:canary@127.0.0.1:{unused_tcp_port}"
        code, written = await run(origin, tmp_path, HTTP_PROXY=url)
        assert code == 5, written
        assert f"the proxy 127.0.0.1:{unused_tcp_port}" in written
        assert "canary" not in written


async def test_run_with_a_proxy_variable_of_another_kind_is_a_usage_error(tmp_path):
    async with RawOrigin().serve() as origin:
        code, written = await run(origin, tmp_path, HTTPS_PROXY="socks5://me:canary@127.0.0.1:1")
        assert (code, "HTTPS_PROXY" in written, "canary" in written) == (2, True, False), written


@pytest.mark.parametrize("words", [(), ("--format", "json")])
async def test_config_shows_the_proxy_without_credentials(words):
    code, written = await bulkdl("config", *words, BULKDL_PROXY="http://me:canary@proxy.example:3128")
    assert code == 0
    assert "http://***@proxy.example:3128" in written
    assert "canary" not in written
