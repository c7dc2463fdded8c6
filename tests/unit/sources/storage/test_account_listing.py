import asyncio
from contextlib import aclosing

import pytest
from aioresponses import CallbackResult

from bulkdl.errors import ApiError
from bulkdl.sources.up42_storage.account_listing import AccountListing

API = "https://api.example"
STAC = f"{API}/v2/assets/stac"


def asset_id(number):
    return f"0b6f0000-0000-4000-8000-{number:012}"


def collection(name, number):
    """A STAC collection whose original is the asset *number*."""
    assets = {"original": {"href": f"{API}/v2/assets/{asset_id(number)}", "roles": ["original"]}}
    return {"id": name, "up42-system:asset_id": asset_id(number), "assets": assets}


def page_of_assets(*numbers, total_pages):
    entries = [{"id": asset_id(number), "createdAt": "2024-01-01T00:00:00Z"} for number in numbers]
    return {"content": entries, "totalPages": total_pages}


@pytest.fixture
def account(storage_kit):
    """The mocked account: no jobs, no orders, and the collections and pages of assets that a test adds."""

    class MockedAccount:
        api = storage_kit.api

        def add_collections(self, *collections):
            self.api.get(f"{STAC}/collections?limit=2", payload={"collections": collections, "links": []})

        def add_assets(self, page, *numbers, total_pages, **options):
            url = f"{API}/v2/assets?sort=createdAt,asc&size=2&page={page}"
            options = options or {"payload": page_of_assets(*numbers, total_pages=total_pages)}
            self.api.get(url, **options)

        def listing(self):
            return AccountListing(storage_kit.client(page_size=2))

    storage_kit.api.get(f"{API}/v2/processing/jobs?limit=2&sort=created,desc", payload={"jobs": []})
    orders = f"{API}/v2/orders?sort=createdAt,asc&size=2&page=0"
    storage_kit.api.get(orders, payload={"content": [], "totalPages": 0})
    return MockedAccount()


async def test_listing_yields_a_collection_of_the_oldest_page_before_the_other_pages(account):
    is_open = asyncio.Event()

    async def wait_until_open(_url, **_kwargs):
        await is_open.wait()
        return CallbackResult(payload=page_of_assets(3, total_pages=2))

    account.add_assets(0, 1, 2, total_pages=2)
    account.add_assets(1, total_pages=2, callback=wait_until_open)
    account.add_assets(0, 1, 2, total_pages=2)
    account.add_collections(collection("new", 3), collection("old", 1))
    async with aclosing(account.listing().containers()) as containers:
        first = await anext(containers)
        assert first.ref.id == "old"
        assert first.attributes["asset"] == asset_id(1)
        is_open.set()
        assert [container.ref.id async for container in containers] == ["new", f"asset-{asset_id(2)}"]


async def test_listing_does_not_yield_an_original_that_was_deleted_meanwhile(account):
    account.add_assets(0, 1, 2, total_pages=2)
    account.add_assets(1, 3, total_pages=2)
    account.add_assets(0, 2, 3, total_pages=1)
    account.add_collections()
    async with aclosing(account.listing().containers()) as containers:
        found = [container.ref.id async for container in containers]
    assert found == [f"asset-{asset_id(2)}", f"asset-{asset_id(3)}"]


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_listing_that_loses_a_page_of_assets_reports_it(account, status):
    account.add_assets(0, 1, 2, total_pages=2)
    account.add_assets(1, total_pages=2, status=status, payload={"title": "Gone", "status": status})
    account.add_collections(collection("old", 1))
    containers = account.listing().containers()
    async with aclosing(containers):
        assert (await anext(containers)).ref.id == "old"
        with pytest.raises(ApiError, match="Gone"):
            await anext(containers)


async def test_listing_without_an_original_in_the_list_waits_for_its_end(account):
    account.add_assets(0, 1, total_pages=1)
    account.add_collections(collection("unlisted", 9), collection("listed", 1))
    async with aclosing(account.listing().containers()) as containers:
        found = [(container.ref.id, container.attributes.get("asset")) async for container in containers]
    assert sorted(found) == [("listed", asset_id(1)), ("unlisted", None)]
