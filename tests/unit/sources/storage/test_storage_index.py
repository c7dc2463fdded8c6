import asyncio
import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from bulkdl.errors import ApiError
from bulkdl.models import Container, ContainerRef, Reason
from bulkdl.sources.up42_storage import decode
from bulkdl.sources.up42_storage.containers import is_settled, original_container
from bulkdl.sources.up42_storage.delivery_index import DeliveryIndex
from bulkdl.sources.up42_storage.delivery_listing import name_in_url
from bulkdl.sources.up42_storage.endpoints import API_ENDPOINTS, endpoint_label
from bulkdl.sources.up42_storage.item_search import ItemSearch
from bulkdl.sources.up42_storage.models import Item, Order, ProcessingJob, UnreadableEntry
from bulkdl.sources.up42_storage.paths import ApiUrls

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def original(identity, **fields):
    return decode.original({"id": identity, "createdAt": "2026-05-01T00:00:00Z", **fields}, "GET x")


@pytest.fixture
def index():
    index = DeliveryIndex()
    yield index
    index.close()


def test_index_returns_originals_as_they_were_added(index):
    index.add_originals([original("a1", name="x.zip", orderId="o1"), original("a2")])
    index.add_originals([original("a1", name="y.zip")])
    found = index.find_originals(["a1", "a3"])
    assert found == {"a1": original("a1", name="y.zip")}
    assert found["a1"].document["name"] == "y.zip"


def test_index_lists_uncollected_originals_in_pages(index):
    index.add_originals(original(f"a{number}") for number in range(10))
    assert index.add_collections(["c1", "c2"], ["a3", "a9"]) == {"c1", "c2"}
    assert index.add_collections(["c2", "c3"], []) == {"c3"}
    found, after = [], ""
    while page := index.find_uncollected(after, 3):
        found += [entry.id for entry in page]
        after = page[-1].id
    assert found == [f"a{number}" for number in range(10) if number not in (3, 9)]


def test_index_finds_origins_and_missing_results(index):
    index.add_jobs(
        [
            ProcessingJob("j1", "w", "p", "title", "SUCCESSFUL", NOW, "c1"),
            ProcessingJob("j2", "w", "p", "", "SUCCESSFUL", NOW, "c2"),
            ProcessingJob("j3", "w", "p", "", "FAILED", NOW, None),
        ]
    )
    index.add_orders([Order("o1", "w", "harbour", "FULFILLED", None)])
    index.add_collections(["c1"], [])
    assert index.find_jobs(["c1", "c9"])["c1"].created_at == NOW
    assert index.find_orders(["o1"])["o1"].name == "harbour"
    assert [job.id for job in index.find_missing_results(10)] == ["j2"]


@pytest.mark.parametrize(
    ("extraction", "status", "age_days", "expected"),
    [
        ("SUCCESSFUL", "FULFILLED", 0, True),
        ("FAILED", "", 0, True),
        ("SUCCESSFUL", "BEING_FULFILLED", 0, False),
        ("SUCCESSFUL", "BEING_FULFILLED", 30, True),
        ("NOT_PROCESSED", "", 0, False),
        ("NOT_PROCESSED", "", 30, True),
        ("IN_PROGRESS", "", 30, False),
        ("", "", 0, False),
        ("", "", 30, True),
    ],
)
def test_is_settled_by_extraction_order_and_age(extraction, status, age_days, expected):
    container = Container(
        ContainerRef("storage", "w", "c"),
        status=status,
        is_final=True,
        revision="",
        created_at=NOW - timedelta(days=age_days),
        attributes={"extraction": extraction},
    )
    assert is_settled(container, NOW, timedelta(days=7)) is expected


def test_original_container_without_workspace_has_a_scope():
    container = original_container(original("a1"), None)
    assert container.ref == ContainerRef("storage", "unassigned", "asset-a1")


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("attachment%3B%20filename%3Dx.tiff", "x.tiff"),
        ("attachment%3B%20filename%3D%22a%20b.zip%22", "a b.zip"),
        ("attachment", ""),
        ("attachment%3B%20filename%2A%3DUTF-8%27%27x", ""),
    ],
)
def test_name_in_url_reads_the_disposition(disposition, name):
    url = f"https://s.example/assets/a?response-content-disposition={disposition}&Expires=1&Signature=s%3D"
    assert name_in_url(url) == name
    assert name_in_url("https://s.example/assets/a") == ""


def test_endpoint_labels_of_all_urls_are_known():
    urls = ApiUrls("https://api.example/base")
    requests = [
        (urls.originals(0, 5, {}), "assets"),
        (urls.original("a"), "asset"),
        (urls.download_url("a"), "sign"),
        (urls.collections({}), "collections"),
        (urls.collection("c"), "collection"),
        (urls.items("c", {}), "items"),
        (urls.search(), "search"),
        (urls.jobs({}), "processing_jobs"),
        (urls.job("j"), "processing_job"),
        (urls.orders(0, 5, {}), "orders"),
        (urls.order("o"), "order"),
    ]
    for url, label in requests:
        assert endpoint_label("GET", url) == label
    assert {label for _, label in requests} | {"token"} == set(API_ENDPOINTS)
    assert endpoint_label("GET", urls.search().with_path("/x")) == "other"


class ScriptedClient:
    """The part of the client that lists items. *searches* are the results of the next searches."""

    def __init__(self, items, failures=()):
        self.items_by_collection, self.failures = items, list(failures)
        self.searched, self.listed = [], []
        self.open, self.is_searching = asyncio.Event(), asyncio.Event()

    async def search_items(self, ids):
        self.searched.append(sorted(ids))
        self.is_searching.set()
        await self.open.wait()
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        for identity in ids:
            for item in self.items_by_collection.get(identity, ()):
                yield item

    async def items(self, collection_id):
        self.listed.append(collection_id)
        for item in self.items_by_collection.get(collection_id, ()):
            yield item


def item(identity, collection_id):
    return Item(identity, collection_id, "w", None, None, ())


async def test_search_collects_the_collections_that_wait():
    client = ScriptedClient({f"c{number}": [item("i", f"c{number}")] for number in range(5)})
    search = ItemSearch(client)
    tasks = [asyncio.ensure_future(search.items(f"c{number}")) for number in range(5)]
    await client.is_searching.wait()
    client.open.set()
    results = await asyncio.gather(*tasks)
    assert [list(result.items) for result in results] == [["i"]] * 5
    assert client.searched == [["c0"], ["c1", "c2", "c3", "c4"]] or len(client.searched) <= 2
    assert client.listed == []


async def test_search_without_items_requests_the_collection_alone():
    client = ScriptedClient({})
    client.open.set()
    assert (await ItemSearch(client).items("c")).items == {}
    assert client.listed == ["c"]


async def test_search_that_fails_raises_and_the_next_caller_searches_again():
    failure = ApiError(Reason.SERVER_ERROR, "x")
    client = ScriptedClient({"c": [item("i", "c")]}, [failure])
    client.open.set()
    search = ItemSearch(client)
    with pytest.raises(ApiError):
        await search.items("c")
    assert list((await search.items("c")).items) == ["i"]


async def test_search_with_an_unreadable_item_lists_each_collection():
    client = ScriptedClient({"c": [item("i", "c"), UnreadableEntry("item", None, "bad")]})
    client.open.set()
    found = await ItemSearch(client).items("c")
    assert list(found.items) == ["i"]
    assert found.problems == ["bad"]


async def test_search_of_a_cancelled_caller_is_done_by_the_next_one():
    client = ScriptedClient({"c": [item("i", "c")], "d": [item("i", "d")]})
    search = ItemSearch(client)
    first, second = asyncio.ensure_future(search.items("c")), asyncio.ensure_future(search.items("d"))
    await client.is_searching.wait()
    first.cancel()
    client.open.set()
    assert list((await second).items) == ["i"]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_search_includes_announced_collections_and_keeps_their_results():
    names = [f"c{number:03}" for number in range(250)]
    client = ScriptedClient({name: [item("i", name)] for name in names})
    client.open.set()
    search = ItemSearch(client)
    search.announce(names)
    for name in names:
        assert list((await search.items(name)).items) == ["i"]
    assert [len(ids) for ids in client.searched] == [100, 100, 50]
    assert client.listed == []
    await search.items("c000")
    assert len(client.searched) == 4, "a result is used once"


async def test_search_with_too_many_items_is_repeated_with_fewer_collections():
    names = [f"c{number:02}" for number in range(40)]
    items = {name: [item(f"i{number}", name) for number in range(60)] for name in names}
    client = ScriptedClient(items)
    client.open.set()
    search = ItemSearch(client)
    search.announce(names)
    for name in names:
        assert len((await search.items(name)).items) == 60
    assert client.listed == []
    assert [len(ids) for ids in client.searched] == [40, 10, 10, 10, 10]


async def test_search_of_one_large_collection_has_no_limit_below_that_of_a_collection(monkeypatch):
    monkeypatch.setattr("bulkdl.sources.up42_storage.item_search.MAX_ITEMS_IN_COLLECTION", 1_500)
    client = ScriptedClient({"c": [item(f"i{number}", "c") for number in range(1_500)]})
    client.open.set()
    assert len((await ItemSearch(client).items("c")).items) == 1_500
    client.items_by_collection["c"].append(item("last", "c"))
    with pytest.raises(ApiError) as caught:
        await ItemSearch(client).items("c")
    assert caught.value.reason is Reason.TOO_LARGE


async def test_search_with_an_unreadable_item_of_a_known_collection_lists_no_other_alone():
    bad = UnreadableEntry("item", None, "bad", "c")
    client = ScriptedClient({"c": [item("i", "c"), bad], "d": [item("i", "d")]})
    client.open.set()
    search = ItemSearch(client)
    search.announce(["c", "d"])
    assert (await search.items("c")).problems == ["bad"]
    assert list((await search.items("d")).items) == ["i"]
    assert client.listed == []


async def test_client_lists_close_cleanly(storage_kit):
    url = "https://api.example/v2/assets?sort=createdAt,asc&size=100&page=0"
    storage_kit.api.get(url, body=json.dumps({"content": [{"id": "a"}, {"id": "b"}], "totalPages": 1}))
    async with aclosing(storage_kit.client().original_pages()) as pages:
        assert [entry.id for entry in await anext(pages)] == ["a", "b"]
