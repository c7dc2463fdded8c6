"""Large and small item assets have one kind, and their sizes are known only from the responses."""

import asyncio

from pydantic import SecretStr

from bulkdl import Downloader, Settings
from bulkdl.graph import worker_slots
from bulkdl.models import Outcome
from bulkdl.settings import AccountCredentials, CredentialSet
from bulkdl.simulator import Faults, SimulatedAccount, Simulator, SimulatorOptions
from bulkdl.simulator.v2.deliveries import StorageOptions
from bulkdl.source_spec import kind_spec
from bulkdl.sources.up42_storage.spec import ASSET

LARGE_BYTES = 50_000
ACCOUNT = SimulatedAccount(storage=StorageOptions(assets=170, raster_bytes=(10_000, 80_000)))


def asset_sizes(simulator):
    """Return the sizes of all objects of the kind by asset ID."""
    return {
        file.asset_id: file.size_bytes
        for file in simulator.expected_files()
        if not file.is_original and all("data" in place.roles for place in file.places)
    }


def create_downloader(simulator, output):
    settings = Settings(
        api_url=simulator.api_url, output=output, source="storage", only=(ASSET,), rate=0, speed_time=3600
    )
    username, password = simulator.account_credentials
    account = AccountCredentials("account", username, SecretStr(password))
    return Downloader(settings, credentials=CredentialSet(accounts=(account,)))


async def test_run_with_large_bodies_that_do_not_end_downloads_all_small_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_slots, "LARGE_OUTPUT_BYTES", LARGE_BYTES)
    async with Simulator(ACCOUNT, SimulatorOptions()) as simulator:
        sizes = asset_sizes(simulator)
        large = {asset_id for asset_id, size in sizes.items() if size >= LARGE_BYTES}
        small = sizes.keys() - large
        # More than the workers of the pool of small outputs; each of them waits for a large output in turn.
        assert kind_spec(ASSET).concurrency.maximum < len(large) < 96, len(large)
        stalls = [
            {"fault": "stall", "at_byte": 0, "endpoint": "object", "path": f"*{asset_id}"}
            for asset_id in large
        ]
        simulator.faults = Faults.from_rules(*stalls)
        async with (
            asyncio.timeout(80),
            create_downloader(simulator, tmp_path / "out") as downloader,
            downloader.stream() as results,
        ):
            async for result in results:
                assert result.outcome is Outcome.COMPLETED
                asset_id = result.output.name.partition("/")[0]
                assert asset_id not in large
                small.discard(asset_id)
                if not small:
                    break
        assert not small
