"""Tests of SegmentScheduler: each byte is assigned to exactly one connection."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bulkdl.transfer import segments
from bulkdl.transfer.segments import MIN_SEGMENT_BYTES, SegmentScheduler

MIB = 1 << 20


@given(
    total=st.integers(1, 300 * MIB),
    done=st.lists(st.tuples(st.integers(0, 300 * MIB), st.integers(1, 40 * MIB)), max_size=4),
    with_first=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_scheduler_with_connections_that_leave_assigns_each_byte_once(total, done, with_first, seed):
    rng = random.Random(seed)
    stored = _without_overlap([(start, min(start + size, total)) for start, size in done if start < total])
    scheduler = SegmentScheduler(total, stored)
    received = list(stored)
    active = []
    if with_first and not stored:
        active.append((scheduler.take_all(), 0))
    while scheduler.missing_bytes:
        if len(active) < 8:
            has_segment = scheduler.has_segment
            if (segment := scheduler.take()) is not None:
                active.append((segment, segment.offset))
            assert has_segment is (segment is not None)
        segment, start = active.pop(rng.randrange(len(active)))
        segment.offset += rng.choice([0, rng.randint(0, segment.remaining_bytes), segment.remaining_bytes])
        if rng.random() < 0.3:
            active.append((segment, start))
            continue
        received.append((start, segment.offset))
        scheduler.finish(segment)
    received += [(start, segment.offset) for segment, start in active]
    ranges = sorted(found for found in received if found[0] < found[1])
    assert ranges[0][0] == 0
    assert ranges[-1][1] == total
    assert all(first[1] == second[0] for first, second in pairwise(ranges))


def _without_overlap(ranges):
    accepted = []
    for start, end in sorted(ranges):
        if not accepted or start >= accepted[-1][1]:
            accepted.append((start, end))
    return accepted


def test_take_with_an_open_ended_segment_shortens_it_at_its_far_end():
    scheduler = SegmentScheduler(200 * MIB)
    first = scheduler.take_all()
    taken = [scheduler.take() for _ in range(3)]
    assert first.offset == 0
    assert first.end == min(segment.offset for segment in taken)
    assert {segment.end for segment in taken} >= {200 * MIB}


def test_take_without_a_free_segment_returns_half_of_the_longest(monkeypatch):
    monkeypatch.setattr(segments, "MIN_SEGMENT_BYTES", 2 * MIB)
    monkeypatch.setattr(segments, "_SEGMENT_SIZE_RANGE", (4 * MIB, 64 * MIB))
    scheduler = SegmentScheduler(8 * MIB)
    slow = scheduler.take()
    assert (slow.offset, slow.end) == (0, 4 * MIB)
    fast = scheduler.take()
    fast.offset = fast.end
    scheduler.finish(fast)
    half = scheduler.take()
    assert (slow.end, half.offset, half.end) == (2 * MIB, 2 * MIB, 4 * MIB)


def test_take_with_less_than_two_minimum_segments_left_returns_none():
    scheduler = SegmentScheduler(2 * MIN_SEGMENT_BYTES - 1)
    assert scheduler.take() is not None
    assert scheduler.take() is None
