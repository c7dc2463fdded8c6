"""List the deliveries of a simulated account and plan their files, on real sockets."""

import asyncio
from collections import Counter
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from bulkdl.errors import ApiError
from bulkdl.http.rate_limit import Cooldown, OriginRateLimiters
from bulkdl.http.retry import RetryPolicy
from bulkdl.http.sessions import api_session
from bulkdl.listings import UnreadableContainer
from bulkdl.models import Reason
from bulkdl.settings import Settings
from bulkdl.simulator import Faults, SimulatedAccount, Simulator, SimulatorOptions
from bulkdl.simulator.v2.deliveries import StorageOptions
from bulkdl.sources.transport import RequestPolicy
from bulkdl.sources.up42_common.auth import TokenSource
from bulkdl.sources.up42_common.credentials import Account
from bulkdl.sources.up42_storage.account_listing import AccountListing
from bulkdl.sources.up42_storage.client import StorageClient
from bulkdl.sources.up42_storage.containers import asset_id_of_container
from bulkdl.sources.up42_storage.delivery_listing import DeliveryLister
from bulkdl.sources.up42_storage.paths import ApiUrls
from bulkdl.sources.up42_storage.spec import KINDS

ALL_KINDS = frozenset(KINDS)


@asynccontextmanager
async def connected(account=None, *, faults=None, password=None, page_size=7, **options):
    """Yield a simulator and a client that is connected to it."""
    simulator = Simulator(account or SimulatedAccount(), SimulatorOptions(**options), faults=faults)
    async with simulator, api_session(user_agent="bulkdl/test", connect_timeout_s=5, limit=20) as session:
        settings = Settings(api_url=simulator.api_url)
        policy = RequestPolicy(OriginRateLimiters(0, 0), Cooldown(), RetryPolicy(max_attempts=3, base_s=0.01))
        username, right_password = simulator.account_credentials
        credentials = Account(username, SecretStr(password or right_password))
        tokens = TokenSource(
            session, settings.account_token_endpoint, credentials, policy, client_id=settings.client_id
        )
        yield simulator, StorageClient(session, simulator.api_url, tokens, policy, page_size=page_size)


async def list_all(client, workspace_id=None):
    async with aclosing(AccountListing(client, workspace_id).containers()) as entries:
        return [entry async for entry in entries]


async def list_until_failure(client):
    """Return the entries up to the failure, and the failure."""
    found = []
    try:
        async with aclosing(AccountListing(client).containers()) as entries:
            async for entry in entries:
                found.append(entry)  # noqa: PERF401 - the iteration can fail
    except ApiError as failure:
        return found, failure
    raise AssertionError("the listing did not fail")


async def plan_all(simulator, client):
    """Return the paths of all planned files: (workspace, collection or None, item, asset ID, kind) → path."""
    lister = DeliveryLister(client, ApiUrls(simulator.api_url))
    planned = {}
    for container in await list_all(client):
        listing = await lister.list_delivery(container, ALL_KINDS)
        collection_id = None if asset_id_of_container(container.ref) else container.ref.id
        assert not listing.problems
        for file in listing.files:
            key = (container.ref.scope, collection_id, file.item_id, file.asset_id, file.name)
            assert key not in planned
            planned[key] = file.path
    return planned


def expected_places(simulator):
    """Count the places of each file as the simulator lists them."""
    return Counter(
        (file.workspace_id, file.collection_id, place.item_id or "", file.asset_id)
        for file in simulator.expected_files()
        for place in file.places
    )


@pytest.mark.parametrize("assets", [0, 1, 24, 60])
async def test_listing_plans_every_place_of_every_file_once(assets):
    account = SimulatedAccount(storage=StorageOptions(assets=assets))
    async with connected(account) as (simulator, client):
        planned = await plan_all(simulator, client)
        assert Counter(key[:4] for key in planned) == expected_places(simulator)
        foreign = set(simulator.foreign_hrefs())
        assert not {record.path for record in simulator.requests} & foreign


@pytest.mark.parametrize("page_size", [1, 2, 100])
async def test_listing_is_complete_for_any_page_size(page_size):
    async with connected(page_size=page_size) as (simulator, client):
        assert Counter(key[:4] for key in await plan_all(simulator, client)) == expected_places(simulator)


async def test_listing_paths_are_safe_and_distinct(tmp_path):
    account = SimulatedAccount(storage=StorageOptions(assets=60))
    async with connected(account) as (simulator, client):
        planned = await plan_all(simulator, client)
    distinct = {
        (scope, collection or asset, path.casefold())
        for (scope, collection, _, asset, _), path in planned.items()
    }
    assert len(distinct) == len(planned)
    for path in planned.values():
        assert (tmp_path / path).resolve().is_relative_to(tmp_path)
        assert path.isprintable()


async def test_listing_of_containers_has_their_values():
    async with connected() as (simulator, client):
        containers = {container.ref.id: container for container in await list_all(client)}
        for delivery in simulator.account.deliveries.iter_deliveries():
            if delivery.collection_id is None:
                continue
            container = containers[delivery.collection_id]
            assert container.ref.scope == delivery.workspace_id
            assert container.attributes.get("order") == delivery.order_id
            assert container.attributes.get("job") == delivery.job_id
            if delivery.original is not None:
                assert abs((container.created_at - delivery.created_at).total_seconds()) < 1


async def test_listing_of_one_workspace_has_only_its_deliveries():
    async with connected() as (_, client):
        everything = await list_all(client)
        workspaces = {container.ref.scope for container in everything}
        assert len(workspaces) > 1
        for workspace_id in workspaces:
            found = {container.ref for container in await list_all(client, workspace_id)}
            assert found == {entry.ref for entry in everything if entry.ref.scope == workspace_id}


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_listing_without_the_list_of_assets_uses_collections_alone(status):
    body = f'{{"title": "Gone", "status": {status}}}'
    faults = Faults.from_rules({"fault": "status", "status": status, "body": body, "endpoint": "assets"})
    async with connected() as (simulator, client):
        expected = {file.collection_id for file in simulator.expected_files()} - {None}
        simulator.faults = faults
        containers = await list_all(client)
        assert {container.ref.id for container in containers} >= expected
        assert not any(asset_id_of_container(container.ref) for container in containers)
        assert sum(record.endpoint == "assets" for record in simulator.requests) == 1


async def test_listing_that_loses_the_list_of_collections_yields_no_original_as_single():
    async with connected() as (simulator, client):
        body = '{"title": "No", "status": 403}'
        simulator.faults = Faults.from_rules(
            {"fault": "status", "status": 403, "body": body, "endpoint": "collections"}
        )
        found, failure = await list_until_failure(client)
        assert failure.reason is Reason.FORBIDDEN
        assert not [entry for entry in found if not isinstance(entry, UnreadableContainer)]


async def test_listing_that_loses_the_list_of_assets_reports_it_after_the_collections():
    async with connected() as (simulator, client):
        expected = {file.collection_id for file in simulator.expected_files()} - {None}
        simulator.faults = Faults.from_rules({"fault": "status", "status": 500, "endpoint": "assets"})
        found, failure = await list_until_failure(client)
        assert failure.reason is Reason.SERVER_ERROR
        assert {container.ref.id for container in found} >= expected


@pytest.mark.parametrize("endpoint", ["processing_jobs", "orders"])
async def test_listing_without_jobs_or_orders_is_complete(endpoint):
    async with connected() as (simulator, client):
        expected = {container.ref for container in await list_all(client)}
        simulator.faults = Faults.from_rules({"fault": "status", "status": 500, "endpoint": endpoint})
        assert {container.ref for container in await list_all(client)} == expected


async def test_listing_with_a_wrong_password_fails_once_without_the_password():
    async with connected(password="canary-password") as (simulator, client):
        with pytest.raises(ApiError) as caught:
            await list_all(client)
        assert caught.value.reason is Reason.CREDENTIALS
        assert "check the user name and the password" in caught.value.detail
        assert "canary" not in caught.value.detail
        assert len(simulator.requests) == 1


async def test_listing_stopped_early_ends_its_requests():
    account = SimulatedAccount(storage=StorageOptions(assets=2_000))
    async with connected(account, page_size=2) as (simulator, client):
        async with aclosing(AccountListing(client).containers()) as entries:
            async for _ in entries:
                break
        sent = len(simulator.requests)
        async with aclosing(client.order_pages()) as orders:
            await anext(orders)
        assert all(record.endpoint == "orders" for record in list(simulator.requests)[sent:])


async def test_listing_requests_no_items_one_collection_at_a_time():
    account = SimulatedAccount(storage=StorageOptions(assets=300))
    async with connected(account, page_size=100) as (simulator, client):
        lister = DeliveryLister(client, ApiUrls(simulator.api_url))
        containers = await list_all(client)
        limit = asyncio.Semaphore(16)

        async def list_one(container):
            async with limit:
                return await lister.list_delivery(container, ALL_KINDS)

        listings = await asyncio.gather(*map(list_one, containers))
        places = sum(len(listing.files) for listing in listings)
        assert places == sum(expected_places(simulator).values())
        requests = Counter(record.endpoint for record in simulator.requests)
        collections = [listing for listing in listings if "collection.json" in listing.documents]
        empty = sum(not any("/" in path for path in listing.documents) for listing in collections)
        assert requests["search"] < len(containers) / 4
        assert requests["items"] <= empty


async def test_listing_with_a_server_that_rejects_the_search_requests_each_collection():
    async with connected() as (simulator, client):
        body = '{"title": "Bad Request", "status": 400}'
        simulator.faults = Faults.from_rules(
            {"fault": "status", "status": 400, "body": body, "endpoint": "search"}
        )
        assert Counter(key[:4] for key in await plan_all(simulator, client)) == expected_places(simulator)
        assert sum(record.endpoint == "search" for record in simulator.requests) == 1


async def test_listing_of_a_container_from_the_ledger_requests_its_documents():
    async with connected() as (simulator, client):
        lister = DeliveryLister(client, ApiUrls(simulator.api_url))
        for container in await list_all(client):
            listed = await lister.list_delivery(container, ALL_KINDS)
            stored = replace(container, document={}, attributes={})
            assert (await lister.list_delivery(stored, ALL_KINDS)).files == listed.files


async def test_listing_of_originals_alone_requests_no_items():
    async with connected() as (simulator, client):
        lister = DeliveryLister(client, ApiUrls(simulator.api_url))
        found = set()
        for container in await list_all(client):
            listing = await lister.list_delivery(container, frozenset({"original"}))
            found |= {file.asset_id for file in listing.files if file.kind == "original"}
        assert found == {file.asset_id for file in simulator.expected_files() if file.is_original}
        listed = [record for record in simulator.requests if record.endpoint in ("search", "items")]
        assert len(listed) <= 6  # only for collections without an original


async def test_listing_uses_the_name_of_the_signed_url_only_without_another_name():
    async with connected() as (simulator, client):
        planned = await plan_all(simulator, client)
        without = [
            (asset, path)
            for (_, _, item, asset, _), path in planned.items()
            if not item and Path(path).stem == asset
        ]
        assert not without, "the asset ID is the last resort"
        signed = [record for record in simulator.requests if record.endpoint == "download_url"]
        deliveries = simulator.account.deliveries.iter_deliveries()
        assert len(signed) <= sum(not delivery.name for delivery in deliveries)
