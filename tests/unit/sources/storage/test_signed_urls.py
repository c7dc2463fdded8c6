from datetime import UTC, datetime

import pytest

from bulkdl.sources.up42_storage.signed_urls import MAX_KEPT_URLS, SignedUrls

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NOW_S = int(NOW.timestamp())


class NumberedUrls:
    """Signs a new URL for each request. *query* has the expiry of all URLs."""

    def __init__(self, query):
        self.query = query
        self.count = 0

    async def sign(self, asset_id):
        self.count += 1
        return f"https://storage.example/assets/{asset_id}?{self.query}&Signature={self.count}"


def signed_urls(query):
    client = NumberedUrls(query)
    return client, SignedUrls(client, clock=lambda: NOW)


async def test_request_returns_the_early_url_once():
    client, urls = signed_urls(f"Expires={NOW_S + 300}")
    early = await urls.request_early("a")
    assert await urls.request("a") == early
    assert client.count == 1
    assert await urls.request("a") != early
    assert client.count == 2


async def test_request_of_another_asset_signs_it():
    client, urls = signed_urls(f"Expires={NOW_S + 300}")
    await urls.request_early("a")
    assert "/assets/b?" in await urls.request("b")
    assert client.count == 2


@pytest.mark.parametrize(
    "query",
    [
        f"Expires={NOW_S - 1}",
        f"Expires={NOW_S + 5}",
        "Expires=soon",
        "X-Goog-Date=20260531T230000Z&X-Goog-Expires=300",
        "token=x",
    ],
)
async def test_request_discards_an_early_url_that_may_expire_before_the_download(query):
    client, urls = signed_urls(query)
    early = await urls.request_early("a")
    assert await urls.request("a") != early
    assert client.count == 2


async def test_request_early_keeps_a_limited_number_of_urls():
    client, urls = signed_urls(f"Expires={NOW_S + 300}")
    for number in range(MAX_KEPT_URLS + 1):
        await urls.request_early(str(number))
    await urls.request("1")
    assert client.count == MAX_KEPT_URLS + 1
    await urls.request("0")
    assert client.count == MAX_KEPT_URLS + 2
