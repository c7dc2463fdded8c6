"""
Let the official client (up42-py 4.3.0) list and download the storage of the simulator.

This version finds everything through STAC. The tests run in the environment of the client.
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests
import up42
from up42.http.oauth import WrongCredentials

from support.peer_storage import PASSWORD, USER, ExpectedStorage, log_in, serve_storage


def asset_id_of(href: str) -> str:
    return href.removesuffix("/download-url").rpartition("/")[2]


def equals(name: str, value: Any) -> dict[str, Any]:
    return {"op": "=", "args": [{"property": name}, value]}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_up42_py_wrong_password_is_rejected(storage: str) -> None:
    with pytest.raises(WrongCredentials):
        up42.authenticate(username=USER, password=PASSWORD + "x")


def test_up42_py_logs_in_again_when_its_token_has_expired() -> None:
    # The client renews 30 seconds before the end, so a token of one second is expired at once.
    with serve_storage("--token-lifetime", "1") as url:
        log_in(url)
        assert len(list(up42.stac_client().get_collections())) > 14


def test_up42_py_collections_are_complete(storage: str, expected: ExpectedStorage) -> None:
    collections = list(up42.stac_client().get_collections())
    assert len(collections) > 14, "more than one page"
    ids = [collection.id for collection in collections]
    assert len(set(ids)) == len(ids)
    assert set(ids) >= {file["collection_id"] for file in expected.files} - {None}
    for collection in collections:
        assert collection.up42.account_id
        assert collection.up42.workspace_id
        for asset in collection.assets.values():
            assert asset.roles == ["data", "original"]
            assert asset_id_of(asset.href) == collection.up42.asset_id


def test_up42_py_items_have_the_expected_keys(storage: str, expected: ExpectedStorage) -> None:
    client = up42.stac_client()
    items = [item for collection in client.get_collections() for item in collection.get_items()]
    found = Counter(
        (item.id, key, asset_id_of(asset.href))
        for item in items
        for key, asset in item.assets.items()
        if asset.href not in expected.foreign
    )
    assert found == Counter(
        (place["item_id"], place["key"], file["asset_id"])
        for file in expected.files
        for place in file["places"]
        if place["item_id"]
    )
    assert sorted(item.id for item in client.search().items()) == sorted(item.id for item in items)
    assert all(item.get_collection().id == item.collection_id for item in items[:3])


@pytest.mark.parametrize("name", ["order_id", "job_id", "asset_id", "workspace_id", "collection_name"])
def test_up42_py_search_selects_by_a_property(storage: str, name: str) -> None:
    client = up42.stac_client()
    everything = list(client.search().items())
    for value in {getattr(item.up42, name) for item in everything} - {None}:
        found = client.search(filter=equals(name, value)).items()
        assert {item.id for item in found} == {
            item.id for item in everything if getattr(item.up42, name) == value
        }


def test_up42_py_search_combines_conditions(storage: str) -> None:
    client = up42.stac_client()
    item = next(iter(client.search().items()))
    both = {
        "op": "and",
        "args": [equals("workspace_id", item.up42.workspace_id), equals("collection", item.collection_id)],
    }
    found = list(client.search(filter=both).items())
    assert item.id in {one.id for one in found}
    assert {one.collection_id for one in found} == {item.collection_id}


def test_up42_py_and_bulkdl_download_the_same_files_of_stac(
    storage: str, expected: ExpectedStorage, bulkdl_files: Counter[str], tmp_path: Path
) -> None:
    client = up42.stac_client()
    entries = [*client.get_collections(), *client.search().items()]
    seen, foreign, files = set(), [], Counter[str]()
    for number, entry in enumerate(entries):
        for place, asset in enumerate(entry.assets.values()):
            if asset.href in expected.foreign:
                assert asset.file is None
                foreign.append(asset.href)
                continue
            folder = tmp_path / f"{number}-{place}"  # keys and names repeat
            folder.mkdir()
            path = asset.file.download(folder)
            files[sha256(path)] += 1
            assert sha256(path) == expected.checksums[asset_id_of(asset.href)]
            seen.add(asset_id_of(asset.href))
    assert foreign == expected.foreign
    missing = {file["asset_id"] for file in expected.files} - seen
    assert missing
    assert missing <= set(expected.originals), "only originals that STAC does not list"
    # bulkdl also has the originals that the collections do not list.
    assert files < bulkdl_files
    assert set(bulkdl_files) - set(files) == {expected.checksums[asset_id] for asset_id in missing}


def test_up42_py_saves_under_the_name_of_the_disposition(
    storage: str, expected: ExpectedStorage, tmp_path: Path
) -> None:
    names = {file["asset_id"]: file["name"] for file in expected.files}
    for collection in up42.stac_client().get_collections():
        for asset in collection.assets.values():
            assert asset.file.download(tmp_path).name == names[asset_id_of(asset.href)]


def test_up42_py_jobs_are_complete_and_link_their_collections(storage: str) -> None:
    jobs = list(up42.Job.all(page_size=2))
    assert len({job.id for job in jobs}) == len(jobs) == 5
    statuses = {job.status.value for job in jobs}
    assert statuses == {"successful", "captured", "failed", "running"}
    for job in jobs:
        assert up42.Job.get(job.id) == job
        if job.status.value in {"successful", "captured"}:
            assert job.collection.up42.job_id == job.id
        else:
            assert job.collection is None
    failed = list(up42.Job.all(status=[up42.JobStatus.FAILED]))
    assert [job.status.value for job in failed] == ["failed"]
    assert failed[0].errors
    oldest = list(up42.Job.all(sort_by=up42.JobSorting.created.asc))
    assert [job.id for job in oldest] == [job.id for job in jobs][::-1]


def test_up42_py_orders_are_complete(storage: str, expected: ExpectedStorage) -> None:
    orders = list(up42.Order.all())
    assert len({order.id for order in orders}) == len(orders) > 7, "more than one page"
    assert {file["order_id"] for file in expected.files} - {None} <= {order.id for order in orders}
    assert {order.type for order in orders} == {"ARCHIVE", "TASKING"}
    assert {order.status for order in orders} == {"FULFILLED", "BEING_FULFILLED"}
    assert all(up42.Order.get(order.id) == order for order in orders)
    growing = list(up42.Order.all(status=["BEING_FULFILLED"], sort_by=up42.OrderSorting.created_at.desc))
    assert {order.status for order in growing} == {"BEING_FULFILLED"}


def test_up42_py_changes_an_item(own_storage: str) -> None:
    client = up42.stac_client()
    item = next(iter(client.search().items()))
    item.up42.title = "another title"
    item.update()
    again = next(iter(client.search(ids=[item.id]).items()))
    assert again.up42.title == "another title"


def test_up42_py_deletes_a_collection(own_storage: str) -> None:
    client = up42.stac_client()
    item = next(item for item in client.search().items() if len(item.assets) > 3)
    collection = item.get_collection()
    up42.BulkDeletion(*(one.id for one in collection.get_items())).delete()
    assert collection.id not in {one.id for one in up42.stac_client().get_collections()}
    with pytest.raises(requests.HTTPError):
        _ = next(iter(item.assets.values())).file
