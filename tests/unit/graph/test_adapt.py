"""The controller of the pools, against made-up links: it climbs while that pays, and no further."""

from __future__ import annotations

import random

import pytest

from bulkdl.graph.autoscale import ConcurrencyController


def climb(link, *, least=1, most=32, start=4, ticks=400, trouble=lambda limit, tick: False):
    """The limits over time on a *link*: connections → rate."""
    made = ConcurrencyController(least, most, start)
    limits = []
    for tick in range(ticks):
        limits.append(made.limit)
        made.step(link(made.limit), made.limit, trouble=trouble(made.limit, tick))
    return limits


def per_connection(rate, capacity):
    return lambda connections: min(rate * connections, capacity)


@pytest.mark.parametrize("enough", [4, 8, 16, 32])
def test_a_link_that_gives_each_connection_little_gets_as_many_as_it_takes(enough):
    limits = climb(per_connection(4, 4 * enough), most=32)
    assert max(limits) >= enough
    assert sum(limits[200:]) / 200 <= 1.3 * enough + 1
    assert sum(limits[200:]) / 200 >= 0.9 * enough


def test_a_full_link_gets_no_more_for_long():
    limits = climb(lambda connections: 100)
    assert limits[0] == 4
    assert sum(limit > 4 for limit in limits) / len(limits) < 0.1


def test_a_bottleneck_that_suffers_from_crowds_is_not_crowded():
    limits = climb(lambda connections: 100 / connections)
    assert max(limits) == 8
    assert sum(limit > 5 for limit in limits) <= 2


def test_doubling_is_quick_where_it_pays():
    limits = climb(per_connection(4, 1000), start=1)
    assert limits.index(32) <= 16


def test_a_server_with_a_hard_cap_halves_it_at_once_and_is_not_provoked_often():
    limits = climb(
        per_connection(10, 1000), trouble=lambda limit, tick: limit > 10, start=4, most=32, ticks=1000
    )
    throttled = sum(limit > 10 for limit in limits)
    assert throttled / len(limits) < 0.05
    assert sum(limits[500:]) / 500 >= 4


def test_trouble_never_goes_below_the_least():
    limits = climb(per_connection(1, 10), least=3, start=8, trouble=lambda limit, tick: True)
    assert min(limits) == 3


@pytest.mark.parametrize("start", [8, 16, 32])
def test_a_crowd_that_is_of_no_use_is_thinned_out(start):
    limits = climb(per_connection(25, 100), start=start, ticks=1500)
    assert sum(limits[750:]) / 750 <= 6
    assert min(limits) >= 3


def test_the_least_is_where_the_way_up_begins():
    made = ConcurrencyController(1, 32, 4)
    for tick in range(200):
        made.step(1.0, made.limit, trouble=tick < 10)
    for _ in range(1000):
        made.step(4.0 * made.limit, made.limit, trouble=False)
    assert made.limit >= 10


def test_a_trial_that_nobody_takes_part_in_is_not_judged():
    made = ConcurrencyController(1, 32, 8)
    seen = set()
    for _ in range(300):
        made.step(4.0, min(made.limit, 8), trouble=False)
        seen.add(made.limit)
    assert 16 in seen
    assert made.limit <= 8


def test_a_trial_is_judged_by_what_comes_once_it_is_in_force():
    made = ConcurrencyController(1, 32, 4)
    made.step(40.0, 4, trouble=False)
    for in_use in (4, 5, 6, 7):
        assert made.step(40.0, in_use, trouble=False) == 8
    made.step(40.0, 8, trouble=False)
    assert made.step(80.0, 8, trouble=False) == 8
    assert made.step(80.0, 8, trouble=False) == 16


def test_what_is_not_used_is_no_reason_for_more():
    made = ConcurrencyController(1, 32, 4)
    for _ in range(100):
        made.step(0.0, 2, trouble=False)
    assert made.limit == 4


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_link_is_used_nearly_as_well_as_it_can_be(seed):
    dice = random.Random(seed)
    capacity = 12 * 4
    limits = climb(lambda connections: min(4 * connections, capacity) * dice.uniform(0.9, 1.1), ticks=2000)
    used = [min(4 * limit, capacity) / capacity for limit in limits[500:]]
    assert sum(used) / len(used) >= 0.8


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("start", [16, 64])
def test_chance_does_not_thin_out_a_pool(seed, start):
    """A tick in which fifty outputs end is off by a seventh, and sometimes by more."""
    dice = random.Random(seed)
    capacity = 50
    limits = climb(
        lambda connections: min(3 * connections, capacity) * max(0.0, dice.gauss(1, 0.2)),
        start=start,
        most=64,
        ticks=6000,
    )
    used = [min(3 * limit, capacity) / capacity for limit in limits[1000:]]
    assert sum(used) / len(used) >= 0.9
    assert min(used) >= 0.5


def test_two_climbers_share_a_bottleneck():
    one, two = ConcurrencyController(1, 32, 4), ConcurrencyController(1, 32, 4)
    for _ in range(1000):
        total = one.limit + two.limit
        rate = min(4 * total, 100)
        one.step(rate * one.limit / total, one.limit, trouble=total > 40)
        two.step(rate * two.limit / total, two.limit, trouble=total > 40)
    assert 10 <= one.limit + two.limit <= 40
