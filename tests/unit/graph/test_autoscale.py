"""ConcurrencyController against simulated connections: it raises the limit while the throughput grows."""

from __future__ import annotations

import random

import pytest

from bulkdl.graph.autoscale import ConcurrencyController


def run_controller(
    throughput, *, min_limit=1, max_limit=32, start=4, ticks=400, congested=lambda limit, tick: False
):
    """Return the limits over time. *throughput* returns the rate for a number of connections."""
    controller = ConcurrencyController(min_limit, max_limit, start)
    limits = []
    for tick in range(ticks):
        limits.append(controller.limit)
        controller.step(
            throughput(controller.limit), controller.limit, congested=congested(controller.limit, tick)
        )
    return limits


def per_connection(rate, capacity):
    return lambda connections: min(rate * connections, capacity)


@pytest.mark.parametrize("enough", [4, 8, 16, 32])
def test_controller_with_slow_connections_reaches_the_limit_that_fills_the_bandwidth(enough):
    limits = run_controller(per_connection(4, 4 * enough), max_limit=32)
    assert max(limits) >= enough
    assert sum(limits[200:]) / 200 <= 1.3 * enough + 1
    assert sum(limits[200:]) / 200 >= 0.9 * enough


def test_controller_with_full_bandwidth_keeps_the_limit():
    limits = run_controller(lambda connections: 100)
    assert limits[0] == 4
    assert sum(limit > 4 for limit in limits) / len(limits) < 0.1


def test_controller_with_falling_throughput_reverts_the_limit():
    limits = run_controller(lambda connections: 100 / connections)
    assert max(limits) == 8
    assert sum(limit > 5 for limit in limits) <= 2


def test_controller_with_growing_throughput_doubles_the_limit_quickly():
    limits = run_controller(per_connection(4, 1000), start=1)
    assert limits.index(32) <= 16


def test_controller_with_congestion_halves_the_limit_and_rarely_exceeds_it():
    limits = run_controller(
        per_connection(10, 1000), congested=lambda limit, tick: limit > 10, start=4, max_limit=32, ticks=1000
    )
    throttled = sum(limit > 10 for limit in limits)
    assert throttled / len(limits) < 0.05
    assert sum(limits[500:]) / 500 >= 4


def test_controller_with_congestion_keeps_the_minimum():
    limits = run_controller(per_connection(1, 10), min_limit=3, start=8, congested=lambda limit, tick: True)
    assert min(limits) == 3


@pytest.mark.parametrize("start", [8, 16, 32])
def test_controller_with_unused_connections_lowers_the_limit(start):
    limits = run_controller(per_connection(25, 100), start=start, ticks=1500)
    assert sum(limits[750:]) / 750 <= 6
    assert min(limits) >= 3


def test_controller_after_congestion_raises_the_limit_from_the_minimum():
    controller = ConcurrencyController(1, 32, 4)
    for tick in range(200):
        controller.step(1.0, controller.limit, congested=tick < 10)
    for _ in range(1000):
        controller.step(4.0 * controller.limit, controller.limit, congested=False)
    assert controller.limit >= 10


def test_controller_with_too_few_outputs_reverts_the_trial():
    controller = ConcurrencyController(1, 32, 8)
    limits = set()
    for _ in range(300):
        controller.step(4.0, min(controller.limit, 8), congested=False)
        limits.add(controller.limit)
    assert 16 in limits
    assert controller.limit <= 8


def test_controller_evaluates_a_trial_only_when_it_is_effective():
    controller = ConcurrencyController(1, 32, 4)
    controller.step(40.0, 4, congested=False)
    for in_use in (4, 5, 6, 7):
        assert controller.step(40.0, in_use, congested=False) == 8
    controller.step(40.0, 8, congested=False)
    assert controller.step(80.0, 8, congested=False) == 8
    assert controller.step(80.0, 8, congested=False) == 16


def test_controller_with_unused_permits_keeps_the_limit():
    controller = ConcurrencyController(1, 32, 4)
    for _ in range(100):
        controller.step(0.0, 2, congested=False)
    assert controller.limit == 4


@pytest.mark.parametrize("seed", range(5))
def test_controller_with_noise_uses_most_of_the_bandwidth(seed):
    rng = random.Random(seed)
    capacity = 12 * 4
    limits = run_controller(
        lambda connections: min(4 * connections, capacity) * rng.uniform(0.9, 1.1), ticks=2000
    )
    used = [min(4 * limit, capacity) / capacity for limit in limits[500:]]
    assert sum(used) / len(used) >= 0.8


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("start", [16, 64])
def test_controller_with_strong_noise_does_not_shrink_the_pool(seed, start):
    """The throughput of a tick in which fifty outputs end deviates by a seventh, sometimes by more."""
    rng = random.Random(seed)
    capacity = 50
    limits = run_controller(
        lambda connections: min(3 * connections, capacity) * max(0.0, rng.gauss(1, 0.2)),
        start=start,
        max_limit=64,
        ticks=6000,
    )
    used = [min(3 * limit, capacity) / capacity for limit in limits[1000:]]
    assert sum(used) / len(used) >= 0.9
    assert min(used) >= 0.5


def test_two_controllers_share_a_bottleneck():
    first, second = ConcurrencyController(1, 32, 4), ConcurrencyController(1, 32, 4)
    for _ in range(1000):
        total = first.limit + second.limit
        rate = min(4 * total, 100)
        first.step(rate * first.limit / total, first.limit, congested=total > 40)
        second.step(rate * second.limit / total, second.limit, congested=total > 40)
    assert 10 <= first.limit + second.limit <= 40
