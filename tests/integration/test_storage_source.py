"""The source of today's UP42 passes the conformance suite of sources, with the simulator as the provider."""

from contextlib import asynccontextmanager
from functools import partial

from pydantic import SecretStr

from bulkdl.models import ContainerRef, Output, Reason
from bulkdl.settings import AccountCredentials, CredentialSet, Settings
from bulkdl.simulator import Faults, SimulatedAccount, SimulatorOptions
from bulkdl.simulator.v2.deliveries import StorageOptions
from bulkdl.sources.interfaces import DocumentMissingError
from bulkdl.sources.registry import source_layout
from bulkdl.sources.up42_storage.source import SOURCE_TYPE
from bulkdl.testing.sources import ProviderSite, Scenario, SourceSuite
from support.simulator_thread import run_simulator, run_simulator_process

# The first thirty deliveries cover every scenario once. An item of the scenarios has hostile STAC keys.
STORAGES = {
    Scenario.PLAIN: StorageOptions(raster_bytes=(2_000, 5_000)),
    Scenario.HOSTILE_NAMES: StorageOptions(assets=60, raster_bytes=(2_000, 5_000), hostile_names=True),
    Scenario.DAMAGED: StorageOptions(assets=12, raster_bytes=(2_000, 5_000)),
    Scenario.SHIFTING: StorageOptions(raster_bytes=(2_000, 5_000)),
    Scenario.LARGE: StorageOptions(assets=2_500, raster_bytes=(2_000, 5_000)),
}
FAULTS = {
    Scenario.DAMAGED: [
        {"fault": "truncated_json", "probability": 0.1, "per": "all"},
        {"fault": "wrong_type", "probability": 0.1, "per": "all"},
    ],
    Scenario.SHIFTING: [{"fault": "delete_collections", "count": 1, "nth": [2, 3], "per": "all"}],
}
PAGE_SIZES = {Scenario.SHIFTING: 4, Scenario.PLAIN: 8}
PREVIEW_ROLES = {"thumbnail", "overview", "preview", "quicklook", "browse"}


def kind_of(file, place):
    """Return the kind of a file at *place* by the rules of docs/sources.md."""
    if file.is_original or "original" in place.roles:
        return "original"
    if PREVIEW_ROLES & set(place.roles):
        return "preview"
    return "metadata" if "metadata" in place.roles else "asset"


def storage_outputs(files):
    """Return *files* of the simulator by the outputs that the source has for them."""
    outputs = {}
    for file in files:
        container_id = file.collection_id or f"asset-{file.asset_id}"
        ref = ContainerRef("storage", file.workspace_id, container_id)
        for place in file.places:
            output = Output(ref, place.item_id or "", kind_of(file, place), file.asset_id)
            if output in outputs:  # the same asset with another key
                output = Output(ref, output.parent, output.kind, f"{file.asset_id}/{place.key}")
            outputs[output] = file
    return outputs


def read_stored(documents, key):
    if key not in documents:
        raise DocumentMissingError(Reason.INVALID_RESPONSE, key)
    return documents[key]


class TestStorageSource(SourceSuite):
    source_type = SOURCE_TYPE

    @asynccontextmanager
    async def serve(self, scenario):
        account = SimulatedAccount(storage=STORAGES[scenario])
        options = SimulatorOptions(page_size=PAGE_SIZES.get(scenario, 100))
        faults = Faults.from_rules(*FAULTS.get(scenario, []), seed=7)
        is_large = scenario is Scenario.LARGE
        running = (
            run_simulator_process(account, options) if is_large else run_simulator(account, options, faults)
        )
        with running as simulator:
            username, password = simulator.account_credentials
            settings = Settings(
                source="storage",
                api_url=simulator.api_url,
                rate=0,
                retries=1,
                retry_base_delay=0,
                retry_max_delay=0,
            )
            credentials = AccountCredentials("account", username, SecretStr(password))
            yield ProviderSite(
                settings,
                CredentialSet(accounts=(credentials,)),
                outputs=self.expected(scenario, simulator),
                containers=self.count_containers(scenario, simulator),
            )

    def test_original_without_delivery_document_is_rebuilt(self):
        async def run(site, source):
            layout = source_layout(self.source_type, site.settings)
            rebuilt = 0
            for container in await self._final_containers(source):
                listing = await source.list_outputs(container, self._kinds())
                key = next((key for key in listing.documents if key.endswith("/asset.json")), None)
                if key is None:
                    continue
                found = SOURCE_TYPE.parse_key(
                    key, {"workspace_id": container.ref.scope, "asset_id": container.ref.id[6:]}
                )
                only_asset = {key: listing.documents[key]}
                read = partial(read_stored, only_asset)
                again = SOURCE_TYPE.read_listing(found, layout.templates, read)
                assert again.container.ref == container.ref
                assert again.outputs == listing.outputs
                rebuilt += 1
            assert rebuilt > 2

        self._run(Scenario.PLAIN, run)

    def expected(self, scenario, simulator):
        if scenario is Scenario.LARGE:
            return {}
        outputs = storage_outputs(simulator.expected_files())
        if scenario is Scenario.SHIFTING:  # the oldest collections are deleted during the test
            collections = dict.fromkeys(output.container for output in outputs)
            oldest = [ref for ref in collections if not ref.id.startswith("asset-")][:2]
            outputs = {output: file for output, file in outputs.items() if output.container not in oldest}
        return {output: file.read() for output, file in outputs.items()}

    def count_containers(self, scenario, simulator):
        if scenario is not Scenario.PLAIN:
            return None
        return len({output.container for output in storage_outputs(simulator.expected_files())})
