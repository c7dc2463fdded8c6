"""The sources of one run share a rate limit if they use the same API origin, and only then."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

from pydantic import SecretStr
from yarl import URL

from bulkdl.settings import Settings
from bulkdl.simulator import SimulatedAccount, Simulator
from bulkdl.sources.sessions import SessionOptions, Sessions, SharedLimits
from bulkdl.sources.up42_common.auth import TokenSource
from bulkdl.sources.up42_common.credentials import Account, ProjectKey
from bulkdl.sources.up42_common.json_client import JsonClient
from support.idle import wait_until_idle

BURST = 4  # requests; the next request would have to wait for 1000 seconds
ENDPOINTS = {"jobs": "/projects/{project}/jobs", "storage": "/v2/orders"}
TIMEOUT_S = 60


class ApiUser:
    """Requests a list of one source, like the source itself."""

    def __init__(self, source, simulator, sessions, settings):
        project = simulator.projects[0]
        if source == "jobs":
            credentials, token_url = (
                ProjectKey(project.id, SecretStr(project.api_key)),
                settings.token_endpoint,
            )
        else:
            username, password = simulator.account_credentials
            credentials = Account(username, SecretStr(password))
            token_url = settings.account_token_endpoint
        tokens = TokenSource(
            sessions.api, token_url, credentials, sessions.request_policy, client_id=settings.client_id
        )
        self._client = JsonClient(sessions.api, tokens, sessions.request_policy, limit_bytes=1 << 20)
        self._url = URL(simulator.api_url + ENDPOINTS[source].format(project=project.id))

    async def request(self, count):
        async with asyncio.timeout(TIMEOUT_S):
            for _ in range(count):
                await self._client.request("GET", self._url, lambda document, _label: document)


@asynccontextmanager
async def run_of(sources):
    """Yield a user for each of *sources*, which names the simulator of each source."""
    async with AsyncExitStack() as stack:
        shared, users = None, {}
        for source, simulator in sources.items():
            settings = Settings(api_url=simulator.api_url, rate=0.001, burst=BURST)
            shared = shared or SharedLimits(settings)
            options = SessionOptions(5, lambda _session: None)
            sessions = await stack.enter_async_context(Sessions(settings, options, options, shared))
            users[source] = ApiUser(source, simulator, sessions, settings)
        yield users


async def is_delayed(request):
    """Return whether the rate limit delays *request*, which is cancelled then."""
    task = asyncio.ensure_future(request)
    await wait_until_idle()
    is_waiting = not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return is_waiting


async def test_sources_with_two_api_origins_have_a_rate_limit_each():
    async with (
        Simulator(SimulatedAccount()) as old,
        Simulator(SimulatedAccount()) as today,
        run_of({"jobs": old, "storage": today}) as users,
    ):
        await users["jobs"].request(BURST - 1)  # and the token
        assert await is_delayed(users["jobs"].request(1))
        await users["storage"].request(BURST - 1)
        assert await is_delayed(users["storage"].request(1))
        assert [len(simulator.requests) for simulator in (old, today)] == [BURST, BURST]


async def test_sources_with_one_api_origin_share_its_rate_limit():
    async with Simulator(SimulatedAccount()) as both, run_of({"jobs": both, "storage": both}) as users:
        await users["jobs"].request(1)
        await users["storage"].request(1)
        assert len(both.requests) == BURST  # with the tokens
        assert await is_delayed(users["jobs"].request(1))
        assert await is_delayed(users["storage"].request(1))
        assert len(both.requests) == BURST
