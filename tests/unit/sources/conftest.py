"""Token source and client on a mocked API, with a simulated clock."""

import aiohttp
import pytest
from aioresponses import aioresponses
from pydantic import SecretStr

from bulkdl.http.rate_limit import Cooldown, OriginRateLimiters
from bulkdl.http.retry import RetryPolicy
from bulkdl.sources.transport import RequestPolicy
from bulkdl.sources.up42_common.auth import TokenSource
from bulkdl.sources.up42_common.credentials import ProjectKey
from bulkdl.sources.up42_jobs.client import Client

API = "https://api.example"
TOKEN_URL = f"{API}/oauth/token"
KEY = "abcdEFGH.canary0123456789012345678901234567"


class Kit:
    """Creates token sources and clients for one mocked API."""

    def __init__(self, api, session, timeline):
        self.api, self.session, self.timeline = api, session, timeline
        self.policy = RetryPolicy(max_attempts=4, base_s=1.0, cap_s=8.0)
        self.cooldown = Cooldown(clock=timeline.clock, sleep=timeline.sleep, rand=lambda: 0.0)
        rate_limiters = OriginRateLimiters(100, 500, clock=timeline.clock, sleep=timeline.sleep)
        self.request_policy = RequestPolicy(
            rate_limiters, self.cooldown, self.policy, lambda: 1.0, timeline.sleep
        )

    def tokens(self, credentials=None, token_url=TOKEN_URL, **options):
        credentials = credentials or ProjectKey("p1", SecretStr(KEY))
        return TokenSource(
            self.session, token_url, credentials, self.request_policy, clock=self.timeline.clock, **options
        )

    def client(self, tokens=None, api_url=API, **options):
        return Client(self.session, api_url, tokens or self.tokens(), self.request_policy, **options)

    def grant(self, *tokens, **fields):
        for token in tokens:
            self.api.post(
                TOKEN_URL, payload={"data": {"accessToken": token}, "access_token": token, **fields}
            )

    def requests(self, method="GET"):
        """The requests made so far: ``(path and query, headers)``."""
        return [
            (url.raw_path_qs, call.kwargs["headers"])
            for (verb, url), calls in self.api.requests.items()
            if verb == method
            for call in calls
        ]


@pytest.fixture
async def kit(timeline):
    with aioresponses() as api:
        async with aiohttp.ClientSession() as session:
            yield Kit(api, session, timeline)
