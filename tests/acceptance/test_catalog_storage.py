"""The catalogue of the storage of an account, with hostile names and with failed outputs."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from bulkdl.simulator import SimulatedAccount, Simulator, SimulatorOptions
from bulkdl.simulator.v2.deliveries import StorageOptions
from support.storage_account import StorageAccount


def items_of(output: Path) -> list[tuple[Path, dict]]:
    paths = [path for path in (output / "catalog").glob("*/*/*.json") if path.name != "catalog.json"]
    return [(path, json.loads(path.read_bytes())) for path in paths]


async def test_run_with_catalog_describes_every_asset_of_the_storage(tmp_path):
    simulated = SimulatedAccount(storage=StorageOptions(assets=40, hostile_names=True))
    async with Simulator(simulated, SimulatorOptions()) as simulator:
        account = StorageAccount(tmp_path, simulator)
        result = await account.run("--unpack", "keep", "--catalog")
        assert result.code == 0, result
    # An archive with several names is unpacked below the item.
    archives = [
        path for path in account.files() if path.suffix in (".tgz", ".zip") and path.stat().st_nlink == 1
    ]
    assert {path.suffix for path in archives} == {".tgz", ".zip"}
    assert [path for path in archives if not path.with_name(f"{path.stem}_unpacked").is_dir()] == []
    items = items_of(account.output)
    linked = {
        (path.parent / asset["href"]).resolve() for path, item in items for asset in item["assets"].values()
    }
    assert all(path.is_file() for path in linked)
    identities = {(path.stat().st_dev, path.stat().st_ino) for path in linked}
    documents = {"collection.json", "delivery.json", "item.json", "asset.json", "data.json"}
    unlinked = [
        path
        for path in account.files()
        if path.name not in documents
        and "catalog" not in path.relative_to(account.output).parts
        and path.name != "index.html"
        and (path.stat().st_dev, path.stat().st_ino) not in identities
    ]
    digests = {path.read_bytes() for path in linked}
    assert [path for path in unlinked if path.read_bytes() not in digests] == []
    scenes = [item for _, item in items if item["geometry"] is not None]
    assert scenes
    assert all(item["properties"]["datetime"] for item in scenes if "eo:cloud_cover" in item["properties"])


async def test_failed_assets_are_entries_with_a_reason_and_a_hint(tmp_path):
    simulated = SimulatedAccount(storage=StorageOptions(assets=8))
    async with Simulator(simulated, SimulatorOptions()) as simulator:
        account = StorageAccount(tmp_path, simulator)
        result = await account.run("--retries", "0")
        assert result.code == 0, result
        with closing(sqlite3.connect(account.output / ".bulkdl/ledger.sqlite3")) as connection, connection:
            connection.execute(
                "UPDATE outputs SET state = 'failed', reason = 'forbidden', detail = 'HTTP 403', key = NULL,"
                " size_bytes = NULL, digest = NULL"
            )
        made = await account.bulkdl("catalog", "--format", "json")
        assert made.code == 0, made
    assert set(made.document["states"]) == {"failed"}
    for _, item in items_of(account.output):
        assert item["properties"]["up42:reason"] == "forbidden"
        assert item["properties"]["up42:hint"]
        assert item["assets"] == {}
