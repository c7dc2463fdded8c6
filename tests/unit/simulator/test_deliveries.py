from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.simulator import SimulatedAccount, StorageOptions
from bulkdl.simulator.ids import IdKind
from bulkdl.simulator.v2.deliveries import Deliveries, first_of_order, order_numbers
from bulkdl.simulator.v2.documents import order_status
from bulkdl.simulator.v2.numbers import DeliveryNumbers
from bulkdl.simulator.v2.scenarios import PERIOD, SCENARIOS, Extraction

HEAD = len(SCENARIOS)


def deliveries_of(assets: int = 24, seed: int = 1, **options: object) -> Deliveries:
    return SimulatedAccount(seed=seed, storage=StorageOptions(assets=assets, **options)).deliveries  # type: ignore[arg-type]


@given(
    st.sets(st.integers(0, HEAD - 1)),
    st.sets(st.integers(0, PERIOD - 1)),
    st.integers(0, 120),
    st.sets(st.integers(0, 130)),
)
def test_delivery_numbers_equal_a_filtered_range(
    head: set[int], positions: set[int], count: int, excluded: set[int]
) -> None:
    def has(number: int) -> bool:
        return number in head if number < HEAD else (number - HEAD) % PERIOD in positions

    numbers = DeliveryNumbers(has, count, excluded)
    expected = [number for number in range(count) if has(number) and number not in excluded]
    assert len(numbers) == len(expected)
    assert list(numbers) == expected
    assert numbers[1:-1:2] == expected[1:-1:2]
    assert [number for number in range(-5, count + 20) if number in numbers] == expected
    assert list(numbers.newest_first()) == expected[::-1]
    assert list(numbers.newest_first(7)) == [number for number in expected[::-1] if number < 7]
    if expected:
        assert numbers[-1] == expected[-1]
    with pytest.raises(IndexError):
        numbers[len(expected)]


@pytest.mark.parametrize("assets", [0, 1, 5, 24, 25, 30, 100, 300_000])
def test_storage_has_the_requested_number_of_assets(assets: int) -> None:
    deliveries = deliveries_of(assets)
    assert len(deliveries.originals) == assets
    assert assets == 0 or deliveries.originals[-1] == deliveries.count - 1


def test_deliveries_depend_on_the_seed_only() -> None:
    one, again, other = (list(deliveries_of(60, seed).iter_deliveries()) for seed in (1, 1, 2))
    assert one == again
    assert {each.original for each in one if each.original}.isdisjoint(each.original for each in other)


def test_larger_storage_starts_with_the_same_deliveries() -> None:
    small, large = deliveries_of(40), deliveries_of(400)
    for delivery in small.iter_deliveries():
        assert large.delivery(delivery.number) == delivery
        assert large.items(delivery.number) == small.items(delivery.number)


def test_creation_time_increases_with_the_delivery_number() -> None:
    deliveries = deliveries_of(300_000)
    stamps = [deliveries.created_at(number) for number in (*range(60), 1_000, 299_998, 299_999)]
    assert all(earlier < later for earlier, later in pairwise(stamps))


def test_items_are_acquired_before_the_delivery_and_not_in_its_order() -> None:
    deliveries = deliveries_of(100)
    acquired = []
    for delivery in deliveries.iter_deliveries():
        for item in deliveries.items(delivery.number):
            assert item.acquired_at < delivery.created_at
            acquired.append(item.acquired_at)
    assert acquired != sorted(acquired)


def test_find_asset_finds_every_file_and_no_other_id() -> None:
    deliveries = deliveries_of(60)
    ids = set()
    for delivery in deliveries.iter_deliveries():
        for file in deliveries.files(delivery.number):
            assert deliveries.find_asset(file.id) == (delivery, file)
            ids.add(file.id)
        if delivery.collection_id:
            assert deliveries.find_collection(delivery.collection_id) == delivery
            assert deliveries.find_asset(delivery.collection_id) is None
    assert len(ids) == len(
        {file.id for each in deliveries.iter_deliveries() for file in deliveries.files(each.number)}
    )
    newest = deliveries_of(61).originals[-1]
    unborn = deliveries_of(61).original(newest)
    assert unborn
    assert deliveries.find_asset(unborn.id) is None
    assert deliveries.find_asset("x") is deliveries.find_collection("x") is None
    assert next(iter(ids)).upper() not in ids
    assert deliveries.find_asset(next(iter(ids)).upper()) is None


@pytest.mark.parametrize("number", range(60))
def test_order_numbers_contain_exactly_the_deliveries_of_the_order(number: int) -> None:
    first = first_of_order(number)
    if first is not None:
        assert number in order_numbers(first)
        assert all(first_of_order(other) == first for other in order_numbers(first))
        assert first_of_order(first - 1) != first


def test_order_ids_of_deliveries_decode_to_the_order() -> None:
    deliveries = deliveries_of(100)
    for delivery in deliveries.iter_deliveries():
        if delivery.order_id:
            index = deliveries.find(IdKind.ORDER, delivery.order_id)
            assert index
            assert delivery.number in order_numbers(index.job)


def test_default_storage_ends_inside_an_order_that_the_next_asset_completes() -> None:
    deliveries, grown = deliveries_of(24), deliveries_of(25)
    last = deliveries.orders[-1]
    assert order_status(deliveries, last) == "BEING_FULFILLED"
    assert order_status(grown, last) == "FULFILLED"


def test_settled_storage_has_nothing_in_progress() -> None:
    before, after = deliveries_of(), deliveries_of(settled=True)
    assert {each.extraction for each in after.iter_deliveries()} == {
        Extraction.SUCCESSFUL, Extraction.FAILED, Extraction.NOT_PROCESSED,
    }  # fmt: skip
    assert set(before.collections) < set(after.collections)
    for number in before.collections:
        if before.delivery(number).extraction is not Extraction.IN_PROGRESS:
            assert after.items(number) == before.items(number)


def test_deleted_collection_has_no_asset() -> None:
    deliveries = deliveries_of()
    victim = deliveries.delivery(0)
    assert victim.original
    options = replace(deliveries.options, deleted=frozenset({str(victim.collection_id)}))
    after = replace(deliveries, options=options)
    assert after.find_asset(victim.original.id) is None
    assert victim.number not in {each.number for each in after.iter_deliveries()}


def test_random_deliveries_have_the_requested_sizes() -> None:
    deliveries = deliveries_of(200, items=(3, 3), item_assets=(1, 1), raster_bytes=(5_000, 5_000))
    counts = set()
    for number in range(HEAD, deliveries.count):
        items = deliveries.items(number)
        if items and items[0].assets[0].key != "data":
            counts.add(len(items))
            assert {len(item.assets) for item in items} == {1}
            assert {asset.file.size_bytes for item in items for asset in item.assets if asset.file} == {5_000}
    assert counts == {3}
