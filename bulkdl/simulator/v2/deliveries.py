"""
Compute the storage of an account on demand: deliveries with originals, collections, items and item assets.

Delivery *k* is a pure function of (seed, k), as are jobs in ``account.py``. IDs contain the numbers of what
they identify, so that an ID is found without a table. See ``scenarios.py`` for what the numbers mean.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache

from bulkdl.simulator.geotiff import Bounds
from bulkdl.simulator.ids import IdKind, Ids, Index
from bulkdl.simulator.v2.item_assets import AssetFile, ItemAsset, create_item_assets, random_size
from bulkdl.simulator.v2.numbers import DeliveryNumbers
from bulkdl.simulator.v2.scenarios import (
    JOB_POSITIONS,
    ORDER_LENGTHS,
    PERIOD,
    DeliveryScenario,
    Extraction,
    create_scenario,
)

FIRST_DELIVERY_AT = datetime(2022, 1, 10, 6, 15, tzinfo=UTC)
LAST_DELIVERY_AT = datetime(2026, 10, 1, tzinfo=UTC)
_DELIVERIES_IN_FIRST_HALF = 50
WORKSPACES = 3
_PRODUCTS = (
    ("oneatlas", "airbus", "phr"),
    ("oneatlas", "airbus", "spot"),
    ("earthsearch-aws", "esa", "sentinel-2"),
    ("capellaspace", "capella", "capella-geo"),
)
_TITLES = ("Hamburg harbour", "Äcker/Nord 🛰️", "tile 07", None, None, "a b c")
_TAGS = (("optical",), ("optical", "2021"), (), None)


@dataclass(frozen=True)
class StorageOptions:
    """
    Size and state of the storage of an account.

    Attributes:
        assets: Number of originals. More originals add newer deliveries, which can belong to an order that
            was incomplete.
        items: Minimum and maximum number of items in a random delivery.
        item_assets: Minimum and maximum number of assets in an item of a random delivery, in addition to
            preview and metadata if the number permits it.
        raster_bytes: Minimum and maximum size of the rasters and originals.
        hostile_names: Content-Dispositions also have names that are not valid file names. STAC keys have them
            in any case, because they are in the scenarios.
        settled: Extractions and jobs in progress have finished, as if one day had passed.
        settled_at: When the jobs in progress have finished. None: when their results were created.
        deleted: IDs of deleted collections.
    """

    assets: int = 24
    items: tuple[int, int] = (1, 2)
    item_assets: tuple[int, int] = (2, 6)
    raster_bytes: tuple[int, int] = (2_000, 400_000)
    hostile_names: bool = False
    settled: bool = False
    settled_at: datetime | None = None
    deleted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Item:
    """One STAC item. *acquired_at* is not the time of the delivery."""

    id: str
    number: int
    title: str
    acquired_at: datetime
    bounds: Bounds
    assets: tuple[ItemAsset, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """
    One delivery: the result of an order or a processing job, or an uploaded file.

    Attributes:
        original: None if the delivery has item assets only.
        collection_id: None if the original is in no collection (yet).
        lists_original: The collection has the original as an asset.
        order_id: None for jobs, uploads and old outputs.
        source: ``ARCHIVE``, ``TASKING``, ``PROCESSING``, ``USER``, or None for old outputs.
    """

    number: int
    workspace_id: str
    created_at: datetime
    updated_at: datetime
    original: AssetFile | None
    extraction: Extraction
    collection_id: str | None
    lists_original: bool
    order_id: str | None
    job_id: str | None
    source: str | None
    host: str
    producer: str | None
    collection_name: str | None
    product_id: str | None
    name: str | None
    title: str | None
    tags: tuple[str, ...] | None
    content_type: str = ""


@dataclass(frozen=True)
class Deliveries:
    """The deliveries of one account. All listing is arithmetic, so memory does not grow with the account."""

    seed: int
    ids: Ids = field(compare=False)
    options: StorageOptions

    @cached_property
    def count(self) -> int:
        return DeliveryNumbers.count_for(self.has_original, self.options.assets)

    @cached_property
    def originals(self) -> DeliveryNumbers:
        return DeliveryNumbers(self.has_original, self.count, self._deleted)

    @cached_property
    def collections(self) -> DeliveryNumbers:
        return DeliveryNumbers(self.has_collection, self.count, self._deleted)

    @cached_property
    def orders(self) -> DeliveryNumbers:
        """Return the numbers of the first delivery of each order."""
        return DeliveryNumbers(lambda number: number % PERIOD in ORDER_LENGTHS, self.count)

    @cached_property
    def jobs(self) -> DeliveryNumbers:
        return DeliveryNumbers(lambda number: number % PERIOD in JOB_POSITIONS, self.count)

    def has_original(self, number: int) -> bool:
        return bool(self.scenario(number).suffix)

    def has_collection(self, number: int) -> bool:
        scenario = self.scenario(number)
        return scenario.has_collection and scenario.has_result

    def scenario(self, number: int) -> DeliveryScenario:
        return _create_scenario(self, number)

    def finished_at(self, number: int) -> datetime:
        """Return when the processing job with the result *number* has finished."""
        scenario = create_scenario(number, random.Random(f"{self.seed}/{number}/scenario"))
        settled_at = self.options.settled_at if scenario.job_status == "running" else None
        return settled_at or self.created_at(number)

    def created_at(self, number: int) -> datetime:
        share = number / (number + _DELIVERIES_IN_FIRST_HALF)
        return FIRST_DELIVERY_AT + (LAST_DELIVERY_AT - FIRST_DELIVERY_AT) * share

    @cached_property
    def account_id(self) -> str:
        return self.ids.encode(Index(IdKind.USER, part=1))

    def workspace_id(self, number: int) -> str:
        """Return the ID of workspace *number*. Workspace 0 is that of the user."""
        return self._workspace_ids[number]

    @cached_property
    def _workspace_ids(self) -> tuple[str, ...]:
        others = (Index(IdKind.WORKSPACE, number) for number in range(1, WORKSPACES))
        return tuple(map(self.ids.encode, (Index(IdKind.USER), *others)))

    @cached_property
    def product_ids(self) -> tuple[str, ...]:
        return tuple(self.ids.encode(Index(IdKind.PRODUCT, part=part)) for part in range(len(_PRODUCTS)))

    def original(self, number: int) -> AssetFile | None:
        return _create_original(self, number)

    def delivery(self, number: int) -> Delivery:
        return _create_delivery(self, number)

    def items(self, number: int) -> tuple[Item, ...]:
        """Return the items of delivery *number*."""
        return _create_items(self, number) if number in self.collections else ()

    def files(self, number: int) -> list[AssetFile]:
        """Return the files of delivery *number* that exist on this storage, without repetitions."""
        original = self.delivery(number).original
        files = {} if original is None else {original.id: original}
        for item in self.items(number):
            files.update({asset.file.id: asset.file for asset in item.assets if asset.file})
        return list(files.values())

    def find_asset(self, asset_id: str) -> tuple[Delivery, AssetFile] | None:
        """Return the delivery and the file of an original or an item asset."""
        index = self.ids.decode(asset_id)
        if index is None or index.kind not in {IdKind.ORIGINAL, IdKind.ITEM_ASSET}:
            return None
        if index.job not in self.originals and index.job not in self.collections:
            return None
        file = self._find_file(index, asset_id)
        return (self.delivery(index.job), file) if file else None

    def _find_file(self, index: Index, asset_id: str) -> AssetFile | None:
        if index.kind is IdKind.ORIGINAL:
            return self.original(index.job)
        for item in self.items(index.job):
            for asset in item.assets:
                if asset.file and asset.file.id == asset_id:
                    return asset.file
        return None

    def find(self, kind: IdKind, text: str) -> Index | None:
        """Return the index of *text* if it is an existing ID of *kind*."""
        index = self.ids.decode(text)
        return index if index and index.kind is kind and index.job < self.count else None

    def find_collection(self, collection_id: str) -> Delivery | None:
        index = self.find(IdKind.COLLECTION, collection_id)
        if index is None or index.job not in self.collections:
            return None
        return self.delivery(index.job)

    @cached_property
    def _deleted(self) -> frozenset[int]:
        decoded = map(self.ids.decode, self.options.deleted)
        return frozenset(index.job for index in decoded if index and index.kind is IdKind.COLLECTION)

    def collection_id(self, number: int) -> str:
        return self.ids.encode(Index(IdKind.COLLECTION, job=number))

    def order_id(self, number: int) -> str:
        return self.ids.encode(Index(IdKind.ORDER, job=number))

    def job_id(self, number: int) -> str:
        return self.ids.encode(Index(IdKind.PROCESSING_JOB, job=number))

    def iter_deliveries(self) -> Iterator[Delivery]:
        """Yield all existing deliveries, oldest first."""
        for number in range(self.count):
            if number in self.originals or number in self.collections:
                yield self.delivery(number)


def first_of_order(number: int) -> int | None:
    """Return the number of the first delivery of the order to which delivery *number* belongs."""
    position = number % PERIOD
    for first, length in ORDER_LENGTHS.items():
        if first <= position < first + length:
            return number - position + first
    return None


def order_numbers(first: int) -> range:
    """Return the delivery numbers of the order that starts with delivery *first*."""
    return range(first, first + ORDER_LENGTHS[first % PERIOD])


@lru_cache(maxsize=1_024)
def _create_scenario(deliveries: Deliveries, number: int) -> DeliveryScenario:
    scenario = create_scenario(number, random.Random(f"{deliveries.seed}/{number}/scenario"))
    return _as_settled(scenario) if deliveries.options.settled and not scenario.is_settled else scenario


@lru_cache(maxsize=1_024)
def _create_delivery(deliveries: Deliveries, number: int) -> Delivery:
    rng = random.Random(f"{deliveries.seed}/{number}/content")
    scenario = deliveries.scenario(number)
    created = deliveries.created_at(number)
    order = None if scenario.is_old else first_of_order(number)
    is_job = number % PERIOD in JOB_POSITIONS
    group = random.Random(f"{deliveries.seed}/group/{number if order is None else order}")
    product_number, workspace = group.randrange(len(_PRODUCTS)), group.randrange(WORKSPACES)
    host, producer, product = _PRODUCTS[product_number]
    original = deliveries.original(number)
    has_collection = number in deliveries.collections
    return Delivery(
        number=number,
        workspace_id=deliveries.workspace_id(workspace),
        created_at=created,
        updated_at=created + timedelta(seconds=97),
        original=original,
        extraction=scenario.extraction,
        collection_id=deliveries.collection_id(number) if has_collection else None,
        lists_original=scenario.lists_original,
        order_id=None if order is None else deliveries.order_id(order),
        job_id=deliveries.job_id(number) if is_job else None,
        source=_source(number, order, scenario),
        host=host,
        producer=None if scenario.is_old else producer,
        collection_name=None if scenario.is_old else product,
        product_id=None if scenario.is_old else deliveries.product_ids[product_number],
        name=None if scenario.has_no_name or original is None else original.name,
        title=rng.choice(_TITLES),
        tags=rng.choice(_TAGS),
        content_type=scenario.content_type,
    )


def _as_settled(scenario: DeliveryScenario) -> DeliveryScenario:
    return replace(scenario, extraction=Extraction.SUCCESSFUL, has_collection=True, job_status="successful")


def _source(number: int, order: int | None, scenario: DeliveryScenario) -> str | None:
    if scenario.is_old:
        return None
    if order is not None:
        return "TASKING" if ORDER_LENGTHS[order % PERIOD] > 1 else "ARCHIVE"
    return "PROCESSING" if number % PERIOD in JOB_POSITIONS else "USER"


@lru_cache(maxsize=1_024)
def _create_original(deliveries: Deliveries, number: int) -> AssetFile | None:
    suffix = deliveries.scenario(number).suffix
    if not suffix:
        return None
    rng = random.Random(f"{deliveries.seed}/{number}/original")
    first = first_of_order(number)
    group = random.Random(f"{deliveries.seed}/group/{number if first is None else first}")
    host = _PRODUCTS[group.randrange(len(_PRODUCTS))][0]
    label = f"delivery-{number}" if first is None else deliveries.order_id(first)
    return AssetFile(
        id=deliveries.ids.encode(Index(IdKind.ORIGINAL, job=number)),
        name=f"{host}_{label}.{suffix}",
        suffix=suffix,
        size_bytes=random_size(deliveries.options.raster_bytes, rng),
        bounds=_create_bounds(rng),
        key=f"{deliveries.seed}/{number}/original",
    )


@lru_cache(maxsize=1_024)
def _create_items(deliveries: Deliveries, number: int) -> tuple[Item, ...]:
    scenario, created = deliveries.scenario(number), deliveries.created_at(number)
    if scenario.extraction is Extraction.IN_PROGRESS:
        return ()
    rng = random.Random(f"{deliveries.seed}/{number}/items")
    count = rng.randint(*deliveries.options.items) if scenario.items is None else scenario.items
    original = deliveries.original(number)
    items = []
    for at in range(count):
        bounds = _create_bounds(rng)
        acquired = created - timedelta(seconds=rng.randrange(3_600, 900 * 86_400))
        index = Index(IdKind.ITEM, job=number, task=at)
        assets = create_item_assets(scenario.form, deliveries, index, original, bounds, rng)
        title = f"{deliveries.seed}_{number:06}_{at:02}"
        items.append(Item(deliveries.ids.encode(index), at, title, acquired, bounds, assets))
    return tuple(items)


def _create_bounds(rng: random.Random) -> Bounds:
    west, south = rng.randrange(-180 * 64, 178 * 64) / 64, rng.randrange(-60 * 64, 60 * 64) / 64
    return (west, south, west + 1 / 16, south + 1 / 32)
