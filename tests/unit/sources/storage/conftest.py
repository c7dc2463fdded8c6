"""Client of today's API on a mocked API, with a simulated clock."""

import aiohttp
import pytest
from aioresponses import aioresponses
from pydantic import SecretStr

from bulkdl.http.rate_limit import Cooldown, OriginRateLimiters
from bulkdl.http.retry import RetryPolicy
from bulkdl.sources.transport import RequestPolicy
from bulkdl.sources.up42_common.auth import TokenSource
from bulkdl.sources.up42_common.credentials import Account
from bulkdl.sources.up42_storage.client import StorageClient

API = "https://api.example"
TOKEN_URL = f"{API}/realms/public/protocol/openid-connect/token"


class StorageKit:
    """Creates clients for one mocked API and reports the requests."""

    def __init__(self, api, session, timeline):
        self.api, self.session, self.timeline = api, session, timeline
        cooldown = Cooldown(clock=timeline.clock, sleep=timeline.sleep, rand=lambda: 0.0)
        rate_limiters = OriginRateLimiters(100, 500, clock=timeline.clock, sleep=timeline.sleep)
        policy = RetryPolicy(max_attempts=3, base_s=1.0, cap_s=8.0)
        self.request_policy = RequestPolicy(rate_limiters, cooldown, policy, lambda: 1.0, timeline.sleep)

    def client(self, **options):
        tokens = TokenSource(
            self.session,
            TOKEN_URL,
            Account("me@example.com", SecretStr("p&w")),
            self.request_policy,
            client_id="up42-api",
            clock=self.timeline.clock,
        )
        return StorageClient(self.session, API, tokens, self.request_policy, **options)

    def sent(self, method):
        """The path and query of the requests with *method*, and their keyword arguments."""
        return [
            (url.raw_path_qs, call.kwargs)
            for (verb, url), calls in self.api.requests.items()
            if verb == method
            for call in calls
        ]


@pytest.fixture
async def storage_kit(timeline):
    with aioresponses() as api:
        api.post(TOKEN_URL, payload={"access_token": "T1", "expires_in": 300}, repeat=True)
        async with aiohttp.ClientSession() as session:
            yield StorageKit(api, session, timeline)
