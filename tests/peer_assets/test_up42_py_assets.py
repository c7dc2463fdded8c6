"""
Let the official client (up42-py 2.6.0) list and download the assets of the simulator.

This is the last series with ``/v2/assets`` and webhooks. The tests run in the environment of the client.
"""

import hashlib
import io
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import requests
import up42
from up42.http.oauth import WrongCredentials

from support.peer_storage import PASSWORD, USER, ExpectedStorage

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def read_archive(data: bytes) -> dict[str, bytes]:
    """Return the members of a ZIP or TAR archive without the directory ``output``."""
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name.removeprefix("output/"): archive.read(name) for name in archive.namelist()}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = [(member.name, tar.extractfile(member)) for member in tar if member.isfile()]
        return {name.removeprefix("output/"): file.read() for name, file in files if file}


def test_up42_py_wrong_password_is_rejected(storage: str) -> None:
    with pytest.raises(WrongCredentials):
        up42.authenticate(username=USER, password=PASSWORD + "x")


def test_up42_py_get_assets_lists_every_original(storage: str, expected: ExpectedStorage) -> None:
    assets = up42.initialize_storage().get_assets()
    assert len(assets) > 14, "more than one page"
    assert {asset.id for asset in assets} == set(expected.originals)
    stamps = [asset.created_at for asset in assets]
    assert stamps == sorted(stamps, reverse=True)
    assert {asset.id: asset.order_id for asset in assets} == {
        asset_id: file["order_id"] for asset_id, file in expected.originals.items()
    }
    assert all(up42.Asset.get(asset.id) == asset for asset in assets)


@pytest.mark.parametrize("name", ["name", "title", "size", "created_at", "updated_at", "source"])
def test_up42_py_asset_all_is_sorted(storage: str, name: str) -> None:
    field = getattr(up42.AssetSorting, name)
    values = [getattr(asset, name) for asset in up42.Asset.all(sort_by=field.asc)]
    if name != "size":
        values = [value or "" for value in values]
    assert values == sorted(values)


def test_up42_py_asset_all_filters(storage: str) -> None:
    assets = list(up42.Asset.all(sort_by=up42.AssetSorting.created_at.asc))
    assert [asset.id for asset in up42.Asset.all(sources=["USER"])] == [
        asset.id for asset in reversed(assets) if asset.source == "USER"
    ]
    workspace = assets[0].workspace_id
    assert {asset.id for asset in up42.Asset.all(workspace_id=workspace)} == {
        asset.id for asset in assets if asset.workspace_id == workspace
    }
    day = assets[10].created_at[:10]
    assert {asset.id for asset in up42.Asset.all(created_after=day)} == {
        asset.id for asset in assets if asset.created_at >= day
    }
    tagged = {asset.id for asset in up42.Asset.all(tags=["2021", "optical"])}
    assert tagged == {asset.id for asset in assets if {"2021", "optical"} & set(asset.tags or [])}


def test_up42_py_order_get_assets_are_those_of_the_order(storage: str, expected: ExpectedStorage) -> None:
    orders = list(up42.Order.all())
    assert len(orders) > 7, "more than one page"
    for order in orders:
        assert {asset.id for asset in order.get_assets()} == {
            asset_id for asset_id, file in expected.originals.items() if file["order_id"] == order.id
        }


def test_up42_py_and_bulkdl_download_the_same_originals(
    storage: str, expected: ExpectedStorage, bulkdl_files: Counter[str], tmp_path: Path
) -> None:
    assets = list(up42.Asset.all())
    unpacked = 0
    for asset in assets:
        (path,) = asset.download(tmp_path / asset.id, unpacking=False)
        data = Path(path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == expected.checksums[asset.id]
        assert expected.checksums[asset.id] in bulkdl_files
        assert len(data) == asset.size
        assert Path(path).name == expected.originals[asset.id]["name"]
        if path.endswith((".zip", ".tgz")):
            folder = tmp_path / f"{asset.id}-unpacked"
            found = {Path(each).relative_to(folder).as_posix() for each in asset.download(folder)}
            members = read_archive(data)
            assert {name: (folder / name).read_bytes() for name in found} == members
            unpacked += 1
    assert unpacked > 20


def test_up42_py_finds_the_stac_items_of_an_asset(storage: str, expected: ExpectedStorage) -> None:
    file = next(
        file
        for file in expected.originals.values()
        if any(place["item_id"] for place in file["places"]) and file["collection_id"]
    )
    asset = up42.Asset.get(file["asset_id"])
    assert {item.collection_id for item in asset.stac_items} == {file["collection_id"]}
    assert asset.stac_info.id == file["collection_id"]


def test_up42_py_changes_an_asset(own_storage: str) -> None:
    asset = next(up42.Asset.all())
    asset.update_metadata(title="another title", tags=["new"])
    again = up42.Asset.get(asset.id)
    assert (again.title, again.tags) == ("another title", ["new"])


def test_up42_py_registers_changes_and_deletes_a_webhook(own_storage: str) -> None:
    assert {event["name"] for event in up42.Webhook.get_webhook_events()} == {"order.status", "job.status"}
    webhook = up42.Webhook(url="http://127.0.0.1:1/x", name="mine", events=["order.status"], secret="s")
    webhook.save()
    assert webhook.id
    assert up42.Webhook.all() == [webhook]
    webhook.active = True
    webhook.save()
    assert up42.Webhook.get(webhook.id).active
    report = webhook.trigger_test_events()
    assert (report["testsRun"], report["testsFailed"]) == (1, 1)
    webhook.delete()
    assert up42.Webhook.all() == []
    with pytest.raises(requests.HTTPError):
        up42.Webhook.get(webhook.id)
